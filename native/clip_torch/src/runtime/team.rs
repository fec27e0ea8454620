//! The threads that compute a pass together, of all models of the process.
//!
//! For one picture or some labels, a team of OpenMP threads divides each of some hundred operations. As long as such a
//! pass takes, the team spins until its next part comes: to wake a thread takes as long as a part, and one thread alone
//! would be faster (bench/README.md). But libgomp lets no team spin while the process has more threads in teams than
//! cores. So nothing else here has a team, and models with as many threads share one. Who finds it at work does not
//! wait for another model's pass, but computes with one thread.
//!
//! Where others want the cores, a team can be slower than one thread alone: each operation ends when the last member
//! had a core. So a team whose members waited too long rests for some passes, and longer each time.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::delay::Delays;
use crate::runtime::queue::Queue;
use crate::runtime::settings::{no_thread, thread, with_threads};

/// How much a member of a team does of what a thread does alone. 0.5 to 0.75 was measured for two members: parts
/// differ, and some operations are not divided.
const SHARE: f64 = 0.7;

/// Passes of a rest, the first and the longest.
const MIN_REST: u32 = 4;
const MAX_REST: u32 = 64;

type Pass = Box<dyn FnOnce() + Send>;

/// A handle on a team, which ends with the last handle.
#[derive(Debug)]
pub(crate) struct Team {
    passes: Arc<Queue<Pass>>,
    threads: usize,
    delays: Arc<Delays>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    at_work: bool,
    rest: Rest,
}

/// The right to the team's next pass.
pub(crate) struct Turn<'a>(&'a Team);

/// Those that there are, by their number of threads.
static TEAMS: Mutex<Vec<(usize, Weak<Team>)>> = Mutex::new(Vec::new());

impl Team {
    /// The team of so many threads, which is started if there is none.
    pub(crate) fn of(threads: usize) -> Result<Arc<Self>> {
        let mut teams = TEAMS.lock().unwrap_or_else(PoisonError::into_inner);
        teams.retain(|(_, team)| team.strong_count() > 0);
        let same = teams.iter().find(|(of, _)| *of == threads);
        if let Some(team) = same.and_then(|(_, team)| team.upgrade()) {
            return Ok(team);
        }
        let team = Arc::new(Self::start(threads)?);
        teams.push((threads, Arc::downgrade(&team)));
        Ok(team)
    }

    fn start(threads: usize) -> Result<Self> {
        // OpenMP's have the name of the thread that starts them.
        let name = format!("clip-team-{threads}");
        let passes = Arc::new(Queue::<Pass>::new());
        let (begun, has_begun) = channel();
        let queue = Arc::clone(&passes);
        let serve = move || {
            crate::runtime::exit::enter();
            with_threads(threads, || {
                // If it fails, the first pass begins.
                let _ = guarded("beginning", ErrorKind::Internal, || begin(threads));
                crate::runtime::exit::prepare();
                let _ = begun.send(());
                while let Some(pass) = queue.pop() {
                    pass();
                }
            });
            // What comes now gets an error at once instead of no answer.
            queue.close();
            crate::runtime::exit::leave();
        };
        try_threads(threads)?;
        thread().name(name.clone()).spawn(serve).map_err(no_thread)?;
        // Then the number of threads does not grow any more.
        has_begun.recv().map_err(|_| ended())?;
        let delays = Arc::new(Delays::of(&name));
        Ok(Self { passes, threads, delays, state: Mutex::default() })
    }

    /// Nothing while the team is at work or rests.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        let mut state = self.state();
        if state.at_work || state.rest.takes() {
            return None;
        }
        state.at_work = true;
        Some(Turn(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Runs a pass and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        self,
        pass: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = channel();
        let delays = Arc::clone(&self.0.delays);
        let pass = move || {
            let (before, begin) = (delays.read(), Instant::now());
            let result = guarded("inference", ErrorKind::Internal, pass);
            let (took, after) = (begin.elapsed(), delays.read());
            let waited =
                after.iter().zip(before).map(|(after, before)| after.saturating_sub(before));
            let _ = reply.send((result, took, waited.max().unwrap_or_default()));
        };
        self.0.passes.push(Box::new(pass)).map_err(|_| ended())?;
        let (result, took, waited) = answer.recv().map_err(|_| ended())?;
        self.0.state().rest.after_pass(pays(self.0.threads, took, waited));
        result
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().at_work = false;
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.passes.close();
    }
}

/// When the team computes nothing because others want the cores.
#[derive(Debug, Default)]
struct Rest {
    /// Passes until its end.
    left: u32,
    /// Passes of the last one, 0 after a pass that paid.
    last: u32,
}

impl Rest {
    /// Whether a pass falls into it.
    fn takes(&mut self) -> bool {
        let resting = self.left > 0;
        self.left = self.left.saturating_sub(1);
        resting
    }

    fn after_pass(&mut self, paid: bool) {
        self.last = if paid { 0 } else { (2 * self.last).clamp(MIN_REST, MAX_REST) };
        self.left = self.last;
    }
}

/// Whether the team beat a single thread, by the time of the pass and the longest that a member waited for a core.
fn pays(threads: usize, took: Duration, waited: Duration) -> bool {
    let undisturbed = took.saturating_sub(waited);
    took <= undisturbed.mul_f64((SHARE * threads as f64).max(1.0))
}

/// The libtorch of the team's thread could not be set up. Nothing is known to make that fail.
fn ended() -> Error {
    Error::new(ErrorKind::Internal, "the threads that compute small requests together have ended")
}

/// An error if the system refuses so many threads at once. libgomp would end the process.
fn try_threads(count: usize) -> Result<()> {
    let gate = RwLock::new(());
    std::thread::scope(|scope| {
        let _closed = gate.write();
        (0..count).try_for_each(|_| {
            thread().spawn_scoped(scope, || drop(gate.read())).map(drop).map_err(no_thread)
        })
    })
}

/// Starts the calling thread's team, by an operation that is large enough for all of it.
fn begin(threads: usize) -> Result<()> {
    /// Elements for which libtorch takes a thread (`at::internal::GRAIN_SIZE`).
    const GRAIN: i64 = 32_768;
    let _at_work = crate::runtime::exit::at_work();
    let bytes = Tensor::f_zeros([GRAIN * threads as i64], (Kind::Uint8, Device::Cpu))?;
    let _ = bytes.f_add_scalar(1)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_pays_unless_a_member_waited_long() {
        let ms = Duration::from_millis;
        for (threads, took, waited, expected) in [
            (2, 60, 0, true),
            (2, 60, 15, true),
            (2, 60, 20, false),
            (2, 60, 60, false),
            (2, 0, 0, true),
            // More members gain more.
            (4, 60, 36, true),
            (4, 60, 40, false),
            (16, 60, 50, true),
            // It is counted when the waiting ends, so it may have begun before the pass.
            (2, 60, 70, false),
        ] {
            assert_eq!(
                pays(threads, ms(took), ms(waited)),
                expected,
                "{threads} threads, {took} and {waited} ms"
            );
        }
    }

    #[test]
    fn rests_grow_until_a_pass_pays() {
        let mut rest = Rest::default();
        assert!(!rest.takes());
        for expected in [4, 8, 16, 32, 64, 64] {
            rest.after_pass(false);
            let taken = (0..1000).take_while(|_| rest.takes()).count();
            assert_eq!(taken, expected);
        }
        rest.after_pass(true);
        assert!(!rest.takes());
        rest.after_pass(false);
        assert_eq!((0..1000).take_while(|_| rest.takes()).count(), 4);
    }
}
