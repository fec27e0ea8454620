//! Which files of a directory hold the weights.

use std::path::{Path, PathBuf};

use clip::checkpoint::contents;
use clip::checkpoint::directory::Directory;
use clip::checkpoint::layout::{Format, Index, Layout};

use crate::error::{Error, ErrorKind, Result};

/// The weights of a directory.
#[derive(Debug, Clone)]
pub(crate) struct WeightsFiles {
    /// Whose names the tensors have.
    pub(crate) layout: Layout,
    /// How they are written.
    pub(crate) format: Format,
    /// The one file, or the index of several.
    pub(crate) path: PathBuf,
    /// The files with tensors.
    pub(crate) files: Vec<PathBuf>,
    /// Which of them has which tensor, where there are several.
    pub(crate) index: Option<Index>,
}

impl WeightsFiles {
    /// Looks for weights in a directory, by name alone.
    pub(crate) fn find(directory: &Path, layout: Layout) -> Result<Option<Self>> {
        let found = contents::weights(&mut Directory(directory), layout)?;
        let Some((weights, index)) = found else { return Ok(None) };
        let path = directory.join(weights.name);
        let files = match &index {
            None => vec![path.clone()],
            Some(index) => index.shards().into_iter().map(|name| directory.join(name)).collect(),
        };
        Ok(Some(Self { layout, format: weights.format, path, files, index }))
    }

    /// What to say where there are none.
    pub(crate) fn missing(directory: &Path, layout: Layout) -> Error {
        let names = layout.weights_names();
        let message = format!("no weights in {}, expected one of {names}", directory.display());
        Error::new(ErrorKind::NotFound, message)
    }
}
