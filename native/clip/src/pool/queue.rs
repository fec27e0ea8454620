//! What waits for a thread, in turns by whose it is.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::{Task, Ticket};
use crate::error::{Error, ErrorKind, Remedy};

/// An estimate gets a margin of one part in so many.
const MARGIN: u32 = 4;

/// A task on its way.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) task: T,
    pub(super) ticket: Ticket,
    pub(super) since: Instant,
}

/// A task at work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    since: Instant,
    begun: Instant,
    weight: u64,
    longest: Duration,
    deadline: Option<Instant>,
}

impl Running {
    pub(super) fn begin<T: Task>(entry: &Entry<T>, begun: Instant) -> Self {
        Self {
            since: entry.since,
            begun,
            weight: entry.task.weight(),
            longest: entry.task.longest(),
            deadline: entry.task.deadline(),
        }
    }

    /// How much longer it will take: half of the estimate, and at most as long as it may.
    pub(super) fn left(&self, pace: &Pace, now: Instant) -> Duration {
        let half = pace.time(self.weight).unwrap_or_default() / 2;
        let may = self.longest.saturating_sub(now.saturating_duration_since(self.begun));
        let until = self.deadline.map(|deadline| deadline.saturating_duration_since(now));
        half.min(may).min(until.unwrap_or(Duration::MAX))
    }
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    /// No owner's list is empty; `turns` has each of them once.
    tasks: HashMap<u64, VecDeque<Entry<T>>>,
    turns: VecDeque<u64>,
    pub(super) waiting: usize,
    /// What could not be done beside the work of the moment.
    pub(super) parked: Vec<Entry<T>>,
    pub(super) running: Vec<Running>,
    pub(super) pace: Pace,
    /// How many tasks have ended.
    pub(super) ended: u64,
    pub(super) workers: usize,
    /// Workers that wait, among them those that were woken and did not get to run yet.
    pub(super) idle: usize,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            tasks: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            parked: Vec::new(),
            running: Vec::new(),
            pace: Pace::default(),
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

    pub(super) fn push(&mut self, entry: Entry<T>) {
        self.list(entry.task.owner()).push_back(entry);
    }

    pub(super) fn push_again(&mut self, entry: Entry<T>) {
        self.list(entry.task.owner()).push_front(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry<T>> {
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
    pub(super) fn end(&mut self, since: Instant) {
        self.ended += 1;
        self.leave(since);
        for entry in std::mem::take(&mut self.parked) {
            self.push_again(entry);
        }
    }

    /// Keeps a task until another one ends, unless one has ended since it was begun. Where none is at
    /// work, two stood in each other's way: one of them goes on alone.
    pub(super) fn park(&mut self, entry: Entry<T>, ended: u64) {
        self.leave(entry.since);
        if self.ended == ended && !self.running.is_empty() {
            self.parked.push(entry);
        } else {
            self.push_again(entry);
        }
    }

    fn leave(&mut self, since: Instant) {
        if let Some(at) = self.running.iter().position(|running| running.since == since) {
            self.running.swap_remove(at);
        }
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        let first = self.tasks.values().filter_map(VecDeque::front);
        let waiting = first.chain(&self.parked).map(|entry| entry.since);
        waiting.chain(self.running.iter().map(|running| running.since)).min()
    }

    /// How much longer the tasks at work take, added up.
    fn at_work(&self, now: Instant) -> Duration {
        let left = self.running.iter().map(|running| running.left(&self.pace, now));
        left.fold(Duration::ZERO, Duration::saturating_add)
    }

    /// How long the first task of a new owner would wait: until each owner had its next turn.
    pub(super) fn wait(&self, threads: usize) -> Duration {
        if self.waiting + self.parked.len() + self.running.len() < threads {
            return Duration::ZERO;
        }
        let first = self.tasks.values().filter_map(VecDeque::front);
        let ahead = first.chain(&self.parked).filter_map(|entry| entry.time(&self.pace));
        let all = ahead.fold(self.at_work(Instant::now()), Duration::saturating_add);
        share(all, threads)
    }

    /// Takes out what waits and would be done after its deadline.
    pub(super) fn take_late(&mut self, threads: usize) -> Vec<Entry<T>> {
        let now = Instant::now();
        let mut ahead = self.at_work(now);
        let mut out = Vec::new();
        for (owner, at) in self.order() {
            let Some(entry) = self.tasks.get(&owner).and_then(|list| list.get(at)) else {
                continue;
            };
            let Some(own) = entry.time(&self.pace) else { continue };
            let needed = share(ahead, threads).saturating_add(own);
            let needed = needed.saturating_add(needed / MARGIN);
            let late = |deadline: Instant| deadline > now && deadline - now < needed;
            if entry.task.deadline().is_some_and(late) {
                out.push((owner, at));
            } else {
                ahead = ahead.saturating_add(own);
            }
        }
        out.sort_unstable();
        out.into_iter().rev().filter_map(|(owner, at)| self.take(owner, at)).collect()
    }

    /// What waits, in the order in which it will be begun: whose it is, and its place in their list.
    fn order(&self) -> Vec<(u64, usize)> {
        let mut order = Vec::with_capacity(self.waiting);
        let mut owners: Vec<_> = self.turns.iter().copied().collect();
        for round in 0.. {
            owners.retain(|owner| self.tasks.get(owner).is_some_and(|list| list.len() > round));
            if owners.is_empty() {
                break;
            }
            order.extend(owners.iter().map(|&owner| (owner, round)));
        }
        order
    }

    fn take(&mut self, owner: u64, at: usize) -> Option<Entry<T>> {
        let list = self.tasks.get_mut(&owner)?;
        let entry = list.remove(at)?;
        if list.is_empty() {
            self.tasks.remove(&owner);
            self.turns.retain(|turn| *turn != owner);
        }
        self.waiting -= 1;
        Some(entry)
    }
}

/// How long it takes if so many threads do it together.
fn share(time: Duration, threads: usize) -> Duration {
    time / u32::try_from(threads).unwrap_or(u32::MAX)
}

impl<T: Task> Entry<T> {
    /// How long it will take, nothing where nothing is known. `None` for what was taken back, and will
    /// not be done.
    fn time(&self, pace: &Pace) -> Option<Duration> {
        let time = || pace.time(self.task.weight()).unwrap_or_default().min(self.task.longest());
        (!self.ticket.is_cancelled()).then(time)
    }

    /// Answers that this would be done too late.
    pub(super) fn refuse(self) {
        if self.ticket.reply() {
            let message = "other pictures wait to be decoded, and this one would not be in time; \
                try again later or";
            self.task
                .reply(Err(Error::new(ErrorKind::Busy, message).with_remedy(Remedy::MoreTime)));
        }
    }
}
