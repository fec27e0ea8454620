//! Weights out of a safetensors file, one tensor at a time.
//!
//! The file is read, not mapped: a mapped file that is cut short ends the process with a signal
//! where a read gives an error. Reading tensor by tensor keeps the peak at the weights plus the
//! largest tensor.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata};
use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};

/// Largest header that is read. Real ones take some 50 KB.
const MAX_HEADER: u64 = 10 * 1024 * 1024;

/// An open weights file.
#[derive(Debug)]
pub(crate) struct Weights {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

impl Weights {
    /// Opens a `.safetensors` file and checks its header: sizes, offsets and that they cover the
    /// whole file. No tensor is read yet.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| {
            Error::new(ErrorKind::NotFound, format!("cannot open {}: {e}", path.display()))
                .with_source(e)
        })?;
        let length = file.metadata().map_err(|e| unreadable(path, e))?.len();
        let header = read_header(&mut file, length, path)?;
        // Checks sizes, gaps, overlaps and overflow too.
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|e| invalid(path, &format!("its header is wrong: {e}")).with_source(e))?;
        let data_start = header.len() as u64 + 8;
        if data_start + metadata.data_len() as u64 != length {
            let expected = data_start + metadata.data_len() as u64;
            return Err(invalid(
                path,
                &format!("expected {expected} bytes, found {length}: is it cut short?"),
            ));
        }
        Ok(Self { path: path.to_owned(), file, metadata, data_start })
    }

    /// Whether the file has a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Reads one tensor as f32 on the CPU.
    ///
    /// The shape must be the expected one and every value finite.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| invalid(&self.path, &format!("it has no tensor {name:?}")))?;
        let found: Vec<i64> = info.shape.iter().map(|side| *side as i64).collect();
        if found != shape {
            return Err(invalid(
                &self.path,
                &format!("tensor {name:?} has shape {found:?}, config.json says {shape:?}"),
            ));
        }
        let kind = self.kind(name, info.dtype)?;
        let (start, end) = info.data_offsets;
        let bytes = self.read(self.data_start + start as u64, end - start)?;
        let tensor = crate::tensor::from_bytes(&bytes, shape, kind)?.f_to_kind(Kind::Float)?;
        if tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(invalid(&self.path, &format!("tensor {name:?} has values not finite")));
        }
        Ok(tensor)
    }

    fn kind(&self, name: &str, dtype: Dtype) -> Result<Kind> {
        match dtype {
            Dtype::F32 => Ok(Kind::Float),
            Dtype::F16 => Ok(Kind::Half),
            Dtype::BF16 => Ok(Kind::BFloat16),
            other => Err(invalid(
                &self.path,
                &format!("tensor {name:?} is of type {other:?}, expected F32, F16 or BF16"),
            )),
        }
    }

    fn read(&mut self, start: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| unreadable(&self.path, e))?;
        Ok(bytes)
    }
}

/// The JSON after the length prefix, no more than a sound file can have.
fn read_header(file: &mut File, length: u64, path: &Path) -> Result<Vec<u8>> {
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix)
        .map_err(|_| invalid(path, &format!("it has {length} bytes, too few for a header")))?;
    let size = u64::from_le_bytes(prefix);
    if size > MAX_HEADER.min(length.saturating_sub(8)) {
        return Err(invalid(path, &format!("its header claims {size} bytes of {length}")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(|e| unreadable(path, e))?;
    Ok(header)
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::new(
        ErrorKind::InvalidWeights,
        format!("{} is not a sound safetensors file for this model: {why}", path.display()),
    )
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read {}: {error}", path.display())).with_source(error)
}
