//! The inference threads, which share the encoders of a model.
//!
//! A fixed number of long-lived threads a model: libtorch's memory grows with the number of threads
//! that call it, and its stack does not fit a dirty scheduler's. The encoders are in memory once.
//! Several threads may run one module, as PyTorch's notes on CPU threading describe: a pass reads
//! the graph and the weights, and writes to values of its own. Callers queue jobs.
//!
//! On a CPU, one more thread runs a brief job that comes while no other is unfinished. Its priority is
//! higher, so that a lone picture does not wait behind busy schedulers. Callers with much work gain nothing by it.

use std::io;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use clip::priority::{BRIEF, BULK, lower_priority};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::queue::Queue;
use crate::runtime::workers::Workers;

/// Stack of an inference thread. libtorch has been seen to overflow 320 KB.
pub(crate) const STACK: usize = 8 * 1024 * 1024;

/// Loads and jobs of the process, up to [`FIRST_TIMES`].
static LOADS: AtomicU32 = AtomicU32::new(0);
static JOBS: AtomicU32 = AtomicU32::new(0);
/// In these, libtorch uses most of its parts for the first time.
const FIRST_TIMES: u32 = 16;

/// Gets what the threads share, and the workers that divide a batch.
pub(crate) type Job<S> = Box<dyn FnOnce(&S, &Workers<S>) -> Answer + Send>;

/// Sends the result of a job. It runs when the job counts as finished, so that a caller who submits the next
/// job at once finds the model idle.
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

/// Jobs on their way, and how many of them there are.
#[derive(Debug)]
struct Jobs<S> {
    /// For the thread of brief jobs, one at a time; closed where there is none.
    brief: Queue<Job<S>>,
    /// For the others.
    bulk: Queue<Job<S>>,
    /// That wait or run.
    unfinished: AtomicUsize,
}

impl<S> Jobs<S> {
    fn new() -> Self {
        Self { brief: Queue::new(), bulk: Queue::new(), unfinished: AtomicUsize::new(0) }
    }

    /// Whether a queue took it: closed ones take nothing.
    fn push(&self, job: Job<S>, is_brief: bool) -> bool {
        let is_alone = self.unfinished.fetch_add(1, Ordering::Relaxed) == 0;
        let pushed = if is_brief && is_alone { self.brief.push(job) } else { Err(job) };
        pushed.or_else(|job| self.bulk.push(job)).is_ok()
    }

    /// Lets the thread of brief jobs start its threads inside libtorch, if it runs, and waits for that: otherwise
    /// the first brief job would, and the number of threads would depend on what is asked of the model.
    fn begin_brief(&self, threads: usize) {
        let (begun, has_begun) = channel();
        let job: Job<S> = Box::new(move |_, _| {
            let _ = start_team(threads);
            Box::new(move || {
                let _ = begun.send(());
            })
        });
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        match self.brief.push(job) {
            Ok(()) => {
                let _ = has_begun.recv();
            }
            Err(_) => self.finished(),
        }
    }

    fn finished(&self) {
        self.unfinished.fetch_sub(1, Ordering::Relaxed);
    }

    /// Drops what waits, and takes nothing any more.
    fn close(&self) {
        self.brief.close();
        self.bulk.close();
    }
}

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
    jobs: Arc<Jobs<S>>,
    /// The one that loads, and that waits for the others before it frees.
    first: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Send + Sync + 'static> InferenceThreads<S> {
    /// Starts the first thread, which runs `load` and starts the others. What `load` returned comes
    /// by the returned function, so that the caller can do something else meanwhile.
    pub(crate) fn start<T: Send + 'static>(
        parallelism: Parallelism,
        load: impl FnOnce() -> Result<Loaded<S, T>> + Send + 'static,
    ) -> Result<(Self, impl FnOnce() -> Result<T>)> {
        let jobs = Arc::new(Jobs::new());
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
    pub(crate) fn submit(&self, job: Job<S>, is_brief: bool) -> Result<()> {
        if self.jobs.push(job, is_brief) { Ok(()) } else { Err(unloaded()) }
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

/// Loads what the threads share, serves the queue together with the others, and frees it after the
/// last.
fn first_thread<S: Send + Sync + 'static, T>(
    jobs: &Jobs<S>,
    parallelism: Parallelism,
    load: impl FnOnce() -> Result<Loaded<S, T>>,
    loaded: &Sender<Result<T>>,
) {
    crate::runtime::exit::enter();
    let shared = OnceLock::new();
    std::thread::scope(|scope| {
        // Before the priority of this thread falls, which the others take over and nothing raises again.
        let brief = start(scope, || serve_brief(jobs, parallelism.threads, &shared));
        if brief.is_err() {
            jobs.brief.close();
        }
        // Before libtorch starts threads.
        lower_priority(BULK);
        load_and_serve(jobs, parallelism, load, loaded, &shared);
        jobs.close();
        // The scope waits for its function; memory that is a thread's own goes later.
        brief.into_iter().for_each(|thread| drop(thread.join()));
    });
    crate::runtime::exit::leave();
    drop(shared);
    crate::runtime::memory::give_back();
}

fn load_and_serve<S: Send + Sync + 'static, T>(
    jobs: &Jobs<S>,
    parallelism: Parallelism,
    load: impl FnOnce() -> Result<Loaded<S, T>>,
    loaded: &Sender<Result<T>>,
    shared: &OnceLock<S>,
) {
    let loading = crate::runtime::exit::at_work();
    let load = || {
        let _settings = Settings::of_this_thread(parallelism.threads)?;
        crate::runtime::exit::prepare();
        let _mapped = crate::runtime::memory::MapLargeBlocks::new();
        setting_up(&LOADS, load)
    };
    let Loaded { shared: encoders, value, divisible, begin } =
        match guarded("loading", ErrorKind::Internal, load) {
            Ok(loaded) => loaded,
            Err(error) => {
                let _ = loaded.send(Err(error));
                return;
            }
        };
    crate::runtime::exit::prepare();
    drop(loading);
    let shared = shared.get_or_init(|| encoders);
    if divisible {
        jobs.begin_brief(parallelism.threads);
    } else {
        // The priority of a thread makes no GPU faster.
        jobs.brief.close();
    }
    let threads = if divisible { parallelism.threads } else { 1 };
    serve_together(jobs, parallelism, threads, shared, begin, |started| {
        let _ = loaded.send(started.map(|()| value));
    });
}

/// Serves the queue on this thread and the others, and waits for them.
fn serve_together<S: Sync + 'static>(
    jobs: &Jobs<S>,
    parallelism: Parallelism,
    threads: usize,
    shared: &S,
    begin: Option<Begin<S>>,
    started: impl FnOnce(Result<()>),
) {
    let workers = &Workers::new(threads);
    let count = if threads > 1 { parallelism.concurrency * threads } else { 0 };
    let serve = move || serve(jobs, parallelism.threads, shared, begin, workers);
    std::thread::scope(|scope| {
        let work = move || with_threads(1, || workers.work(shared));
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
fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, ()>> {
    thread().spawn_scoped(scope, || {
        crate::runtime::exit::enter();
        work();
        crate::runtime::exit::leave();
    })
}

/// Runs jobs until the queue is closed.
fn serve<S>(
    jobs: &Jobs<S>,
    threads: usize,
    shared: &S,
    begin: Option<Begin<S>>,
    workers: &Workers<S>,
) {
    with_threads(threads, || {
        if let Some(begin) = begin {
            let _at_work = crate::runtime::exit::at_work();
            // If it fails, the jobs say so.
            let begin = || guarded("beginning", ErrorKind::Internal, || begin(shared, workers));
            let _ = crate::runtime::exit::prepare_during(begin);
        }
        while let Some(job) = jobs.bulk.pop() {
            run(job, jobs, shared, workers);
        }
    });
}

/// Runs brief jobs until their queue is closed. `shared` is there before the first comes.
fn serve_brief<S: 'static>(jobs: &Jobs<S>, threads: usize, shared: &OnceLock<S>) {
    lower_priority(BRIEF);
    let Some(first) = jobs.brief.pop() else { return };
    let Some(shared) = shared.get() else { return };
    // It does not divide a batch, of which it gets none.
    let workers = &Workers::new(1);
    with_threads(threads, || {
        run(first, jobs, shared, workers);
        while let Some(job) = jobs.brief.pop() {
            run(job, jobs, shared, workers);
        }
    });
}

fn run<S>(job: Job<S>, jobs: &Jobs<S>, shared: &S, workers: &Workers<S>) {
    // It covers the workers, which work while the job waits for it.
    let _at_work = crate::runtime::exit::at_work();
    // If it fails, whom it concerns knows: what the job would have answered with is dropped.
    let run = || guarded("a job", ErrorKind::Internal, || Ok(job(shared, workers)));
    let answer = setting_up(&JOBS, run);
    jobs.finished();
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

/// Starts the calling thread's team of OpenMP, by an operation that is large enough for all of it.
fn start_team(threads: usize) -> Result<()> {
    /// Elements for which libtorch takes a thread (`at::internal::GRAIN_SIZE`).
    const GRAIN: i64 = 32_768;
    let bytes = Tensor::f_zeros([GRAIN * threads as i64], (Kind::Uint8, Device::Cpu))?;
    let _ = bytes.f_add_scalar(1)?;
    Ok(())
}

/// Does the work of a thread of a model, with so many threads inside libtorch.
fn with_threads(threads: usize, work: impl FnOnce()) {
    // Nothing in it is known to fail; if it does, there is one thread less.
    let _ = guarded("serving", ErrorKind::Internal, || {
        let _settings = {
            let _at_work = crate::runtime::exit::at_work();
            Settings::of_this_thread(threads)?
        };
        work();
        Ok(())
    });
}

/// What libtorch keeps for each thread.
pub(crate) struct Settings {
    /// Without it every pass would keep what a gradient needs.
    _no_grad: tch::NoGradGuard,
}

impl Settings {
    /// Sets this thread's number of threads, which each must do for itself: OpenMP and MKL keep it
    /// for each thread that calls them.
    ///
    /// libtorch keeps the last number of the whole process too, and a thread takes that one over
    /// at its first operation. To ask is such an operation: it comes first, so that no later one
    /// undoes the setting.
    pub(crate) fn of_this_thread(threads: usize) -> Result<Self> {
        guarded("setting the number of threads", ErrorKind::Torch, || {
            tch::get_num_threads();
            tch::set_num_threads(threads as i32);
            Ok(Self { _no_grad: tch::no_grad_guard() })
        })
    }
}

fn thread() -> Builder {
    Builder::new().name("clip-inference".to_owned()).stack_size(STACK)
}

fn no_thread(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot start an inference thread: {error}"))
        .with_source(error)
}

/// The error of whatever comes after the threads were stopped.
pub(crate) fn unloaded() -> Error {
    Error::new(ErrorKind::ModelUnloaded, "the model was unloaded; load it again")
}
