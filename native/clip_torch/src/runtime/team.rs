//! The threads that compute a pass together, of all models of the process.
//!
//! For one picture or some labels, a team of OpenMP threads divides each of some hundred operations. As long as such a
//! pass takes, the team spins until its next part comes: to wake a thread takes as long as a part, and one thread alone
//! would be faster (bench/README.md). But libgomp lets no team spin while the process has more threads in teams than
//! cores. So nothing else here has a team, and models with as many threads share one. Who finds it at work does not
//! wait for another model's pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::queue::Queue;
use crate::runtime::settings::{no_thread, thread, with_threads};

type Pass = Box<dyn FnOnce() + Send>;

/// A handle on a team, which ends with the last handle.
#[derive(Debug)]
pub(crate) struct Team {
    passes: Arc<Queue<Pass>>,
    at_work: AtomicBool,
}

/// The right to the team's next pass.
pub(crate) struct Turn<'a>(&'a Team);

/// Those that there are, by their number of threads.
static TEAMS: Mutex<Vec<(usize, Weak<Team>)>> = Mutex::new(Vec::new());

impl Team {
    /// The team of so many threads, which is started if there is none.
    pub(crate) fn of(threads: usize) -> Result<Arc<Self>> {
        let mut teams = TEAMS.lock().unwrap_or_else(PoisonError::into_inner);
        teams.retain(|(_, team)| team.strong_count() > 0);
        let same = teams.iter().find(|(of, _)| *of == threads);
        if let Some(team) = same.and_then(|(_, team)| team.upgrade()) {
            return Ok(team);
        }
        let team = Arc::new(Self::start(threads)?);
        teams.push((threads, Arc::downgrade(&team)));
        Ok(team)
    }

    fn start(threads: usize) -> Result<Self> {
        let passes = Arc::new(Queue::<Pass>::new());
        let (begun, has_begun) = channel();
        let queue = Arc::clone(&passes);
        let serve = move || {
            crate::runtime::exit::enter();
            with_threads(threads, || {
                // If it fails, the first pass begins.
                let _ = guarded("beginning", ErrorKind::Internal, || begin(threads));
                crate::runtime::exit::prepare();
                let _ = begun.send(());
                while let Some(pass) = queue.pop() {
                    pass();
                }
            });
            // What comes now gets an error at once instead of no answer.
            queue.close();
            crate::runtime::exit::leave();
        };
        thread().spawn(serve).map_err(no_thread)?;
        // Then the number of threads does not grow any more.
        has_begun.recv().map_err(|_| ended())?;
        Ok(Self { passes, at_work: AtomicBool::new(false) })
    }

    /// Nothing while the team is at work.
    pub(crate) fn turn(&self) -> Option<Turn<'_>> {
        (!self.at_work.swap(true, Ordering::Acquire)).then_some(Turn(self))
    }
}

impl Turn<'_> {
    /// Runs a pass and waits for it.
    pub(crate) fn run<T: Send + 'static>(
        self,
        pass: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = channel();
        let pass = move || drop(reply.send(guarded("inference", ErrorKind::Internal, pass)));
        self.0.passes.push(Box::new(pass)).map_err(|_| ended())?;
        answer.recv().unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.at_work.store(false, Ordering::Release);
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.passes.close();
    }
}

/// The libtorch of the team's thread could not be set up. Nothing is known to make that fail.
fn ended() -> Error {
    Error::new(ErrorKind::Internal, "the threads that compute small requests together have ended")
}

/// Starts the calling thread's team, by an operation that is large enough for all of it.
fn begin(threads: usize) -> Result<()> {
    /// Elements for which libtorch takes a thread (`at::internal::GRAIN_SIZE`).
    const GRAIN: i64 = 32_768;
    let _at_work = crate::runtime::exit::at_work();
    let bytes = Tensor::f_zeros([GRAIN * threads as i64], (Kind::Uint8, Device::Cpu))?;
    let _ = bytes.f_add_scalar(1)?;
    Ok(())
}
