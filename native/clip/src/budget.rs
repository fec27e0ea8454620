//! What one decode may still spend: memory, reads, processor time, and its caller's patience.
//!
//! Limits on a picture's size bound neither the work nor the memory of a decoder: a file can name the
//! same bytes over and over, or hold tables larger than its pixels. So every decoder gets a
//! [`Budget`], reserves its memory there before it allocates, and reads through [`Budget::reader`],
//! which ends the decode once the time is up or nobody waits for it any more.

mod reader;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use self::reader::Reader;
use crate::error::{Error, ErrorKind, Limit, Remedy, Result};
use crate::limits::Limits;

/// How many times its own length a decoder may read a file, and what it may read of a small one. No
/// decoder here needs more than two passes.
const MAX_PASSES: u64 = 4;
const MIN_READ: u64 = 1 << 16;

/// A clock is read once for so many bytes.
const CHECK_BYTES: u64 = 1 << 15;

/// Memory that several decodes share.
#[derive(Debug)]
pub struct Memory {
    max: u64,
    used: AtomicU64,
}

impl Memory {
    /// All decodes together may hold `max` bytes. One that needs more has to run alone.
    pub const fn new(max: u64) -> Self {
        Self { max, used: AtomicU64::new(0) }
    }

    /// Bytes that are reserved now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Acquire)
    }

    fn acquire(&self, bytes: u64) -> Result<()> {
        let fits = |used: u64| {
            let after = used.saturating_add(bytes);
            (used == 0 || after <= self.max).then_some(after)
        };
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        taken.map(drop).map_err(|used| {
            let message = format!(
                "picture takes {bytes} bytes of memory to decode, and others hold {used} of {} \
                bytes; try again later",
                self.max
            );
            Error::new(ErrorKind::Busy, message)
        })
    }

    fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// What one decode may still spend. It belongs to the thread that decodes.
pub struct Budget<'a> {
    limits: Limits,
    deadline: Option<Instant>,
    wanted: Option<&'a dyn Fn() -> bool>,
    memory: Option<&'a Memory>,
    reserved: Cell<u64>,
    began: Duration,
    read: Cell<u64>,
    unchecked: Cell<u64>,
    refusal: RefCell<Option<Error>>,
}

impl std::fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Default for Budget<'_> {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl<'a> Budget<'a> {
    /// A budget of `limits`, whose processor time begins to count now, on this thread.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            deadline: None,
            wanted: None,
            memory: None,
            reserved: Cell::new(0),
            began: processor_time(),
            read: Cell::new(0),
            unchecked: Cell::new(0),
            refusal: RefCell::new(None),
        }
    }

    /// Ends the decode at `deadline`, with the kind `Timeout`.
    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Ends the decode when `wanted` becomes false, with the kind `Timeout`.
    #[must_use]
    pub fn while_wanted(mut self, wanted: &'a dyn Fn() -> bool) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// Takes the memory from what all decodes share.
    #[must_use]
    pub fn sharing(mut self, memory: &'a Memory) -> Self {
        self.memory = Some(memory);
        self
    }

    /// What the picture may cost.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reserves memory, in bytes, before it is allocated; all that is reserved is given back when
    /// the budget is dropped. What fails as busy may be begun anew, so reserve early.
    ///
    /// # Errors
    /// `ImageTooLarge` when all together is over `max_decode_bytes`, `Busy` when other decodes hold
    /// too much.
    pub fn reserve(&self, bytes: u64) -> Result<()> {
        let all = self.reserved.get().saturating_add(bytes);
        self.limits.check_decode_bytes(all)?;
        if let Some(memory) = self.memory {
            memory.acquire(bytes)?;
        }
        self.reserved.set(all);
        Ok(())
    }

    /// Whether to go on. To be called by work that reads nothing, every few milliseconds.
    ///
    /// # Errors
    /// `Timeout` past the deadline or when nobody waits any more, `ImageTooLarge` over
    /// `max_decode_time`.
    pub fn check(&self) -> Result<()> {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.wanted.is_some_and(|wanted| !wanted()) {
            let message = "the time limit of the call was reached while its picture was decoded; \
                send a smaller one or";
            return Err(Error::new(ErrorKind::Timeout, message).with_remedy(Remedy::MoreTime));
        }
        if processor_time().saturating_sub(self.began) > self.limits.max_decode_time {
            let message = format!(
                "picture took {} ms of processor time and was not decoded yet, the limit; resize \
                it or save it as a plain JPEG or PNG, or",
                self.limits.max_decode_time.as_millis()
            );
            let error = Error::new(ErrorKind::ImageTooLarge, message);
            return Err(error.with_remedy(Remedy::Raise(Limit::DecodeTime)));
        }
        Ok(())
    }

    /// Counts `bytes` that were read or written, and asks [`check`](Self::check) once for many of
    /// them. To be called for each piece of work, however small: a look at the clock may cost more
    /// than a piece.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn work(&self, bytes: usize) -> Result<()> {
        let unchecked = self.unchecked.get() + bytes as u64;
        if unchecked < CHECK_BYTES {
            self.unchecked.set(unchecked);
            return Ok(());
        }
        self.unchecked.set(0);
        self.check()
    }

    /// Counts `bytes` of a file of `len` bytes as read, as often as they are.
    ///
    /// # Errors
    /// `InvalidImage` when that adds up to several times the file.
    pub fn charge_read(&self, bytes: u64, len: u64) -> Result<()> {
        let read = self.read.get().saturating_add(bytes);
        self.read.set(read);
        let most = MAX_PASSES.saturating_mul(len).max(MIN_READ);
        if read <= most {
            return Ok(());
        }
        let message = format!(
            "picture of {len} bytes names the same bytes again and again: decoding it would read \
            more than {most} bytes"
        );
        Err(Error::new(ErrorKind::InvalidImage, message))
    }

    /// Reads `bytes`, the whole file, and ends with an error once the budget is spent.
    /// [`refusal`](Self::refusal) then tells why.
    pub fn reader<'b>(&'b self, bytes: &'b [u8]) -> Reader<'b> {
        Reader::new(bytes, self)
    }

    /// Why a [`reader`](Self::reader) refused to go on, if it did: decoders turn its error into one
    /// of their own.
    pub fn refusal(&self) -> Option<Error> {
        self.refusal.take()
    }
}

impl Drop for Budget<'_> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory {
            memory.release(self.reserved.get());
        }
    }
}

/// Time that this thread has had on a processor; where the system does not say, time that passed.
fn processor_time() -> Duration {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        START.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::default()
    }

    #[test]
    fn a_decode_that_nobody_waits_for_ends() {
        let wanted = Cell::new(true);
        let asked = || wanted.get();
        let budget = Budget::new(limits()).while_wanted(&asked);
        budget.check().unwrap();
        wanted.set(false);
        assert_eq!(budget.check().unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[test]
    fn small_pieces_of_work_share_a_look_at_the_clock() {
        let looks = Cell::new(0);
        let wanted = || {
            looks.set(looks.get() + 1);
            true
        };
        let budget = Budget::new(limits()).while_wanted(&wanted);
        for _ in 0..10 * CHECK_BYTES {
            budget.work(1).unwrap();
        }
        assert_eq!(looks.get(), 10);
        budget.work(CHECK_BYTES as usize).unwrap();
        assert_eq!(looks.get(), 11);
    }

    #[test]
    fn processor_time_is_bounded() {
        let max_decode_time = Duration::from_millis(20);
        let budget = Budget::new(Limits { max_decode_time, ..limits() });
        std::thread::sleep(2 * max_decode_time);
        budget.check().unwrap();
        let error = (0..1_000_000_000u64).find_map(|_| budget.check().err()).unwrap();
        assert_eq!(error.kind(), ErrorKind::ImageTooLarge);
        assert!(error.to_string().starts_with("picture took 20 ms of processor time"), "{error}");
    }

    #[test]
    fn memory_over_the_limit_is_refused_with_the_figure() {
        let budget = Budget::new(Limits { max_decode_bytes: 1000, ..limits() });
        let error = budget.reserve(1001).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ImageTooLarge);
        assert!(error.to_string().contains("1001 bytes"), "{error}");
    }

    #[test]
    fn memory_that_others_hold_is_not_there() {
        let memory = Memory::new(100);
        let first = Budget::default().sharing(&memory);
        first.reserve(60).unwrap();
        first.reserve(10).unwrap();
        let second = Budget::default().sharing(&memory);
        let error = second.reserve(60).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.to_string().contains("others hold 70 of 100 bytes"), "{error}");
        second.reserve(30).unwrap();
        drop(first);
        assert_eq!(memory.used(), 30);
        drop(second);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_decode_larger_than_all_memory_runs_alone() {
        let memory = Memory::new(100);
        let alone = Budget::default().sharing(&memory);
        alone.reserve(500).unwrap();
        assert_eq!(memory.used(), 500);
    }
}
