//! Which files of a directory hold the weights.

use std::path::{Path, PathBuf};

use clip::checkpoint::layout::{self, Format, MAX_INDEX, WEIGHTS};

use crate::checkpoint::{is_there, read_file};
use crate::error::{Error, ErrorKind, Result};

/// The weights of a directory.
#[derive(Debug, Clone)]
pub(crate) struct WeightsFiles {
    /// How they are written.
    pub(crate) format: Format,
    /// The one file, or the index of several.
    pub(crate) path: PathBuf,
    /// The files with tensors.
    pub(crate) files: Vec<PathBuf>,
    /// Which of them has which tensor, where there are several.
    pub(crate) index: Option<Index>,
}

/// An `*.index.json`.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    path: PathBuf,
    index: layout::Index,
}

impl WeightsFiles {
    /// Looks for weights in a directory, by name alone.
    pub(crate) fn find(directory: &Path) -> Result<Option<Self>> {
        let found = WEIGHTS.into_iter().find(|weights| is_there(&directory.join(weights.name)));
        let Some(layout::Weights { name, format, is_index }) = found else { return Ok(None) };
        let path = directory.join(name);
        if !is_index {
            return Ok(Some(Self { format, files: vec![path.clone()], path, index: None }));
        }
        let index = Index::read(&path, format)?;
        let files = index.index.shards().into_iter().map(|name| directory.join(name)).collect();
        Ok(Some(Self { format, path, files, index: Some(index) }))
    }

    /// What to say where there are none.
    pub(crate) fn missing(directory: &Path) -> Error {
        let names = layout::weights_names();
        let message = format!("no weights in {}, expected one of {names}", directory.display());
        Error::new(ErrorKind::NotFound, message)
    }
}

impl Index {
    fn read(path: &Path, format: Format) -> Result<Self> {
        let bytes = read_file(path, MAX_INDEX, ErrorKind::InvalidWeights)?;
        let index = layout::Index::parse(&bytes, format).map_err(|why| {
            let message = format!("{} cannot be used: {why}", path.display());
            Error::new(ErrorKind::InvalidWeights, message)
        })?;
        Ok(Self { path: path.to_owned(), index })
    }

    /// Tensors that lie in this file.
    pub(crate) fn names_in(&self, file: &Path) -> impl Iterator<Item = &str> {
        let tensors = self.index.0.iter().filter(move |(_, name)| file.ends_with(name));
        tensors.map(|(tensor, _)| tensor.as_str())
    }

    /// File name of the index, for messages.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }
}
