//! Work on threads of its own, in turns by whose it is.
//!
//! Who hands in a hundred pieces gets one done whenever all the others had one done, so that nobody's
//! single piece waits behind them. Pieces of one owner are begun in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, caught, guarded};

/// As much as the main thread of a program has: decoders recurse and have large frames.
const STACK: usize = 8 << 20;

/// One piece of work, and whoever waits for it.
pub trait Task: Send + 'static {
    /// What the work results in.
    type Output;

    /// Whose work this is: each owner has a turn.
    fn owner(&self) -> u64;

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

    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) == CANCELLED
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

/// A task on its way.
#[derive(Debug)]
struct Entry<T> {
    task: T,
    ticket: Ticket,
    since: Instant,
}

#[derive(Debug)]
struct Queue<T> {
    /// No owner's list is empty; `turns` has each of them once.
    tasks: HashMap<u64, VecDeque<Entry<T>>>,
    turns: VecDeque<u64>,
    waiting: usize,
    /// What could not be done beside the work of the moment.
    parked: Vec<Entry<T>>,
    /// When the tasks at work were handed in.
    running: Vec<Instant>,
    /// How many tasks have ended.
    ended: u64,
    workers: usize,
    /// Workers that wait, among them those that were woken and did not get to run yet.
    idle: usize,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self {
            tasks: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            parked: Vec::new(),
            running: Vec::new(),
            ended: 0,
            workers: 0,
            idle: 0,
        }
    }
}

impl<T: Task> Queue<T> {
    fn list(&mut self, owner: u64) -> &mut VecDeque<Entry<T>> {
        self.waiting += 1;
        self.tasks.entry(owner).or_insert_with(|| {
            self.turns.push_back(owner);
            VecDeque::new()
        })
    }

    fn push(&mut self, entry: Entry<T>) {
        self.list(entry.task.owner()).push_back(entry);
    }

    fn push_again(&mut self, entry: Entry<T>) {
        self.list(entry.task.owner()).push_front(entry);
    }

    fn pop(&mut self) -> Option<Entry<T>> {
        let owner = self.turns.pop_front()?;
        let list = self.tasks.get_mut(&owner)?;
        let entry = list.pop_front();
        if list.is_empty() {
            self.tasks.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        self.waiting -= usize::from(entry.is_some());
        entry
    }

    /// Takes note that a task has ended, which may let parked ones go on.
    fn end(&mut self, since: Instant) {
        self.ended += 1;
        self.leave(since);
        for entry in std::mem::take(&mut self.parked) {
            self.push_again(entry);
        }
    }

    /// Keeps a task until another one ends, unless one has ended since it was begun. Where none is at
    /// work, two stood in each other's way: one of them goes on alone.
    fn park(&mut self, entry: Entry<T>, ended: u64) {
        self.leave(entry.since);
        if self.ended == ended && !self.running.is_empty() {
            self.parked.push(entry);
        } else {
            self.push_again(entry);
        }
    }

    fn leave(&mut self, since: Instant) {
        if let Some(at) = self.running.iter().position(|running| *running == since) {
            self.running.swap_remove(at);
        }
    }

    fn oldest(&self) -> Option<Instant> {
        let first = self.tasks.values().filter_map(VecDeque::front);
        let waiting = first.chain(&self.parked).map(|entry| entry.since);
        waiting.chain(self.running.iter().copied()).min()
    }
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
        }
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
            let (entry, ended) = self.next();
            let since = entry.since;
            // A panic outside of `run` has nobody to hear of it, and must not cost the worker.
            let later = caught(|| serve(entry)).ok().flatten();
            let mut queue = self.lock();
            match later {
                Some(entry) => queue.park(entry, ended),
                None => queue.end(since),
            }
            drop(queue);
            self.filled.notify_all();
        }
    }

    /// The next task, and how many have ended before it was begun.
    fn next(&self) -> (Entry<T>, u64) {
        let mut queue = self.lock();
        loop {
            if let Some(next) = queue.pop() {
                queue.running.push(next.since);
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

/// Runs a task and answers it; gives it back where it has to be run again.
fn serve<T: Task>(entry: Entry<T>) -> Option<Entry<T>> {
    let Entry { task, ticket, since } = entry;
    if ticket.is_cancelled() || !task.wanted() {
        return None;
    }
    let cancelled = || ticket.is_cancelled();
    let result = guarded("a worker thread", ErrorKind::Internal, || task.run(&cancelled));
    if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Busy) {
        return Some(Entry { task, ticket, since });
    }
    if ticket.settle(REPLIED) {
        task.reply(result);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
    use std::time::Duration;

    use super::*;

    type Reply = (usize, Result<usize>);

    /// A task that says when it begins, and ends when it is told to.
    struct Step {
        number: usize,
        owner: u64,
        wanted: bool,
        gate: Option<Receiver<()>>,
        /// Whether the task finds what it needs, once that is in question.
        room: Option<Arc<AtomicBool>>,
        begun: Sender<usize>,
        replies: Sender<Reply>,
    }

    impl Task for Step {
        type Output = usize;

        fn owner(&self) -> u64 {
            self.owner
        }

        fn wanted(&self) -> bool {
            self.wanted
        }

        fn run(&self, cancelled: &dyn Fn() -> bool) -> Result<usize> {
            self.begun.send(self.number).unwrap();
            if self.number == ENDLESS {
                while !cancelled() {
                    thread::yield_now();
                }
            }
            if self.room.as_ref().is_some_and(|room| !room.load(Ordering::Acquire)) {
                return Err(Error::new(ErrorKind::Busy, "no room"));
            }
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
    const ENDLESS: usize = 777;
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
            Step { number, owner: 0, wanted: true, gate: None, room: None, begun, replies }
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
            assert!(error.to_string().starts_with("a worker thread failed: drill at "), "{error}");
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

    #[test]
    fn owners_take_turns() {
        let bench = Bench::new(1);
        let (open, _ticket) = bench.block(0);
        for number in 1..=100 {
            drop(bench.submit(Step { owner: 1, ..bench.step(number) }));
        }
        drop(bench.submit(Step { owner: 2, ..bench.step(201) }));
        drop(bench.submit(Step { owner: 2, ..bench.step(202) }));
        open.send(()).unwrap();
        for number in [0, 1, 201, 2, 202, 3, 4] {
            bench.answered(number);
        }
    }

    #[test]
    fn a_task_taken_back_at_work_is_told_so() {
        let bench = Bench::new(1);
        let ticket = bench.submit(bench.step(ENDLESS));
        assert_eq!(bench.begun(), ENDLESS);
        assert!(ticket.cancel());
        drop(bench.submit(bench.step(1)));
        bench.answered(1);
    }

    #[test]
    fn a_task_without_room_keeps_no_worker_and_is_done_when_others_have_ended() {
        let bench = Bench::new(2);
        let room = Arc::new(AtomicBool::new(false));
        let (open, _ticket) = bench.block(0);
        drop(bench.submit(Step { room: Some(Arc::clone(&room)), ..bench.step(1) }));
        assert_eq!(bench.begun(), 1);
        drop(bench.submit(bench.step(2)));
        bench.answered(2);
        room.store(true, Ordering::Release);
        open.send(()).unwrap();
        let mut numbers = [bench.reply().0, bench.reply().0];
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
    }

    #[test]
    fn a_task_without_room_is_not_forgotten_when_the_others_end_meanwhile() {
        let bench = Bench::new(4);
        for round in 0..200 {
            let room = Arc::new(AtomicBool::new(false));
            let (open, _ticket) = bench.block(round);
            drop(bench.submit(Step { room: Some(Arc::clone(&room)), ..bench.step(1000) }));
            room.store(true, Ordering::Release);
            open.send(()).unwrap();
            let mut numbers = [bench.reply().0, bench.reply().0];
            numbers.sort_unstable();
            assert_eq!(numbers, [round, 1000]);
            while bench.begun.1.try_recv().is_ok() {}
        }
    }

    #[test]
    fn tasks_that_stand_in_each_others_way_are_both_done() {
        let bench = Bench::new(2);
        let [one, two] = [1, 2].map(|_| Arc::new(AtomicBool::new(false)));
        for (number, room) in [(1, &one), (2, &two)] {
            drop(bench.submit(Step { room: Some(Arc::clone(room)), ..bench.step(number) }));
        }
        // Whichever is at work alone is begun again and again.
        for _ in 0..10 {
            bench.begun();
        }
        one.store(true, Ordering::Release);
        two.store(true, Ordering::Release);
        let mut numbers = [bench.reply().0, bench.reply().0];
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn the_load_counts_what_runs_and_what_waits() {
        let bench = Bench::new(1);
        let idle = Load { threads: 1, busy: 0, waiting: 0, oldest: None };
        assert_eq!(bench.pool.load(), idle);
        let (open, _ticket) = bench.block(0);
        drop(bench.submit(bench.step(1)));
        thread::sleep(Duration::from_millis(2));
        let load = bench.pool.load();
        assert_eq!((load.busy, load.waiting), (1, 1));
        assert!(load.oldest.unwrap() >= Duration::from_millis(2));
        open.send(()).unwrap();
        bench.answered(0);
        bench.answered(1);
        while bench.pool.load() != idle {
            thread::yield_now();
        }
    }
}
