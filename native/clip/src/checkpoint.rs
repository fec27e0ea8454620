//! A model directory in Hugging Face layout.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::preprocess::Preprocessing;

/// Largest JSON configuration that is read. Real ones have a few KB.
const MAX_CONFIG: u64 = 1024 * 1024;

/// `config.json`, `preprocessor_config.json`, `tokenizer.json` and `model.safetensors` of one
/// directory. Opening it reads the two configurations.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    directory: PathBuf,
    /// Sizes of both towers.
    pub config: Config,
    /// What happens to a picture before the image tower.
    pub preprocessing: Preprocessing,
}

impl Checkpoint {
    /// Opens a model directory.
    pub fn open(directory: &Path) -> Result<Self> {
        if !directory.is_dir() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no model directory at {}", directory.display()),
            ));
        }
        let config = Config::from_json(&read_file(&directory.join("config.json"), MAX_CONFIG)?)?;
        let side = config.vision.image_size as u32;
        let preprocessing = read_file(&directory.join("preprocessor_config.json"), MAX_CONFIG)?;
        let preprocessing = Preprocessing::from_json(&preprocessing, side)?;
        Ok(Self { directory: directory.to_owned(), config, preprocessing })
    }

    /// Path of the weights.
    pub fn weights(&self) -> PathBuf {
        self.directory.join("model.safetensors")
    }

    /// Path of the tokenizer.
    pub fn tokenizer(&self) -> PathBuf {
        self.directory.join("tokenizer.json")
    }
}

/// Reads a whole file of at most `most` bytes.
pub(crate) fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot read {}: {e}", path.display())).with_source(e)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("{} is larger than {most} bytes", path.display()),
        ));
    }
    Ok(bytes)
}
