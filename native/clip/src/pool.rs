//! Work on threads of its own, in turns by whose it is.
//!
//! An owner of a hundred tasks gets one done for each task of the other owners, so a single task never
//! waits behind the hundred. Tasks of one owner begin in the order in which they came.
//!
//! Whenever a task is done, the waiting ones are judged by how long work has taken lately. A task that
//! would finish after its deadline is refused at once.

mod pace;
mod queue;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use self::queue::{Entry, Queue, Running};
use crate::error::{Error, ErrorKind, Result, caught, guarded};

/// As much as the main thread of a program has: decoders recurse and have large frames.
const STACK: usize = 8 << 20;

/// One piece of work, and whoever waits for it.
pub trait Task: Send + 'static {
    /// What the work results in.
    type Output;

    /// Whose work this is: each owner has a turn.
    fn owner(&self) -> u64;

    /// How much work this is, in the same unit as that of other tasks.
    fn weight(&self) -> u64;

    /// When the work has to be done, if it is to be of use.
    fn deadline(&self) -> Option<Instant>;

    /// The most time that the work may take, once it is begun.
    fn longest(&self) -> Duration;

    /// Whether somebody waits still. Asked before the work begins.
    fn wanted(&self) -> bool;

    /// Does the work, and ends soon after `cancelled` becomes true. A panic becomes an error. Work
    /// that fails with [`ErrorKind::Busy`] is done again when other work has ended.
    fn run(&self, cancelled: &dyn Fn() -> bool) -> Result<Self::Output>;

    /// Hands over what came of it.
    fn reply(self, result: Result<Self::Output>);
}

const PENDING: u8 = 0;
const CANCELLED: u8 = 1;
const REPLIED: u8 = 2;

/// For taking back a task. Dropping it takes nothing back.
#[derive(Debug, Clone, Default)]
pub struct Ticket(Arc<AtomicU8>);

impl Ticket {
    /// Takes the task back. `true`: there will never be a reply. `false`: it was given, or is being
    /// given at this moment.
    pub fn cancel(&self) -> bool {
        self.settle(CANCELLED)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }

    /// Whether to reply: nobody took the task back, and from now on nobody can.
    pub(crate) fn reply(&self) -> bool {
        self.settle(REPLIED)
    }

    /// Whether the state is `state` from now on: the first who settles it decides.
    fn settle(&self, state: u8) -> bool {
        let settled = self.0.compare_exchange(PENDING, state, Ordering::AcqRel, Ordering::Acquire);
        settled.map_or_else(|earlier| earlier == state, |_| true)
    }
}

/// What the threads of a pool are doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The most threads that there can be.
    pub threads: usize,
    /// Tasks at work.
    pub busy: usize,
    /// Tasks in the queue.
    pub waiting: usize,
    /// The time since the oldest of all these was handed in.
    pub oldest: Option<Duration>,
    /// How long the first task of a new owner would wait, by what work has taken lately.
    pub wait: Duration,
    /// How long a task has taken lately, once it was begun.
    pub each: Duration,
}

/// Threads that share one queue. They are started as they are needed, and stay.
#[derive(Debug)]
pub struct Pool<T> {
    name: &'static str,
    size: usize,
    shared: Arc<Shared<T>>,
}

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    filled: Condvar,
}

impl<T: Task> Pool<T> {
    /// A pool of at most `size` threads of this name.
    pub fn new(name: &'static str, size: usize) -> Self {
        let queue = Mutex::new(Queue::new());
        Self { name, size, shared: Arc::new(Shared { queue, filled: Condvar::new() }) }
    }

    /// Queues a task. Never waits for one.
    ///
    /// # Errors
    /// `Internal` when the system grants no thread at all.
    pub fn submit(&self, task: T) -> Result<Ticket> {
        let ticket = Ticket::default();
        let mut queue = self.shared.lock();
        if queue.waiting >= queue.idle && queue.workers < self.size {
            match self.start_worker() {
                Ok(()) => queue.workers += 1,
                Err(error) if queue.workers == 0 => return Err(self.no_thread(error)),
                // Fewer workers get to everything too.
                Err(_) => {}
            }
        }
        queue.push(Entry { task, ticket: ticket.clone(), since: Instant::now() });
        drop(queue);
        self.shared.filled.notify_one();
        Ok(ticket)
    }

    /// What the threads are doing.
    pub fn load(&self) -> Load {
        let queue = self.shared.lock();
        Load {
            threads: self.size,
            busy: queue.running.len(),
            waiting: queue.waiting + queue.parked.len(),
            oldest: queue.oldest().map(|since| since.elapsed()),
            wait: queue.wait(self.size),
            each: queue.pace.each().unwrap_or_default(),
        }
    }

    fn start_worker(&self) -> io::Result<()> {
        let (shared, threads) = (Arc::clone(&self.shared), self.size);
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK);
        thread.spawn(move || shared.work(threads)).map(drop)
    }

    fn no_thread(&self, error: io::Error) -> Error {
        let message = format!(
            "cannot start a thread \"{}\" ({error}); raise the limit of threads or of memory",
            self.name
        );
        Error::new(ErrorKind::Internal, message).with_source(error)
    }
}

impl<T: Task> Shared<T> {
    /// Runs forever: nothing tells a worker to end. The process may exit around it, because a worker
    /// that waits holds no lock.
    fn work(&self, threads: usize) {
        crate::priority::lower_priority(crate::priority::BULK);
        loop {
            let (entry, ended) = self.next();
            let (since, weight, begun) = (entry.since, entry.task.weight(), Instant::now());
            // A panic outside of `run` has nobody to hear of it, and must not cost the worker.
            let end = caught(|| serve(entry)).unwrap_or(End::Other);
            let mut queue = self.lock();
            let mut late = Vec::new();
            match end {
                End::Again(entry) => queue.park(entry, ended),
                End::Done => {
                    queue.pace.record(begun.elapsed(), weight);
                    queue.end(since);
                    late = queue.take_late(threads);
                }
                End::Other => queue.end(since),
            }
            drop(queue);
            self.filled.notify_all();
            let _ = caught(|| late.into_iter().for_each(Entry::refuse));
        }
    }

    /// The next task, and how many have ended before it was begun.
    fn next(&self) -> (Entry<T>, u64) {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.pop() {
                queue.running.push(Running::begin(&next, Instant::now()));
                return (next, queue.ended);
            }
            queue.idle += 1;
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a task.
enum End<T> {
    /// It is to be run again.
    Again(Entry<T>),
    /// It succeeded, and says how long such work takes.
    Done,
    /// It failed, or was not wanted.
    Other,
}

/// Runs a task and answers it.
fn serve<T: Task>(entry: Entry<T>) -> End<T> {
    let Entry { task, ticket, since } = entry;
    if ticket.is_cancelled() || !task.wanted() {
        return End::Other;
    }
    let cancelled = || ticket.is_cancelled();
    let result = guarded("a worker thread", ErrorKind::Internal, || task.run(&cancelled));
    if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy) {
        return End::Again(Entry { task, ticket, since });
    }
    let end = if result.is_ok() { End::Done } else { End::Other };
    if ticket.reply() {
        task.reply(result);
    }
    end
}
