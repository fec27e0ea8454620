//! The inference thread, which owns the encoders.
//!
//! One long-lived thread a model: libtorch's memory grows with the number of threads that call it,
//! its stack does not fit a dirty scheduler's, and its modules are not safe to share. Callers send
//! a job and wait.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tch::{CModule, Device, Kind, Tensor};

use crate::error::{Error, ErrorKind, Result, guarded};

/// Stack of the inference thread. libtorch has been seen to overflow 320 KB.
pub(crate) const STACK: usize = 8 * 1024 * 1024;

/// Pictures of one forward pass: more is no faster on a CPU, and memory grows with it.
const MAX_IMAGES_CPU: usize = 64;
/// The same on a GPU, which is idle below it.
const MAX_IMAGES_GPU: usize = 256;
/// Tokens of one forward pass of the text tower.
const MAX_TOKENS: usize = 8_192;

/// The exported towers on their device. Owned by one thread.
#[derive(Debug)]
pub(crate) struct Encoders {
    pub(crate) image: CModule,
    pub(crate) text: CModule,
    pub(crate) device: Device,
    /// Components of an embedding, where a user exported the encoders: then what they give is
    /// checked and scaled.
    pub(crate) foreign: Option<i64>,
}

impl Encoders {
    /// u8 pixels `[n, 3, side, side]` to embeddings `[n, dim]`, row after row.
    pub(crate) fn images(&self, pixels: &[u8], side: i64) -> Result<Vec<f32>> {
        let most = if self.device.is_cuda() { MAX_IMAGES_GPU } else { MAX_IMAGES_CPU };
        let picture = (3 * side * side) as usize;
        let mut embeddings = Vec::new();
        for chunk in pixels.chunks(most * picture) {
            let shape = [(chunk.len() / picture) as i64, 3, side, side];
            let input = crate::tensor::from_bytes(chunk, &shape, Kind::Uint8)?;
            embeddings.extend(self.forward(&self.image, &input)?);
        }
        Ok(embeddings)
    }

    /// Rows of token ids to `[rows, dim]`, row after row. Rows of one length share a pass.
    pub(crate) fn texts(&self, rows: &[Vec<u32>], dim: usize) -> Result<Vec<f32>> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|i| rows[*i].len());
        let mut embeddings = vec![0f32; rows.len() * dim];
        for group in order.chunk_by(|a, b| rows[*a].len() == rows[*b].len()) {
            for batch in group.chunks((MAX_TOKENS / rows[group[0]].len().max(1)).max(1)) {
                let input: Vec<&[u32]> = batch.iter().map(|i| rows[*i].as_slice()).collect();
                let output = self.forward(&self.text, &crate::tensor::from_rows(&input)?)?;
                for (i, embedding) in batch.iter().zip(output.chunks(dim)) {
                    embeddings[i * dim..][..dim].copy_from_slice(embedding);
                }
            }
        }
        Ok(embeddings)
    }

    fn forward(&self, encoder: &CModule, input: &Tensor) -> Result<Vec<f32>> {
        let output = encoder.forward_ts(&[input.f_to_device(self.device)?])?;
        match self.foreign {
            None => crate::tensor::to_f32(&output),
            Some(dim) => {
                crate::tensor::to_f32(&crate::torchscript::unit(&output, input.size()[0], dim)?)
            }
        }
    }
}

type Job = Box<dyn FnOnce(&Encoders) + Send>;

/// A handle on the thread that owns the encoders.
#[derive(Debug)]
pub(crate) struct InferenceThread {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl InferenceThread {
    /// Starts the thread, which runs `load` first. Its result comes by the returned function, so
    /// that the caller can do something else meanwhile.
    pub(crate) fn start<T: Send + 'static>(
        load: impl FnOnce() -> Result<(Encoders, T)> + Send + 'static,
    ) -> Result<(Self, impl FnOnce() -> Result<T>)> {
        let (jobs, queue) = channel::<Job>();
        let (loaded, result) = channel();
        let thread = std::thread::Builder::new()
            .name("clip-inference".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                // Thread-local, and without it every pass would keep what a gradient needs.
                let _no_grad = tch::no_grad_guard();
                let loading = crate::exit::at_work();
                let encoders = match guarded("loading", ErrorKind::Internal, load) {
                    Ok((encoders, value)) => {
                        crate::exit::wait_at_exit();
                        let _ = loaded.send(Ok(value));
                        encoders
                    }
                    Err(error) => {
                        let _ = loaded.send(Err(error));
                        return;
                    }
                };
                drop(loading);
                for job in queue {
                    let _at_work = crate::exit::at_work();
                    job(&encoders);
                }
                let _at_work = crate::exit::at_work();
                drop(encoders);
                give_back_memory();
            })
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")))?;
        let handle = Self { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) };
        Ok((handle, move || result.recv().unwrap_or_else(|_| Err(gone()))))
    }

    /// Runs a job on the thread and waits for it. A panic in it comes back as an error.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Encoders) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = channel();
        let job: Job = Box::new(move |encoders| {
            // Nobody listens if the caller's thread is gone; that is not the job's fault.
            let _ = reply.send(guarded("inference", ErrorKind::Internal, || job(encoders)));
        });
        let sent = match lock(&self.jobs).as_ref() {
            Some(jobs) => jobs.send(job),
            None => return Err(unloaded()),
        };
        sent.map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Lets the jobs before it finish, then frees the encoders. Waits for the end of the thread.
    pub(crate) fn stop(&self) {
        drop(lock(&self.jobs).take());
        if let Some(thread) = lock(&self.thread).take() {
            // It cannot have panicked: everything that could is guarded.
            let _ = thread.join();
        }
    }
}

/// Gives freed memory back to the system. glibc keeps a third of a model otherwise, for the next
/// one.
#[allow(unsafe_code)]
fn give_back_memory() {
    // SAFETY: it looks through the allocator's own lists, under the allocator's locks.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Locks without a way to fail: what is inside is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unloaded() -> Error {
    Error::new(ErrorKind::ModelUnloaded, "the model was unloaded; load it again")
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the inference thread is gone; load the model again")
}
