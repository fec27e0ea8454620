//! The inference threads, which share the encoders of a model.
//!
//! A fixed number of long-lived threads a model: libtorch's memory grows with the number of threads
//! that call it, and its stack does not fit a dirty scheduler's. The encoders are in memory once.
//! Several threads may run one module, as PyTorch's notes on CPU threading describe: a pass reads
//! the graph and the weights, and writes to values of its own. Callers queue jobs.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use tch::Device;

use crate::encoder::Encoders;
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::export::rehearse;
use crate::queue::Queue;
use crate::team::Team;

/// Stack of an inference thread. libtorch has been seen to overflow 320 KB.
pub(crate) const STACK: usize = 8 * 1024 * 1024;

/// Before the first load of the process.
static REHEARSAL: Once = Once::new();

/// Gets what a thread has to work with.
type Job = Box<dyn FnOnce(&Encoders, &Team) + Send>;

/// How a model's inference is spread over threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Concurrency {
    /// Inference threads.
    pub(crate) copies: usize,
    /// Threads for a batch of each of them, on a CPU.
    pub(crate) threads: usize,
}

/// A handle on the threads that share the encoders. They end by themselves when it is dropped.
#[derive(Debug)]
pub(crate) struct InferenceThreads {
    queue: Arc<Queue<Job>>,
    /// The one that loads, and that waits for the others before it frees.
    first: Mutex<Option<JoinHandle<()>>>,
}

impl InferenceThreads {
    /// Starts the first thread, which runs `load` and starts the others. What `load` returned comes
    /// by the returned function, so that the caller can do something else meanwhile.
    pub(crate) fn start<T: Send + 'static>(
        concurrency: Concurrency,
        load: impl FnOnce() -> Result<(Encoders, T)> + Send + 'static,
    ) -> Result<(Self, impl FnOnce() -> Result<T>)> {
        let queue = Arc::new(Queue::new());
        let (loaded, result) = channel();
        let first = thread()
            .spawn({
                let queue = Arc::clone(&queue);
                move || first_thread(&queue, concurrency, load, &loaded)
            })
            .map_err(no_thread)?;
        let threads = Self { queue, first: Mutex::new(Some(first)) };
        let gone = || Error::new(ErrorKind::Internal, "the inference thread ended while loading");
        Ok((threads, move || result.recv().unwrap_or_else(|_| Err(gone()))))
    }

    /// Queues a job. One that waits when the threads are stopped is dropped.
    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        if self.queue.push(job) { Ok(()) } else { Err(unloaded()) }
    }

    /// Lets the jobs that run finish, then frees the encoders. Waits for the end of the threads.
    pub(crate) fn stop(&self) {
        self.queue.close();
        // The lock is held meanwhile, so that whoever stops them too waits as well.
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = first.take() {
            // It cannot have panicked: everything that could is guarded.
            let _ = thread.join();
        }
    }
}

impl Drop for InferenceThreads {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Loads the encoders, serves the queue together with the other threads, and frees them after the
/// last.
fn first_thread<T>(
    queue: &Queue<Job>,
    concurrency: Concurrency,
    load: impl FnOnce() -> Result<(Encoders, T)>,
    loaded: &Sender<Result<T>>,
) {
    // Before libtorch starts threads, and the others are started: they are as it is.
    clip::priority::step_back();
    crate::exit::enter();
    let loading = crate::exit::at_work();
    let load = || {
        let _settings = Settings::of_this_thread(concurrency.threads)?;
        crate::exit::prepare();
        REHEARSAL.call_once(|| {
            let rehearse = || guarded("a rehearsal", ErrorKind::Torch, rehearse);
            let _ = crate::exit::prepare_during(rehearse);
        });
        load()
    };
    let (encoders, value) = match guarded("loading", ErrorKind::Internal, load) {
        Ok(both) => both,
        Err(error) => {
            let _ = loaded.send(Err(error));
            drop(loading);
            return crate::exit::leave();
        }
    };
    crate::exit::prepare();
    // Not before: weights that come from the system each for itself go back to it whole.
    crate::memory::keep_what_is_freed();
    drop(loading);
    serve_together(queue, concurrency, &encoders, |started| {
        let _ = loaded.send(started.map(|()| value));
    });
    crate::exit::leave();
    drop(encoders);
    crate::memory::give_back();
}

/// Serves the queue on this thread and the others, and waits for them.
fn serve_together(
    queue: &Queue<Job>,
    concurrency: Concurrency,
    encoders: &Encoders,
    started: impl FnOnce(Result<()>),
) {
    // Threads divide what the CPU computes.
    let threads = if encoders.device == Device::Cpu { concurrency.threads } else { 1 };
    let team = &Team::new(threads);
    let workers = if threads > 1 { concurrency.copies * threads } else { 0 };
    let serve = move || serve(queue, concurrency.threads, encoders, team);
    std::thread::scope(|scope| {
        let team_work = move || with_threads(1, || team.work(encoders));
        let workers: io::Result<Vec<_>> = (0..workers).map(|_| start(scope, team_work)).collect();
        let others: io::Result<Vec<_>> =
            (1..concurrency.copies).map(|_| start(scope, serve)).collect();
        match workers.and_then(|workers| Ok((workers, others?))) {
            Ok((workers, others)) => {
                started(Ok(()));
                serve();
                // The scope waits for their functions; memory that is a thread's own goes later.
                others.into_iter().for_each(|other| drop(other.join()));
                team.dismiss();
                workers.into_iter().for_each(|worker| drop(worker.join()));
            }
            Err(error) => {
                queue.close();
                team.dismiss();
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
        crate::exit::enter();
        work();
        crate::exit::leave();
    })
}

/// Runs jobs until the queue is closed.
fn serve(queue: &Queue<Job>, threads: usize, encoders: &Encoders, team: &Team) {
    let run = |job: Job| {
        // It covers the team, which works while the job waits for it.
        let _at_work = crate::exit::at_work();
        // Whom it concerns knows: what the job would have answered with is dropped.
        let _ = guarded("a job", ErrorKind::Internal, || {
            job(encoders, team);
            Ok(())
        });
        crate::exit::prepare();
    };
    with_threads(threads, || {
        while let Some(job) = queue.pop() {
            run(job);
        }
    });
}

/// Does the work of a thread of a model, with so many threads inside libtorch.
fn with_threads(threads: usize, work: impl FnOnce()) {
    // Nothing in it is known to fail; if it does, there is one thread less.
    let _ = guarded("serving", ErrorKind::Internal, || {
        let _settings = Settings::of_this_thread(threads)?;
        work();
        Ok(())
    });
}

/// What libtorch keeps for each thread.
struct Settings {
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
    fn of_this_thread(threads: usize) -> Result<Self> {
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
