//! Threads that divide the passes of a batch among themselves.
//!
//! Threads that work on each matrix product together wait for one another after it, and for
//! whatever else the system runs on their cores. Those that each compute passes of their own wait
//! once a batch, which makes up to a quarter more pictures a second (bench/README.md). What is less
//! than a pass for each thread goes the other way: a lone picture is sooner there.

use std::sync::Arc;
use std::sync::mpsc::channel;

use tch::Tensor;

use crate::error::{Error, ErrorKind, Result, guarded};
use crate::runtime::queue::Queue;
use crate::runtime::team::Team;
use crate::tensor::to_f32;

/// The inputs of a pass.
type Inputs = Vec<Tensor>;
type Embeddings = Vec<f32>;

/// Work of one thread, on what the threads share.
type Part<S> = Box<dyn FnOnce(&S) + Send>;

/// The passes that wait for a thread. `S` is what the threads share.
#[derive(Debug)]
pub(crate) struct Workers<S> {
    parts: Queue<Part<S>>,
    threads: usize,
    /// Where there is more than one thread, those that work together, and what they work on.
    together: Option<(Arc<Team>, Arc<S>)>,
}

impl<S: Send + Sync + 'static> Workers<S> {
    /// Workers for batches that as many threads may work on. One needs no thread of its own.
    pub(crate) fn new(threads: usize, shared: &Arc<S>) -> Result<Self> {
        let team = (threads > 1).then(|| Team::of(threads)).transpose()?;
        let together = team.map(|team| (team, Arc::clone(shared)));
        Ok(Self { parts: Queue::new(), threads, together })
    }

    /// How many threads may work on a batch.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Runs passes: each on a worker of its own, if there are enough for all of them, or else
    /// one after the other.
    pub(crate) fn map(
        &self,
        shared: &S,
        passes: impl ExactSizeIterator<Item = Result<Inputs>>,
        run: fn(&S, &[Tensor]) -> Result<Tensor>,
    ) -> Result<Vec<Embeddings>> {
        if self.threads > 1 && passes.len() < self.threads {
            return passes.map(|inputs| self.small(shared, inputs?, run)).collect();
        }
        if self.threads == 1 {
            // All begin before the first is read: a GPU computes one while the next is prepared.
            let outputs = passes.map(|inputs| run(shared, &inputs?)).collect::<Result<Vec<_>>>()?;
            return outputs.iter().map(to_f32).collect();
        }
        let mut outputs: Vec<_> = (0..passes.len()).map(|_| Err(gone())).collect();
        let (reply, answers) = channel();
        for (i, inputs) in passes.enumerate() {
            let inputs = match inputs {
                Ok(inputs) => inputs,
                Err(error) => {
                    outputs[i] = Err(error);
                    continue;
                }
            };
            let reply = reply.clone();
            let part = move |shared: &S| {
                let run = || to_f32(&run(shared, &inputs)?);
                let output = guarded("inference", ErrorKind::Internal, run);
                // Before the answer, with which the exit of the process may go on.
                drop(inputs);
                let _ = reply.send((i, output));
            };
            // From a closed queue the part comes back, and with it its end of the channel goes.
            drop(self.parts.push(Box::new(part)));
        }
        drop(reply);
        // Until the last has ended, whatever became of it: this thread is at work for all.
        for (i, output) in answers {
            outputs[i] = output;
        }
        outputs.into_iter().collect()
    }

    /// Runs a pass on the team, or on this thread alone while the team is at work or rests.
    fn small(
        &self,
        shared: &S,
        inputs: Inputs,
        run: fn(&S, &[Tensor]) -> Result<Tensor>,
    ) -> Result<Embeddings> {
        let together = self.together.as_ref();
        match together.and_then(|(team, own)| Some((team.turn()?, Arc::clone(own)))) {
            Some((turn, own)) => turn.run(move || to_f32(&run(&own, &inputs)?)),
            None => to_f32(&run(shared, &inputs)?),
        }
    }

    /// Works until the workers are dismissed, on a thread that libtorch may use alone.
    pub(crate) fn work(&self, shared: &S) {
        while let Some(part) = self.parts.pop() {
            part(shared);
        }
    }

    /// Lets the workers end.
    pub(crate) fn dismiss(&self) {
        self.parts.close();
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the threads that were to run a part of the batch have ended")
}
