//! The inference threads, which share the encoders of a model.
//!
//! A fixed number of long-lived threads a model: libtorch's memory grows with the number of threads
//! that call it, and its stack does not fit a dirty scheduler's. The encoders are in memory once.
//! Several threads may run one module, as PyTorch's notes on CPU threading describe: a pass reads
//! the graph and the weights, and writes to values of its own. Callers queue jobs.
//!
//! A batch is divided among workers, which compute passes of their own. What is too small for that a team computes
//! together (`team.rs`). It has a higher priority, so that a lone picture does not wait behind busy schedulers.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Scope, ScopedJoinHandle};

use clip::priority::{BULK, SERVING, lower_priority};

use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::queue::Queue;
use crate::runtime::settings::{Settings, no_thread, thread, with_threads};
use crate::runtime::workers::Workers;

/// Loads and jobs of the process, up to [`FIRST_TIMES`].
static LOADS: AtomicU32 = AtomicU32::new(0);
static JOBS: AtomicU32 = AtomicU32::new(0);
/// In these, libtorch uses most of its parts for the first time.
const FIRST_TIMES: u32 = 16;

/// Gets what the threads share, and the workers that divide a batch.
pub(crate) type Job<S> = Box<dyn FnOnce(&S, &Workers<S>) -> Answer + Send>;

/// Sends the result of a job. It runs when handlers for the exit are registered: the caller may be about to exit.
pub(crate) type Answer = Box<dyn FnOnce()>;

/// What a load gives.
pub(crate) struct Loaded<S, T> {
    /// What the threads share until they are stopped.
    pub(crate) shared: S,
    /// What the caller gets.
    pub(crate) value: T,
    /// Whether threads may divide a batch. On a GPU they may not.
    pub(crate) divisible: bool,
    /// Makes an inference thread ready, before its first job.
    pub(crate) begin: Option<Begin<S>>,
}

pub(crate) type Begin<S> = fn(&S, &Workers<S>) -> Result<()>;

/// How a model's inference is spread over threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parallelism {
    /// Inference threads.
    pub(crate) concurrency: usize,
    /// Threads for a batch of each of them, on a CPU.
    pub(crate) threads: usize,
}

/// A handle on the threads. They end by themselves when it is dropped.
#[derive(Debug)]
pub(crate) struct InferenceThreads<S> {
    jobs: Arc<Queue<Job<S>>>,
    /// The one that waits for the others before it frees.
    first: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Send + Sync + 'static> InferenceThreads<S> {
    /// Starts the first thread, which runs `load` and starts the others. What `load` returned comes
    /// by the returned function, so that the caller can do something else meanwhile.
    pub(crate) fn start<T: Send + 'static>(
        parallelism: Parallelism,
        load: impl FnOnce() -> Result<Loaded<S, T>> + Send + 'static,
    ) -> Result<(Self, impl FnOnce() -> Result<T>)> {
        let jobs = Arc::new(Queue::new());
        let (loaded, result) = channel();
        let first = thread()
            .spawn({
                let jobs = Arc::clone(&jobs);
                move || first_thread(&jobs, parallelism, load, &loaded)
            })
            .map_err(no_thread)?;
        let threads = Self { jobs, first: Mutex::new(Some(first)) };
        let gone = || Error::new(ErrorKind::Internal, "the inference thread ended while loading");
        Ok((threads, move || result.recv().unwrap_or_else(|_| Err(gone()))))
    }

    /// Queues a job. One that waits when the threads are stopped is dropped.
    pub(crate) fn submit(&self, job: Job<S>) -> Result<()> {
        self.jobs.push(job).map_err(|_| unloaded())
    }

    /// Lets the jobs that run finish, then frees what they share. Waits for the end of the threads.
    pub(crate) fn stop(&self) {
        self.jobs.close();
        // The lock is held meanwhile, so that whoever stops them too waits as well.
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = first.take() {
            // It cannot have panicked: everything that could is guarded.
            let _ = thread.join();
        }
    }
}

impl<S> Drop for InferenceThreads<S> {
    fn drop(&mut self) {
        self.jobs.close();
    }
}

/// Has what the threads share loaded, serves the queue together with the others, and frees it after the
/// last.
fn first_thread<S: Send + Sync + 'static, T: Send>(
    jobs: &Queue<Job<S>>,
    parallelism: Parallelism,
    load: impl FnOnce() -> Result<Loaded<S, T>> + Send,
    loaded: &Sender<Result<T>>,
) {
    crate::runtime::exit::enter();
    // Before libtorch starts threads, which take it over.
    lower_priority(SERVING);
    let shared = match load_apart(load) {
        Ok(Loaded { shared, value, divisible, begin }) => {
            let shared = Arc::new(shared);
            let threads = if divisible { parallelism.threads } else { 1 };
            match Workers::new(threads, &shared) {
                Ok(workers) => {
                    serve_together(jobs, parallelism, &workers, &*shared, begin, |started| {
                        let _ = loaded.send(started.map(|()| value));
                    });
                }
                Err(error) => {
                    let _ = loaded.send(Err(error));
                }
            }
            Some(shared)
        }
        Err(error) => {
            let _ = loaded.send(Err(error));
            None
        }
    };
    jobs.close();
    crate::runtime::exit::leave();
    drop(shared);
    crate::runtime::memory::give_back();
}

/// Loads on a thread of its own, at the priority of much work.
fn load_apart<S: Send, T: Send>(
    load: impl FnOnce() -> Result<Loaded<S, T>> + Send,
) -> Result<Loaded<S, T>> {
    let load = || {
        // What takes long has more threads, see `Loader::each`.
        let _settings = Settings::of_this_thread(1)?;
        crate::runtime::exit::prepare();
        let _mapped = crate::runtime::memory::MapLargeBlocks::new();
        setting_up(&LOADS, load)
    };
    let loading = || {
        lower_priority(BULK - SERVING);
        let _at_work = crate::runtime::exit::at_work();
        let loaded = guarded("loading", ErrorKind::Internal, load);
        crate::runtime::exit::prepare();
        loaded
    };
    std::thread::scope(|scope| {
        let panicked = |_| Err(Error::new(ErrorKind::Internal, "loading panicked"));
        start(scope, loading).map_err(no_thread)?.join().unwrap_or_else(panicked)
    })
}

/// Serves the queue on this thread and the others, and waits for them.
fn serve_together<S: Send + Sync + 'static>(
    jobs: &Queue<Job<S>>,
    parallelism: Parallelism,
    workers: &Workers<S>,
    shared: &S,
    begin: Option<Begin<S>>,
    started: impl FnOnce(Result<()>),
) {
    let threads = workers.threads();
    let count = if threads > 1 { parallelism.concurrency * threads } else { 0 };
    let serve = move || serve(jobs, shared, begin, workers);
    std::thread::scope(|scope| {
        let work = move || {
            lower_priority(BULK - SERVING);
            with_threads(1, || workers.work(shared));
        };
        let started_workers: io::Result<Vec<_>> = (0..count).map(|_| start(scope, work)).collect();
        let others: io::Result<Vec<_>> =
            (1..parallelism.concurrency).map(|_| start(scope, serve)).collect();
        match started_workers.and_then(|handles| Ok((handles, others?))) {
            Ok((handles, others)) => {
                started(Ok(()));
                serve();
                // The scope waits for their functions; memory that is a thread's own goes later.
                others.into_iter().for_each(|other| drop(other.join()));
                workers.dismiss();
                handles.into_iter().for_each(|worker| drop(worker.join()));
            }
            Err(error) => {
                jobs.close();
                workers.dismiss();
                started(Err(no_thread(error)));
            }
        }
    });
}

/// Starts another thread that uses libtorch.
fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread().spawn_scoped(scope, || {
        crate::runtime::exit::enter();
        let done = work();
        crate::runtime::exit::leave();
        done
    })
}

/// Runs jobs until the queue is closed.
fn serve<S>(jobs: &Queue<Job<S>>, shared: &S, begin: Option<Begin<S>>, workers: &Workers<S>) {
    with_threads(1, || {
        if let Some(begin) = begin {
            let _at_work = crate::runtime::exit::at_work();
            // If it fails, the jobs say so.
            let begin = || guarded("beginning", ErrorKind::Internal, || begin(shared, workers));
            let _ = crate::runtime::exit::prepare_during(begin);
        }
        while let Some(job) = jobs.pop() {
            run(job, shared, workers);
        }
    });
}

fn run<S>(job: Job<S>, shared: &S, workers: &Workers<S>) {
    // It covers the workers, which work while the job waits for it.
    let _at_work = crate::runtime::exit::at_work();
    // If it fails, whom it concerns knows: what the job would have answered with is dropped.
    let run = || guarded("a job", ErrorKind::Internal, || Ok(job(shared, workers)));
    let answer = setting_up(&JOBS, run);
    let _ = guarded("an answer", ErrorKind::Internal, || {
        answer?();
        Ok(())
    });
}

/// Runs `work`. The first [`FIRST_TIMES`] times, handlers for the exit are registered meanwhile: libtorch may still be
/// setting itself up.
fn setting_up<T>(count: &AtomicU32, work: impl FnOnce() -> T) -> T {
    if count.fetch_add(1, Ordering::Relaxed) < FIRST_TIMES {
        return crate::runtime::exit::prepare_during(work);
    }
    count.store(FIRST_TIMES, Ordering::Relaxed);
    let done = work();
    crate::runtime::exit::prepare();
    done
}

/// The error of whatever comes after the threads were stopped.
pub(crate) fn unloaded() -> Error {
    Error::new(ErrorKind::ModelUnloaded, "the model was unloaded; load it again")
}
