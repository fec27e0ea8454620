use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use super::pace::Pace;
use super::*;

type Reply = (usize, Result<usize>);

/// A task that says when it begins, and ends when it is told to.
struct Step {
    number: usize,
    owner: u64,
    weight: u64,
    deadline: Option<Instant>,
    longest: Duration,
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

    fn weight(&self) -> u64 {
        self.weight
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn longest(&self) -> Duration {
        self.longest
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
        let (gate, room, deadline, longest) = (None, None, None, Duration::MAX);
        let (owner, weight, wanted) = (0, 1, true);
        Step { number, owner, weight, deadline, longest, wanted, gate, room, begun, replies }
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
    let zero = Duration::ZERO;
    let idle = Load { threads: 1, busy: 0, waiting: 0, oldest: None, wait: zero, each: zero };
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
    while (Load { each: zero, ..bench.pool.load() }) != idle {
        thread::yield_now();
    }
}

impl Bench {
    /// Makes a task of this weight known to take at least so long.
    fn learn(&self, weight: u64, time: Duration) {
        let (open, gate) = channel();
        drop(self.submit(Step { gate: Some(gate), weight, ..self.step(0) }));
        assert_eq!(self.begun(), 0);
        thread::sleep(time);
        open.send(()).unwrap();
        self.answered(0);
        // The answer comes before the worker writes down what it took.
        while self.pool.load().busy > 0 {
            thread::yield_now();
        }
    }
}

const LATE: usize = 9;

#[test]
fn a_task_that_would_be_done_too_late_is_refused_when_another_is_done() {
    let bench = Bench::new(1);
    let (open, _ticket) = bench.block(1);
    let soon = Some(Instant::now() + 100 * SOON);
    for number in 2..=4 {
        let step = Step { deadline: soon, ..bench.step(number) };
        drop(bench.submit(step));
    }
    // By then one of weight 1 is known to take a moment, and this one a thousand hours.
    drop(bench.submit(Step { deadline: soon, weight: 1 << 50, ..bench.step(LATE) }));
    drop(bench.submit(Step { deadline: None, weight: 1 << 50, ..bench.step(5) }));
    thread::sleep(Duration::from_millis(5));
    open.send(()).unwrap();
    let mut replies: Vec<_> = (0..6).map(|_| bench.reply()).collect();
    replies.sort_by_key(|reply| reply.0);
    let (number, result) = replies.pop().unwrap();
    assert_eq!((number, result.unwrap_err().kind()), (LATE, ErrorKind::Busy));
    assert!(replies.iter().all(|(_, result)| result.is_ok()));
    assert!(bench.begun.1.try_iter().all(|number| number != LATE));
    assert_eq!(bench.pool.load().waiting, 0);
}

#[test]
fn what_is_refused_holds_up_nobody_behind_it() {
    let bench = Bench::new(1);
    let (open, _ticket) = bench.block(1);
    let soon = Some(Instant::now() + 100 * SOON);
    drop(bench.submit(Step { deadline: soon, weight: 1 << 50, ..bench.step(LATE) }));
    drop(bench.submit(Step { deadline: soon, ..bench.step(2) }));
    thread::sleep(Duration::from_millis(5));
    open.send(()).unwrap();
    let mut replies: Vec<_> = (0..3).map(|_| bench.reply()).collect();
    replies.sort_by_key(|reply| reply.0);
    let kinds: Vec<_> = replies.iter().map(|(number, result)| (*number, result.is_ok())).collect();
    assert_eq!(kinds, [(1, true), (2, true), (LATE, false)]);
}

#[test]
fn a_deadline_that_has_passed_is_the_tasks_own_affair() {
    let bench = Bench::new(1);
    let (open, _ticket) = bench.block(1);
    drop(bench.submit(Step { deadline: Some(Instant::now()), ..bench.step(2) }));
    thread::sleep(Duration::from_millis(5));
    open.send(()).unwrap();
    bench.answered(1);
    bench.answered(2);
}

#[test]
fn the_wait_of_a_newcomer_is_a_turn_of_each_owner() {
    let bench = Bench::new(1);
    bench.learn(10, Duration::from_millis(20));
    let load = bench.pool.load();
    assert_eq!(load.wait, Duration::ZERO);
    assert!(load.each >= Duration::from_millis(20));
    let (open, _ticket) = bench.block(1);
    for number in 0..100 {
        drop(bench.submit(Step { owner: 1, weight: 100, ..bench.step(number) }));
    }
    drop(bench.submit(Step { owner: 2, weight: 1000, ..bench.step(100) }));
    // 1100 of weight, not 11,000: at least 2.2 seconds, and less than a hundred.
    let wait = bench.pool.load().wait;
    assert!(wait > Duration::from_secs(2) && wait < 10 * SOON, "{wait:?}");
    drop(open);
}

#[test]
fn what_was_taken_back_holds_up_nobody() {
    let bench = Bench::new(1);
    bench.learn(1, Duration::from_millis(5));
    let (open, _ticket) = bench.block(1);
    let ticket = bench.submit(Step { weight: 1 << 50, ..bench.step(2) });
    assert!(bench.pool.load().wait > SOON);
    assert!(ticket.cancel());
    assert!(bench.pool.load().wait < SOON);
    drop(open);
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_task_at_work_is_reckoned_to_half_of_its_time_and_not_beyond_what_it_may_take() {
    let mut pace = Pace::default();
    pace.record(SECOND, 1);
    let bench = Bench::new(1);
    let now = Instant::now() + 10 * SECOND;
    let left = |weight, longest, deadline| {
        let step = Step { weight, longest, deadline, ..bench.step(1) };
        let entry = Entry { task: step, ticket: Ticket::default(), since: Instant::now() };
        Running::begin(&entry, now - 4 * SECOND).left(&pace, now)
    };
    assert_eq!(left(20, Duration::MAX, None), 10 * SECOND);
    assert_eq!(left(20, 10 * SECOND, None), 6 * SECOND);
    assert_eq!(left(20, 10 * SECOND, Some(now + 3 * SECOND)), 3 * SECOND);
    assert_eq!(left(20, 10 * SECOND, Some(now - SECOND)), Duration::ZERO);
    assert_eq!(left(20, 3 * SECOND, None), Duration::ZERO);
    assert_eq!(left(1, 10 * SECOND, Some(now + 3 * SECOND)), SECOND / 2);
}

#[test]
fn a_task_that_waits_is_reckoned_to_what_it_may_take_at_most() {
    let bench = Bench::new(1);
    bench.learn(1, Duration::from_millis(5));
    let (open, _ticket) = bench.block(1);
    drop(bench.submit(Step { weight: 1 << 50, longest: SECOND, ..bench.step(2) }));
    let wait = bench.pool.load().wait;
    assert!(wait >= SECOND && wait < 2 * SECOND, "{wait:?}");
    drop(open);
}
