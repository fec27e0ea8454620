//! Work on threads of its own, first come, first served.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::{Error, ErrorKind, Result, caught, guarded};

/// As much as the main thread of a program has: decoders recurse and have large frames.
const STACK: usize = 8 << 20;

/// One piece of work, and whoever waits for it.
pub trait Task: Send + 'static {
    /// What the work results in.
    type Output;

    /// Whether somebody waits still. Asked once, before the work begins.
    fn wanted(&self) -> bool;

    /// Does the work. A panic becomes an error.
    fn run(&self) -> Result<Self::Output>;

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

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
    }

    /// Whether the state is `state` from now on: the first who settles it decides.
    fn settle(&self, state: u8) -> bool {
        let settled = self.0.compare_exchange(PENDING, state, Ordering::AcqRel, Ordering::Acquire);
        settled.map_or_else(|earlier| earlier == state, |_| true)
    }
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

#[derive(Debug)]
struct Queue<T> {
    tasks: VecDeque<(T, Ticket)>,
    workers: usize,
    /// Workers that wait, among them those that were woken and did not get to run yet.
    idle: usize,
}

impl<T: Task> Pool<T> {
    /// A pool of at most `size` threads of this name.
    pub fn new(name: &'static str, size: usize) -> Self {
        let queue = Mutex::new(Queue { tasks: VecDeque::new(), workers: 0, idle: 0 });
        Self { name, size, shared: Arc::new(Shared { queue, filled: Condvar::new() }) }
    }

    /// Queues a task. Never waits for one.
    ///
    /// # Errors
    /// `Internal` when the system grants no thread at all.
    pub fn submit(&self, task: T) -> Result<Ticket> {
        let ticket = Ticket::default();
        let mut queue = self.shared.lock();
        if queue.tasks.len() >= queue.idle && queue.workers < self.size {
            match self.start_worker() {
                Ok(()) => queue.workers += 1,
                Err(error) if queue.workers == 0 => return Err(self.no_thread(error)),
                // Fewer workers get to everything too.
                Err(_) => {}
            }
        }
        queue.tasks.push_back((task, ticket.clone()));
        drop(queue);
        self.shared.filled.notify_one();
        Ok(ticket)
    }

    fn start_worker(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name(self.name.to_owned()).stack_size(STACK);
        thread.spawn(move || shared.work()).map(drop)
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
    /// For ever: there is nobody to tell a worker to end, and the process may exit around it, since
    /// one that waits holds no lock.
    fn work(&self) {
        crate::priority::step_back();
        loop {
            let (task, ticket) = self.next();
            // A panic outside of `run` has nobody to hear of it, and must not cost the worker.
            let _ = caught(|| serve(task, &ticket));
        }
    }

    fn next(&self) -> (T, Ticket) {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.tasks.pop_front() {
                return next;
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

fn serve<T: Task>(task: T, ticket: &Ticket) {
    if ticket.is_cancelled() || !task.wanted() {
        return;
    }
    let result = guarded("a worker thread", ErrorKind::Internal, || task.run());
    if ticket.settle(REPLIED) {
        task.reply(result);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
    use std::time::Duration;

    use super::*;

    type Reply = (usize, Result<usize>);

    /// A task that says when it begins, and ends when it is told to.
    struct Step {
        number: usize,
        wanted: bool,
        gate: Option<Receiver<()>>,
        begun: Sender<usize>,
        replies: Sender<Reply>,
    }

    impl Task for Step {
        type Output = usize;

        fn wanted(&self) -> bool {
            self.wanted
        }

        fn run(&self) -> Result<usize> {
            self.begun.send(self.number).unwrap();
            if let Some(gate) = &self.gate {
                gate.recv().unwrap();
            }
            if self.number == PANICS {
                panic!("drill");
            }
            Ok(10 * self.number)
        }

        fn reply(self, result: Result<usize>) {
            self.replies.send((self.number, result)).unwrap();
        }
    }

    const PANICS: usize = 666;
    const SOON: Duration = Duration::from_secs(10);

    /// A pool, and what its tasks report.
    struct Bench {
        pool: Pool<Step>,
        begun: (Sender<usize>, Receiver<usize>),
        replies: (Sender<Reply>, Receiver<Reply>),
    }

    impl Bench {
        fn new(size: usize) -> Self {
            Self { pool: Pool::new("test", size), begun: channel(), replies: channel() }
        }

        fn step(&self, number: usize) -> Step {
            let (begun, replies) = (self.begun.0.clone(), self.replies.0.clone());
            Step { number, wanted: true, gate: None, begun, replies }
        }

        fn submit(&self, step: Step) -> Ticket {
            self.pool.submit(step).unwrap()
        }

        /// Keeps a worker busy until something is sent, or the sender dropped.
        fn block(&self, number: usize) -> (Sender<()>, Ticket) {
            let (open, gate) = channel();
            let ticket = self.submit(Step { gate: Some(gate), ..self.step(number) });
            assert_eq!(self.begun(), number);
            (open, ticket)
        }

        fn begun(&self) -> usize {
            self.begun.1.recv_timeout(SOON).unwrap()
        }

        fn reply(&self) -> Reply {
            self.replies.1.recv_timeout(SOON).unwrap()
        }

        #[track_caller]
        fn answered(&self, number: usize) {
            let (from, result) = self.reply();
            assert_eq!((from, result.unwrap()), (number, 10 * number));
        }

        fn workers(&self) -> usize {
            self.pool.shared.lock().workers
        }
    }

    #[test]
    fn tasks_are_begun_in_the_order_they_came() {
        let bench = Bench::new(1);
        let (open, _ticket) = bench.block(0);
        (1..50).for_each(|number| drop(bench.submit(bench.step(number))));
        open.send(()).unwrap();
        (0..50).for_each(|number| bench.answered(number));
    }

    #[test]
    fn all_threads_work_at_once_and_no_more_are_started() {
        let bench = Bench::new(3);
        let gates: Vec<_> = (0..3).map(|number| bench.block(number)).collect();
        drop(bench.submit(bench.step(3)));
        assert_eq!(bench.workers(), 3);
        assert!(bench.begun.1.try_recv().is_err());
        gates[1].0.send(()).unwrap();
        bench.answered(1);
        bench.answered(3);
    }

    #[test]
    fn a_worker_that_waits_is_taken_before_one_is_started() {
        let bench = Bench::new(8);
        for number in 0..20 {
            drop(bench.submit(bench.step(number)));
            bench.answered(number);
            while bench.pool.shared.lock().idle == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(bench.workers(), 1);
    }

    #[test]
    fn a_task_taken_back_in_the_queue_is_not_begun() {
        let bench = Bench::new(1);
        let (open, _ticket) = bench.block(0);
        let ticket = bench.submit(bench.step(1));
        drop(bench.submit(bench.step(2)));
        assert!(ticket.cancel());
        assert!(ticket.cancel(), "as often as one likes");
        open.send(()).unwrap();
        bench.answered(0);
        bench.answered(2);
        assert_eq!(bench.begun(), 2);
        assert_eq!(bench.replies.1.try_recv().unwrap_err(), TryRecvError::Empty);
    }

    #[test]
    fn a_task_taken_back_at_work_gives_no_reply() {
        let bench = Bench::new(1);
        let (open, ticket) = bench.block(0);
        assert!(ticket.cancel());
        open.send(()).unwrap();
        drop(bench.submit(bench.step(1)));
        bench.answered(1);
    }

    #[test]
    fn a_task_that_was_answered_cannot_be_taken_back() {
        let bench = Bench::new(1);
        let ticket = bench.submit(bench.step(1));
        bench.answered(1);
        assert!(!ticket.cancel());
    }

    #[test]
    fn a_task_that_nobody_waits_for_is_not_begun() {
        let bench = Bench::new(1);
        let (open, _ticket) = bench.block(0);
        drop(bench.submit(Step { wanted: false, ..bench.step(1) }));
        drop(bench.submit(bench.step(2)));
        open.send(()).unwrap();
        bench.answered(0);
        bench.answered(2);
        assert_eq!(bench.begun(), 2);
    }

    #[test]
    fn a_panic_is_answered_and_costs_no_worker() {
        let bench = Bench::new(1);
        for _ in 0..3 {
            drop(bench.submit(bench.step(PANICS)));
            let (_, result) = bench.reply();
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
            assert_eq!(error.to_string(), "a worker thread failed: drill");
        }
        drop(bench.submit(bench.step(1)));
        bench.answered(1);
        assert_eq!(bench.workers(), 1);
    }

    #[test]
    fn a_reply_that_panics_costs_no_worker() {
        let bench = Bench::new(1);
        let (replies, nobody) = channel();
        drop(nobody);
        drop(bench.submit(Step { replies, ..bench.step(1) }));
        drop(bench.submit(bench.step(2)));
        bench.answered(2);
    }
}
