//! Looking for a CLIP checkpoint, in the cache and on the hub alike. Which files make one says
//! [`layout`], for the loader too.

use clip::checkpoint::layout::{
    self, CONFIG, FOLDERS, Format, Index, PROCESSORS, TOKENIZER, TOKENIZER_EXTRAS,
    TOKENIZER_PIECES, WEIGHTS,
};

use crate::error::{Error, ErrorKind, Result};

/// Something that files can be found in.
pub(crate) trait Source {
    /// Whether there is such a file. A `true` is remembered as a file to fetch.
    fn has(&mut self, file: &str) -> Result<bool>;
    /// The content of an index of shards, which is there.
    fn index(&mut self, file: &str) -> Result<Vec<u8>>;
}

/// Looks for a whole checkpoint. Returns what is missing, in words.
pub(crate) fn missing(source: &mut dyn Source) -> Result<Vec<String>> {
    for folder in FOLDERS {
        if source.has(&path(folder, CONFIG))? {
            return missing_beside(source, folder);
        }
    }
    Ok(vec![CONFIG.to_owned()])
}

/// Looks for all else, in the folder that has a `config.json`.
fn missing_beside(source: &mut dyn Source, folder: &str) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if !has_any(source, folder, &PROCESSORS)? {
        missing.push(PROCESSORS.join(" or "));
    }
    if !source.has(&path(folder, TOKENIZER))? && !has_all(source, folder, &TOKENIZER_PIECES)? {
        missing.push(format!("{TOKENIZER} or {}", TOKENIZER_PIECES.join(" with ")));
    }
    for extra in TOKENIZER_EXTRAS {
        source.has(&path(folder, extra))?;
    }
    missing.extend(missing_weights(source, folder)?);
    Ok(missing)
}

fn missing_weights(source: &mut dyn Source, folder: &str) -> Result<Vec<String>> {
    for weights in WEIGHTS {
        let file = path(folder, weights.name);
        if !source.has(&file)? {
            continue;
        }
        let mut missing = Vec::new();
        if weights.is_index {
            for shard in shards(&file, &source.index(&file)?, weights.format)? {
                if !source.has(&path(folder, &shard))? {
                    missing.push(shard);
                }
            }
        }
        return Ok(missing);
    }
    Ok(vec![format!("weights ({})", layout::weights_names())])
}

/// The files that an index names, each once, in order.
fn shards(file: &str, index: &[u8], format: Format) -> Result<Vec<String>> {
    let index = Index::parse(index, format).map_err(|why| {
        let message = format!("{file} cannot be used: {why}; choose another revision of the model");
        Error::new(ErrorKind::InvalidIndex, message)
    })?;
    Ok(index.shards().into_iter().map(str::to_owned).collect())
}

fn path(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

fn has_any(source: &mut dyn Source, folder: &str, files: &[&str]) -> Result<bool> {
    for file in files {
        if source.has(&path(folder, file))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_all(source: &mut dyn Source, folder: &str, files: &[&str]) -> Result<bool> {
    for file in files {
        if !source.has(&path(folder, file))? {
            return Ok(false);
        }
    }
    Ok(true)
}
