//! The threads that search and write.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use super::index::Index;
use super::pass::{Pass, Search};
use crate::error::{Error, ErrorKind, Result, caught};
use crate::pool::Ticket;

const STACK: usize = 1 << 20;
/// Most changes and questions that wait, of all indexes.
const MAX_WAITING: usize = 4096;

/// Threads that work together on one search after the other. They are started when they are needed, and
/// stay.
#[derive(Debug)]
pub struct Team {
    size: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    todo: VecDeque<Todo>,
    /// How many of them are jobs.
    jobs: usize,
    passes: VecDeque<Arc<Pass>>,
    workers: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("workers", &self.workers).finish_non_exhaustive()
    }
}

enum Todo {
    /// To come for the searches that wait for an index.
    Search(Arc<Index>),
    Job(Box<dyn FnOnce() + Send>),
    Help(Arc<Pass>),
}

impl Team {
    /// A team of so many threads.
    pub fn new(size: usize) -> Self {
        Self { size: size.max(1), shared: Arc::default() }
    }

    /// Searches in an index, and never waits. Each owner, a number of the caller's choice, has its turn.
    ///
    /// # Errors
    /// `Busy` when too many searches wait, `Internal` when the system grants no thread at all.
    pub fn search(&self, index: &Arc<Index>, owner: u64, search: Search) -> Result<Ticket> {
        let ticket = search.ticket.clone();
        self.start()?;
        if index.queue_up(owner, search)? {
            self.shared.lock().todo.push_back(Todo::Search(Arc::clone(index)));
            self.shared.filled.notify_one();
        }
        Ok(ticket)
    }

    /// Does something short with an index, such as to change it.
    ///
    /// # Errors
    /// Those of [`Team::search`].
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        self.start()?;
        let mut queue = self.shared.lock();
        if queue.jobs >= MAX_WAITING {
            let message = format!("{MAX_WAITING} changes of indexes wait; try again later");
            return Err(Error::new(ErrorKind::Busy, message));
        }
        queue.jobs += 1;
        queue.todo.push_back(Todo::Job(Box::new(job)));
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }

    fn start(&self) -> Result<()> {
        let mut queue = self.shared.lock();
        while queue.workers < self.size {
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("clip-search".to_owned()).stack_size(STACK);
            match thread.spawn(move || shared.work()) {
                Ok(_) => queue.workers += 1,
                Err(error) if queue.workers == 0 => return Err(no_thread(error)),
                // Fewer workers get to everything too.
                Err(_) => break,
            }
        }
        Ok(())
    }
}

fn no_thread(error: io::Error) -> Error {
    let message = format!(
        "cannot start a thread to search ({error}); raise the limit of threads or of memory"
    );
    Error::new(ErrorKind::Internal, message).with_source(error)
}

impl Shared {
    /// For ever, as the threads of a [`Pool`](crate::pool::Pool) do.
    fn work(&self) {
        crate::priority::step_back();
        loop {
            match self.next() {
                Todo::Help(pass) => pass.help(),
                Todo::Job(job) => {
                    // Who hands a job in answers for it; nobody hears of this one.
                    let _ = caught(job);
                }
                Todo::Search(index) => self.begin(index),
            }
        }
    }

    /// What is begun is finished before anything else, by all threads.
    fn next(&self) -> Todo {
        let mut queue = self.lock();
        loop {
            while let Some(pass) = queue.passes.front() {
                if pass.is_open() {
                    return Todo::Help(Arc::clone(pass));
                }
                queue.passes.pop_front();
            }
            if let Some(todo) = queue.todo.pop_front() {
                queue.jobs -= usize::from(matches!(todo, Todo::Job(_)));
                return todo;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begin(&self, index: Arc<Index>) {
        let Ok((passes, is_more)) = caught(|| index.begin()) else { return };
        let (passes, empty): (Vec<_>, Vec<_>) = passes.into_iter().partition(Pass::is_open);
        let mut queue = self.lock();
        if is_more {
            // Behind what waits for others.
            queue.todo.push_back(Todo::Search(index));
        }
        queue.passes.extend(passes.into_iter().map(Arc::new));
        drop(queue);
        self.filled.notify_all();
        // Nobody would come to help with these.
        empty.iter().for_each(Pass::help);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
