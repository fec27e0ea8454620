//! A tower's tensors on their way from the checkpoint to the exported module.

use std::cell::RefCell;
use std::ops::Range;
use std::thread::ScopedJoinHandle;

use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::settings::{Settings, thread};
use crate::towers::layers::{Dense, LayerNorm, Linear};
use crate::towers::matmul::{self, Storage};
use crate::weights::{Spare, Weights};

/// Most threads that load. Each holds plain weights, 28 MB for ViT-B/32.
const MAX_THREADS: usize = 4;

/// Reads a tower's tensors, brings them into the order and type that the device takes, and lists them:
/// in the order of reading, which is that of the exported module's arguments.
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    weights: &'a Weights,
    storage: Storage,
    /// Most threads that [`each`](Self::each) starts.
    threads: usize,
    parameters: RefCell<Vec<Tensor>>,
    spare: Spare,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(weights: &'a Weights, storage: Storage, threads: usize) -> Result<Self> {
        matmul::register()?;
        let (parameters, spare) = (RefCell::default(), Spare::default());
        Ok(Self { weights, storage, threads, parameters, spare })
    }

    /// All tensors that were kept.
    pub(crate) fn into_parameters(self) -> Vec<Tensor> {
        self.parameters.into_inner()
    }

    /// A tensor in f32 on the CPU, to compute with before it is kept.
    pub(crate) fn read(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.weights.tensor(name, shape, &self.spare)
    }

    /// Calls `load` for `0..count` on several threads. The tensors that it keeps are listed in the order of the
    /// numbers.
    pub(crate) fn each<T: Send>(
        &self,
        count: i64,
        load: impl Fn(&Loader<'_>, i64) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let (weights, storage) = (self.weights, self.storage);
        let part = |numbers: Range<i64>| {
            // One libtorch thread each: a team waits for its slowest member after every operation.
            let _settings = Settings::of_this_thread(1)?;
            let loader = Loader::new(weights, storage, 1)?;
            let loaded: Vec<T> = numbers.map(|i| load(&loader, i)).collect::<Result<_>>()?;
            Ok((loaded, loader.into_parameters()))
        };
        let size = (count as usize).div_ceil(self.threads.clamp(1, MAX_THREADS)).max(1);
        let parts: Vec<Result<_>> = std::thread::scope(|scope| {
            let start = |from: i64| {
                let numbers = from..count.min(from + size as i64);
                let own = numbers.clone();
                // Where the system grants no thread, it is done here.
                thread().spawn_scoped(scope, || part(own)).map_err(|_| part(numbers))
            };
            let threads: Vec<_> = (0..count).step_by(size).map(start).collect();
            let panicked = |_| Err(Error::new(ErrorKind::Internal, "loading a tower panicked"));
            let finish = |thread: Result<ScopedJoinHandle<'_, Result<_>>, Result<_>>| match thread {
                Ok(thread) => thread.join().unwrap_or_else(panicked),
                Err(done) => done,
            };
            threads.into_iter().map(finish).collect()
        });
        let mut all = Vec::new();
        for part in parts {
            let (loaded, parameters) = part?;
            all.extend(loaded);
            self.parameters.borrow_mut().extend(parameters);
        }
        Ok(all)
    }

    /// Calls `load` with a loader whose layers are [`fine`](Storage::fine).
    pub(crate) fn finely<T>(&self, load: impl FnOnce(&Loader<'_>) -> Result<T>) -> Result<T> {
        let loader = Loader::new(self.weights, Storage { fine: true, ..self.storage }, 1)?;
        let loaded = load(&loader)?;
        self.parameters.borrow_mut().extend(loader.into_parameters());
        Ok(loaded)
    }

    /// Reads `{name}.weight` and `{name}.bias` of a layer, to compute with before it is kept.
    pub(crate) fn dense(&self, name: &str, shape: [i64; 2]) -> Result<Dense> {
        let weight = self.read(&format!("{name}.weight"), &shape)?;
        let bias = Some(self.read(&format!("{name}.bias"), &shape[..1])?);
        Ok(Dense { weight, bias })
    }

    /// Reads and keeps a layer.
    pub(crate) fn linear(&self, name: &str, shape: [i64; 2]) -> Result<Linear> {
        self.keep_linear(self.dense(name, shape)?)
    }

    /// Reads and keeps a layer normalisation.
    pub(crate) fn norm(&self, name: &str, width: i64, eps: f64) -> Result<LayerNorm> {
        let read = |part: &str| self.keep(self.read(&format!("{name}.{part}"), &[width])?);
        Ok(LayerNorm { weight: read("weight")?, bias: read("bias")?, width, eps })
    }

    pub(crate) fn keep_linear(&self, dense: Dense) -> Result<Linear> {
        self.keep_linear_in(self.storage, dense)
    }

    /// Keeps several layers of one input as a single product, outputs one after the other.
    pub(crate) fn keep_fused<const N: usize>(&self, layers: [Dense; N]) -> Result<Linear> {
        let weights = layers.each_ref().map(|layer| &layer.weight);
        let biases: Vec<_> = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect();
        let room = self.spare.take(weights.iter().map(|weight| weight.numel()).sum())?;
        let room = room.f_view([-1, weights[0].size()[1]])?;
        let weight = Tensor::f_cat_out(&room, &weights, 0)?;
        let bias = Some(Tensor::f_cat(&biases, 0)?);
        layers.into_iter().for_each(|layer| self.spare.put(layer.weight));
        self.keep_linear(Dense { weight, bias })
    }

    /// Keeps a layer at a tower's edge, where 8 bits would cost most and gain least.
    pub(crate) fn keep_edge(&self, dense: Dense) -> Result<Linear> {
        self.keep_linear_in(self.storage.at_edges(), dense)
    }

    fn keep_linear_in(&self, storage: Storage, mut dense: Dense) -> Result<Linear> {
        let weight = storage.weight(&mut dense.weight)?;
        if weight.values.is_mkldnn() {
            // What is packed is a copy.
            self.spare.put(dense.weight);
        }
        self.list(&weight.values);
        self.list(&weight.scales);
        let bias = dense.bias.map(|bias| self.keep(bias)).transpose()?;
        Ok(Linear { weight, bias })
    }

    /// Keeps a tensor in the type that the tower computes in.
    pub(crate) fn keep(&self, tensor: Tensor) -> Result<Tensor> {
        self.keep_as(tensor, self.storage.kind())
    }

    /// Keeps a tensor in a type of its own.
    pub(crate) fn keep_as(&self, tensor: Tensor, kind: Kind) -> Result<Tensor> {
        let tensor = tensor.f_to_device(self.storage.device)?.f_to_kind(kind)?;
        self.list(&tensor);
        Ok(tensor)
    }

    fn list(&self, tensor: &Tensor) {
        self.parameters.borrow_mut().push(tensor.shallow_clone());
    }
}
