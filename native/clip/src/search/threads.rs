//! The threads that run searches, and read and change indexes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use super::index::Index;
use super::pass::{Pass, Search};
use crate::error::{Error, ErrorKind, Result, caught};
use crate::pool::Ticket;

const STACK: usize = 1 << 20;
/// Most jobs in the queue, of all indexes together.
const MAX_WAITING: usize = 4096;

/// Threads that share the work of each search. They start when they are first needed, and stay.
#[derive(Debug)]
pub struct SearchThreads {
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
    /// Begins searches that wait for an index.
    Search(Arc<Index>),
    Job(Box<dyn FnOnce() + Send>),
    Help(Arc<Pass>),
}

impl SearchThreads {
    /// So many threads.
    pub fn new(size: usize) -> Self {
        Self { size: size.max(1), shared: Arc::default() }
    }

    /// Queues a search of an index without blocking. Owners, which are numbers of the caller's choice,
    /// take turns.
    ///
    /// # Errors
    /// `Busy` if too many searches wait, `Internal` if the system grants no thread.
    pub fn search(&self, index: &Arc<Index>, owner: u64, search: Search) -> Result<Ticket> {
        let ticket = search.ticket.clone();
        self.start()?;
        if index.queue_up(owner, search)? {
            self.shared.lock().todo.push_back(Todo::Search(Arc::clone(index)));
            self.shared.filled.notify_one();
        }
        Ok(ticket)
    }

    /// Queues a short job, such as a change of an index.
    ///
    /// # Errors
    /// Those of [`SearchThreads::search`].
    pub fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<()> {
        self.start()?;
        let mut queue = self.shared.lock();
        if queue.jobs >= MAX_WAITING {
            let message = format!(
                "too many calls wait to read or change an index (limit: {MAX_WAITING}); try again \
                later"
            );
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
                // Fewer workers take longer, but do all the work.
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
    /// Runs forever, like the threads of a [`Pool`](crate::pool::Pool).
    fn work(&self) {
        crate::priority::lower_priority(crate::priority::BULK);
        loop {
            match self.next() {
                Todo::Help(pass) => pass.help(),
                Todo::Job(job) => {
                    // The job itself reports its failures; nobody is left to hear of a panic here.
                    let _ = caught(job);
                }
                Todo::Search(index) => self.begin(index),
            }
        }
    }

    /// The next piece of work: parts of a pass that has begun come before anything else.
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
            // Behind the searches of other indexes.
            queue.todo.push_back(Todo::Search(index));
        }
        queue.passes.extend(passes.into_iter().map(Arc::new));
        drop(queue);
        self.filled.notify_all();
        // A pass without parts has nothing for other threads to take.
        empty.iter().for_each(Pass::help);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
