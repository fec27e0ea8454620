//! Encoders that a user exported from Python, instead of ours.
//!
//! TorchScript is a program that runs with the rights of this process, so these are loaded from a
//! directory that the caller names for the purpose, and from nowhere else. The contract:
//!
//! - `image.pt` takes u8 pixels `[n, 3, side, side]`, normalises them itself, and gives `[n, dim]`;
//! - `text.pt` takes int64 token ids `[n, length]` of any length up to the model's, from the start
//!   token to the end token and not padded, and gives `[n, dim]`; where the model attends to padding
//!   (SigLIP), always padded to the model's length;
//! - both take any `n`, and any floating-point type may come out, of any length: it is scaled to 1
//!   here.
//!
//! `training/export_open_clip.py` writes such files.

use std::path::Path;

use clip::checkpoint::config::Config;
use clip::checkpoint::files;
use tch::{CModule, Device, Kind, Tensor};

use crate::encoders::encoder::{Contract, Encoder, Encoders, Parameters, TextPass};
use crate::encoders::export::{IMAGE, TEXT};
use crate::encoders::parts::Parts;
use crate::error::{Error, ErrorKind, Result};

/// Tokens of one forward pass.
const MAX_TOKENS: usize = 8_192;

/// Loads both encoders, and runs each once to see that it keeps the contract.
pub(crate) fn encoders(config: &Config, folder: &Path, device: Device) -> Result<Encoders> {
    let dim = config.projection_dim;
    let encoders = Encoders {
        image: whole(open(folder, IMAGE, device)?),
        text: whole(open(folder, TEXT, device)?),
        table: None,
        parts: Parts::of_user(),
        device,
        side: config.vision.image_size,
        contract: Contract { passes, finish: unit, dim },
        bytes: bytes(folder)?,
    };
    let side = config.vision.image_size;
    let pixels = Tensor::f_zeros([2, 3, side, side], (Kind::Uint8, device))?;
    try_out(&encoders.image.module, &pixels, dim).map_err(|e| breach(folder, IMAGE, &e))?;
    // Not the length that it was traced with, most likely; and one that every model takes.
    let length = if config.text.family.tokenizer.padded { config.text.max_positions } else { 2 };
    let ids = Tensor::f_zeros([3, length], (Kind::Int64, device))?;
    try_out(&encoders.text.module, &ids, dim).map_err(|e| breach(folder, TEXT, &e))?;
    Ok(encoders)
}

/// An encoder that has its weights in it.
fn whole(module: CModule) -> Encoder {
    Encoder { module, parameters: Parameters::default() }
}

fn open(folder: &Path, name: &str, device: Device) -> Result<CModule> {
    let path = folder.join(name);
    if !path.is_file() {
        let message =
            format!("no {name} in {}, the directory of exported encoders", folder.display());
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    check_pointer(&path).map_err(|e| breach(folder, name, &e))?;
    CModule::load_on_device(&path, device).map_err(|e| breach(folder, name, &e.into()))
}

/// libtorch says of a pointer only that it is not an archive.
fn check_pointer(path: &Path) -> Result<()> {
    let is_pointer = files::open(path).and_then(|mut file| files::starts_as_lfs_pointer(&mut file));
    match is_pointer.map_err(|e| Error::new(ErrorKind::Io, e.to_string()))? {
        true => Err(Error::new(ErrorKind::InvalidWeights, files::LFS_POINTER_FOUND)),
        false => Ok(()),
    }
}

/// Length of both files, which are little but weights.
fn bytes(folder: &Path) -> Result<u64> {
    let length = |name| -> Result<u64> {
        let path = folder.join(name);
        let metadata = path.metadata().map_err(|e| {
            let message = format!("cannot read {}: {e}", path.display());
            Error::new(ErrorKind::Io, message).with_source(e)
        })?;
        Ok(metadata.len())
    };
    Ok(length(IMAGE)? + length(TEXT)?)
}

fn try_out(encoder: &CModule, input: &Tensor, dim: i64) -> Result<()> {
    unit(encoder.forward_ts(&[input])?, input.size()[0], dim).map(drop)
}

/// Scales embeddings to length 1, in f32, if they are what a user's encoder owes.
fn unit(embeddings: Tensor, rows: i64, dim: i64) -> Result<Tensor> {
    let shape = embeddings.size();
    if shape != [rows, dim] {
        let why =
            format!("the encoder gave a tensor of shape {shape:?}, expected {:?}", [rows, dim]);
        return Err(Error::new(ErrorKind::InvalidWeights, why));
    }
    let embeddings = crate::tensor::float(&embeddings)?;
    let length = embeddings.f_norm_scalaropt_dim(2, [-1], true)?;
    Ok(embeddings.f_div(&length)?)
}

/// Rows of token ids as the contract's text encoder takes them: those of one length together.
fn passes(rows: &[Vec<u32>], _device: Device, _threads: usize) -> Result<Vec<TextPass>> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|i| rows[*i].len());
    let mut passes = Vec::new();
    for group in order.chunk_by(|a, b| rows[*a].len() == rows[*b].len()) {
        for batch in group.chunks((MAX_TOKENS / rows[group[0]].len().max(1)).max(1)) {
            let ids: Vec<&[u32]> = batch.iter().map(|i| rows[*i].as_slice()).collect();
            let inputs = vec![crate::tensor::from_rows(&ids)?];
            passes.push(TextPass { inputs, rows: batch.to_vec() });
        }
    }
    Ok(passes)
}

fn breach(folder: &Path, name: &str, error: &Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Torch => ErrorKind::InvalidWeights,
        other => other,
    };
    Error::new(kind, format!("{} cannot be used: {error}", folder.join(name).display()))
}
