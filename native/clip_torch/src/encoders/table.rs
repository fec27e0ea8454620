//! The table of token embeddings on disk: a pass brings the rows that it needs.
//!
//! Most rows are never used: CLIP's table would take 101 MB of memory, a sixth of the model, and SigLIP 2's,
//! whose vocabulary is of all languages, more than both towers. The file is a copy of our own, in the folder of the encoders, and each
//! row has a checksum: opening the table does not read it, and no row is used that is not what was
//! written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use clip::checkpoint::config::TextConfig;
use clip::checkpoint::files;
use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{from_bytes, to_f32};
use crate::towers::text::TOKENS;
use crate::weights::Weights;

/// Name of the file.
pub(crate) const TABLE: &str = "tokens.bin";

/// Bytes of a row's checksum, which stands behind it.
const CHECKSUM: usize = 4;

/// The open table.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    path: PathBuf,
    width: usize,
}

impl Table {
    /// Opens the table in a folder.
    pub(crate) fn open(folder: &Path, config: &TextConfig) -> Result<Self> {
        let path = folder.join(TABLE);
        let file = files::open(&path).map_err(|e| unreadable(&path, e))?;
        let length = file.metadata().map_err(|e| unreadable(&path, e))?.len();
        let table = Self { file, path, width: config.transformer.width as usize };
        match length == config.vocab_size as u64 * table.stride() as u64 {
            true => Ok(table),
            false => Err(table.damaged()),
        }
    }

    /// The inputs of a pass with the rows that it needs: the ids, which come first, are replaced by
    /// places in those rows, which come last.
    pub(crate) fn with_rows(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let ids = Vec::<i64>::try_from(&inputs[0].f_flatten(0, -1)?)?;
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let place = |id: &i64| distinct.binary_search(id).unwrap_or_default() as i64;
        let places: Vec<u8> = ids.iter().map(place).flat_map(i64::to_ne_bytes).collect();
        let places = from_bytes(&places, &inputs[0].size(), Kind::Int64)?;
        let rest = inputs[1..].iter().map(Tensor::shallow_clone);
        Ok([places].into_iter().chain(rest).chain([self.rows(&distinct)?]).collect())
    }

    /// Rows of token ids, `[ids, width]`.
    fn rows(&self, ids: &[i64]) -> Result<Tensor> {
        let (mut row, mut rows) = (vec![0; self.stride()], Vec::new());
        for id in ids {
            let at = *id as u64 * self.stride() as u64;
            self.file.read_exact_at(&mut row, at).map_err(|e| unreadable(&self.path, e))?;
            let (values, checksum) = row.split_at(self.width * size_of::<f32>());
            if crc32fast::hash(values).to_le_bytes() != checksum {
                return Err(self.damaged());
            }
            rows.extend_from_slice(values);
        }
        from_bytes(&rows, &[ids.len() as i64, self.width as i64], Kind::Float)
    }

    fn stride(&self) -> usize {
        self.width * size_of::<f32>() + CHECKSUM
    }

    fn damaged(&self) -> Error {
        let path = self.path.display();
        let message =
            format!("{path} is damaged; remove its folder, and the next load makes it anew");
        Error::new(ErrorKind::Io, message)
    }
}

/// Writes the table of a checkpoint into a folder, some rows at a time.
pub(crate) fn write(weights: &Weights, config: &TextConfig, folder: &Path) -> Result<()> {
    let path = folder.join(TABLE);
    let unwritable = |e: std::io::Error| {
        let message = format!("cannot write {}: {e}", path.display());
        Error::new(ErrorKind::Io, message).with_source(e)
    };
    let mut file = BufWriter::new(File::create(&path).map_err(unwritable)?);
    let width = config.transformer.width;
    weights.rows(TOKENS, [config.vocab_size, width], |piece| {
        for row in to_f32(piece)?.chunks(width as usize) {
            let bytes: Vec<u8> = row.iter().copied().flat_map(f32::to_ne_bytes).collect();
            let checksum = crc32fast::hash(&bytes).to_le_bytes();
            file.write_all(&bytes).and_then(|()| file.write_all(&checksum)).map_err(unwritable)?;
        }
        Ok(())
    })?;
    // A load does not read it all, so a power cut would be noticed too late.
    file.into_inner()
        .map_err(|e| e.into_error())
        .and_then(|file| file.sync_all())
        .map_err(unwritable)
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let message = format!("cannot read {}: {error}", path.display());
    Error::new(ErrorKind::Io, message).with_source(error)
}
