//! The exported towers: pixels and token ids in, embeddings out.

use tch::{CModule, Device, Tensor};

use crate::encoders::parts::Parts;
use crate::encoders::table::Table;
use crate::error::Result;
use crate::runtime::workers::Workers;

/// Pictures of one forward pass: more is not faster on a CPU, and memory grows with it.
const MAX_IMAGES_CPU: usize = 64;
/// The same on a GPU, which computes one pass while the next is copied (bench/README.md).
const MAX_IMAGES_GPU: usize = 128;
/// The same where each thread computes passes alone. With 16, which take as long, each thread keeps 25 MB more for
/// ViT-B/32 (bench/README.md).
const MAX_IMAGES_THREAD: usize = 8;
/// Pictures for each thread, at least: with fewer, they work on each pass together. Two threads are
/// faster apart with one each too, by a tenth; for many threads that has not been measured.
const MIN_IMAGES_THREAD: usize = 2;

/// A tower as TorchScript.
#[derive(Debug)]
pub(crate) struct Encoder {
    pub(crate) module: CModule,
    pub(crate) parameters: Parameters,
}

/// The tensors that an encoder takes after its inputs: packed weights cannot be saved in a module.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Vec<Tensor>);

// SAFETY: they are only read after they were made, and libtorch counts references atomically. Modules,
// which hold tensors in the same way, are `Sync` in tch.
#[allow(unsafe_code)]
unsafe impl Sync for Parameters {}

impl Parameters {
    pub(crate) fn new(tensors: Vec<Tensor>) -> Self {
        Self(tensors)
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.0
    }

    /// Runs a module that takes them.
    pub(crate) fn apply(&self, module: &CModule, inputs: &[Tensor]) -> Result<Tensor> {
        let all: Vec<&Tensor> = inputs.iter().chain(&self.0).collect();
        Ok(module.forward_ts(&all)?)
    }

    /// What they hold.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let bytes =
            |tensor: &Tensor| Ok((tensor.numel() * tensor.f_kind()?.elt_size_in_bytes()) as u64);
        self.0.iter().map(bytes).sum()
    }
}

/// The exported towers on their device.
#[derive(Debug)]
pub(crate) struct Encoders {
    pub(crate) image: Encoder,
    pub(crate) text: Encoder,
    /// Where passes of the text encoder bring the rows of their tokens.
    pub(crate) table: Option<Table>,
    /// The image tower that tells which parts of a picture its embedding comes from. It takes the
    /// parameters of `image`.
    pub(crate) parts: Parts,
    pub(crate) device: Device,
    /// Of the pictures that the image tower takes, in pixels.
    pub(crate) side: i64,
    pub(crate) contract: Contract,
    /// What they hold.
    pub(crate) bytes: u64,
}

type Divide = fn(&[Vec<u32>], Device, threads: usize) -> Result<Vec<TextPass>>;

/// What whoever exported the towers says of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contract {
    /// Divides rows of token ids, none of them empty, into passes of the text encoder.
    /// So many threads can compute passes of their own.
    pub(crate) passes: Divide,
    /// Makes unit embeddings of an encoder's output for so many inputs.
    pub(crate) finish: fn(Tensor, inputs: i64, dim: i64) -> Result<Tensor>,
    /// Components of an embedding.
    pub(crate) dim: i64,
}

/// One forward pass of the text encoder.
#[derive(Debug)]
pub(crate) struct TextPass {
    pub(crate) inputs: Vec<Tensor>,
    /// For each embedding that comes out, whose it is.
    pub(crate) rows: Vec<usize>,
}

impl Encoders {
    /// Makes a GPU's libraries ready for this thread while there is memory: cuBLAS keeps some for each.
    pub(crate) fn begin(&self, workers: &Workers<Self>) -> Result<()> {
        let pixels = vec![0; (3 * self.side * self.side) as usize];
        self.images(workers, &[&pixels]).map(drop)
    }

    /// Pictures of u8 pixels `[3, side, side]` to embeddings `[n, dim]`, row after row.
    pub(crate) fn images(&self, workers: &Workers<Self>, pictures: &[&[u8]]) -> Result<Vec<f32>> {
        let run = |encoders: &Self, inputs: &[Tensor]| encoders.forward(&encoders.image, inputs);
        self.each_pass(workers, pictures, run)
    }

    /// The same to the parts of their embeddings, `[n, 1 + patches, dim]`.
    pub(crate) fn image_parts(
        &self,
        workers: &Workers<Self>,
        pictures: &[&[u8]],
    ) -> Result<Vec<f32>> {
        let run = |encoders: &Self, inputs: &[Tensor]| {
            let inputs = encoders.on_device(inputs)?;
            encoders.image.parameters.apply(encoders.parts.module()?, &inputs)
        };
        self.each_pass(workers, pictures, run)
    }

    fn each_pass(
        &self,
        workers: &Workers<Self>,
        pictures: &[&[u8]],
        run: fn(&Self, &[Tensor]) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let passes = self.passes(workers.threads(), pictures.len());
        let mut rest = pictures;
        let inputs = passes.into_iter().map(|pictures| {
            let (pass, behind) = rest.split_at(pictures);
            rest = behind;
            let shape = [pictures as i64, 3, self.side, self.side];
            Ok(vec![crate::tensor::for_device(pass, &shape, self.device)?])
        });
        Ok(workers.map(self, inputs, run)?.concat())
    }

    /// How many pictures each pass takes.
    fn passes(&self, threads: usize, pictures: usize) -> Vec<usize> {
        if self.device.is_cuda() {
            shares(pictures, pictures.div_ceil(MAX_IMAGES_GPU))
        } else if threads == 1 || pictures < threads * MIN_IMAGES_THREAD {
            shares(pictures, pictures.div_ceil(MAX_IMAGES_CPU))
        } else {
            shares(pictures, threads * pictures.div_ceil(threads * MAX_IMAGES_THREAD))
        }
    }

    /// Rows of token ids, none of them empty, to `[rows, dim]`, row after row.
    pub(crate) fn texts(&self, workers: &Workers<Self>, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
        let passes = (self.contract.passes)(rows, self.device, workers.threads())?;
        let (inputs, places): (Vec<_>, Vec<_>) =
            passes.into_iter().map(|pass| (pass.inputs, pass.rows)).unzip();
        let outputs = workers.map(self, inputs.into_iter().map(Ok), |encoders, inputs| {
            match &encoders.table {
                Some(table) => encoders.forward(&encoders.text, &table.with_rows(inputs)?),
                None => encoders.forward(&encoders.text, inputs),
            }
        })?;
        let dim = self.contract.dim as usize;
        let mut embeddings = vec![0f32; rows.len() * dim];
        for (places, output) in places.iter().zip(&outputs) {
            for (place, embedding) in places.iter().zip(output.chunks(dim)) {
                embeddings[place * dim..][..dim].copy_from_slice(embedding);
            }
        }
        Ok(embeddings)
    }

    /// Begins a pass. On a GPU it still runs when this returns, and reading the output waits for it.
    fn forward(&self, encoder: &Encoder, inputs: &[Tensor]) -> Result<Tensor> {
        let inputs = self.on_device(inputs)?;
        let output = encoder.parameters.apply(&encoder.module, &inputs)?;
        (self.contract.finish)(output, inputs[0].size()[0], self.contract.dim)
    }

    fn on_device(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let at_once = self.device.is_cuda();
        let on_device = |input: &Tensor| {
            Ok(input.f_to_dtype_layout((input.f_kind()?, self.device), at_once, false)?)
        };
        inputs.iter().map(on_device).collect()
    }
}

/// A number in so many parts, which differ by 1 at the most.
pub(crate) fn shares(number: usize, parts: usize) -> Vec<usize> {
    (0..parts).map(|part| number / parts + usize::from(part < number % parts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_a_pass_and_none_is_empty() {
        for threads in 2..40 {
            for pictures in threads * MIN_IMAGES_THREAD..threads * 40 {
                let parts = threads * pictures.div_ceil(threads * MAX_IMAGES_THREAD);
                let passes = shares(pictures, parts);
                assert_eq!(passes.len() % threads, 0);
                assert_eq!(passes.iter().sum::<usize>(), pictures);
                assert!(passes.iter().all(|pass| (1..=MAX_IMAGES_THREAD).contains(pass)));
            }
        }
        assert_eq!(shares(9, 4), [3, 2, 2, 2]);
        assert!(shares(0, 0).is_empty());
    }
}
