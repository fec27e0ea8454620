//! How a model is loaded.

use std::path::PathBuf;
use std::thread::available_parallelism;

use tch::Device;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::device::DeviceRequest;
use crate::runtime::precision::{self, Precision, PrecisionRequest};
use crate::runtime::threads::Parallelism;

/// Most inference threads of a model, and most threads inside libtorch for each. OpenMP ends the
/// process where the system refuses it a thread.
const MAX_THREADS: usize = 1024;

/// How to load a model.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where its encoders run.
    pub device: DeviceRequest,
    /// Where exported encoders are kept. Without it they are made by every load.
    pub cache: Option<PathBuf>,
    /// A directory with encoders that the user exported, `image.pt` and `text.pt`, to use instead
    /// of ours. TorchScript is a program and runs with the rights of this process: name nothing
    /// that you would not run.
    pub torchscript: Option<PathBuf>,
    /// What our encoders compute in. Encoders of the user compute in what they were exported with.
    pub precision: PrecisionRequest,
    /// How many calls run at once, at least 1: a thread each, on one set of encoders.
    pub concurrency: usize,
    /// How many threads a call is spread over on the CPU, at least 1.
    pub threads: usize,
}

impl LoadOptions {
    /// Our own encoders in f32 on this device, exported ones kept in this directory, and one call at a
    /// time on all processors.
    pub fn new(device: DeviceRequest, cache: impl Into<PathBuf>) -> Self {
        let threads = available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        Self {
            device,
            cache: Some(cache.into()),
            torchscript: None,
            precision: PrecisionRequest::default(),
            concurrency: 1,
            threads,
        }
    }

    /// The precision on a device. Of encoders that the user exported it is not for us to choose.
    pub(super) fn precision(&self, device: Device, in_half: bool) -> Result<Option<Precision>> {
        match (&self.torchscript, self.precision) {
            (None, request) => precision::choose(request, device, in_half).map(Some),
            (Some(_), PrecisionRequest::Auto | PrecisionRequest::Exactly(Precision::F32)) => {
                Ok(None)
            }
            (Some(_), PrecisionRequest::Exactly(precision)) => {
                let name = precision.name();
                let message = format!(
                    "precision {name} is for encoders made here; those of your own compute in what they \
                     were exported with, so leave the precision out"
                );
                Err(Error::new(ErrorKind::InvalidArgument, message))
            }
        }
    }

    pub(super) fn parallelism(&self) -> Result<Parallelism> {
        for (name, number) in [("concurrency", self.concurrency), ("threads", self.threads)] {
            if !(1..=MAX_THREADS).contains(&number) {
                let message = format!("expected {name} to be 1 to {MAX_THREADS}, got {number}");
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        }
        Ok(Parallelism { concurrency: self.concurrency, threads: self.threads })
    }
}
