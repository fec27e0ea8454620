//! Which files make a checkpoint, and which of them count where there are several: the one rule, for
//! a directory that is loaded and for a repository that is fetched by name.

use super::layout::{
    self, CONFIG, FOLDERS, Format, Index, PROCESSORS, TOKENIZER, TOKENIZER_EXTRAS,
    TOKENIZER_PIECES, WEIGHTS, Weights,
};

/// Where files are looked for: a directory, a cache, a repository on the Hub.
pub trait Listing {
    /// Why a question could not be answered.
    type Error;

    /// Whether there is such a file. If so, it belongs to the checkpoint.
    ///
    /// # Errors
    /// Those of the place.
    fn has(&mut self, file: &str) -> Result<bool, Self::Error>;

    /// Reads an index of shards, which is there.
    ///
    /// # Errors
    /// Those of the place, and one for an index that cannot be used.
    fn index(&mut self, file: &str, format: Format) -> Result<Index, Self::Error>;
}

/// Returns the folder of the checkpoint: the first that has a `config.json`.
///
/// # Errors
/// Those of the listing, here and in all functions below.
pub fn folder<L: Listing>(listing: &mut L) -> Result<Option<&'static str>, L::Error> {
    for folder in FOLDERS {
        if listing.has(&path(folder, CONFIG))? {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// Returns the name of the file that says how pictures are preprocessed.
///
/// # Errors
/// Those of the listing.
pub fn processor<L: Listing>(
    listing: &mut L,
    folder: &str,
) -> Result<Option<&'static str>, L::Error> {
    for name in PROCESSORS {
        if listing.has(&path(folder, name))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Returns the names of the tokenizer's files: one, or all of its pieces.
///
/// # Errors
/// Those of the listing.
pub fn tokenizer<L: Listing>(
    listing: &mut L,
    folder: &str,
) -> Result<Option<&'static [&'static str]>, L::Error> {
    if listing.has(&path(folder, TOKENIZER))? {
        return Ok(Some(&[TOKENIZER]));
    }
    for piece in TOKENIZER_PIECES {
        if !listing.has(&path(folder, piece))? {
            return Ok(None);
        }
    }
    Ok(Some(&TOKENIZER_PIECES))
}

/// Returns the file with the weights, and where that is an index, what it says.
///
/// # Errors
/// Those of the listing.
pub fn weights<L: Listing>(
    listing: &mut L,
    folder: &str,
) -> Result<Option<(Weights, Option<Index>)>, L::Error> {
    for weights in WEIGHTS {
        let file = path(folder, weights.name);
        if !listing.has(&file)? {
            continue;
        }
        let index = weights.is_index.then(|| listing.index(&file, weights.format)).transpose()?;
        return Ok(Some((weights, index)));
    }
    Ok(None)
}

/// Asks for every file of a whole checkpoint, and returns what is missing, in words.
///
/// # Errors
/// Those of the listing.
pub fn missing<L: Listing>(listing: &mut L) -> Result<Vec<String>, L::Error> {
    let Some(folder) = folder(listing)? else { return Ok(vec![CONFIG.to_owned()]) };
    let mut missing = Vec::new();
    if processor(listing, folder)?.is_none() {
        missing.push(PROCESSORS.join(" or "));
    }
    if tokenizer(listing, folder)?.is_none() {
        missing.push(format!("{TOKENIZER} or {}", TOKENIZER_PIECES.join(" with ")));
    }
    for extra in TOKENIZER_EXTRAS {
        listing.has(&path(folder, extra))?;
    }
    match weights(listing, folder)? {
        None => missing.push(format!("weights ({})", layout::weights_names())),
        Some((_, None)) => {}
        Some((_, Some(index))) => {
            for shard in index.shards() {
                if !listing.has(&path(folder, shard))? {
                    missing.push(shard.to_owned());
                }
            }
        }
    }
    Ok(missing)
}

fn path(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The names of some files. The index names one shard of its format.
    struct Names<'a>(&'a [&'a str]);

    impl Listing for Names<'_> {
        type Error = String;

        fn has(&mut self, file: &str) -> Result<bool, String> {
            Ok(self.0.contains(&file))
        }

        fn index(&mut self, _file: &str, format: Format) -> Result<Index, String> {
            let shard = match format {
                Format::Safetensors => "model-1.safetensors",
                Format::PyTorch => "pytorch_model-1.bin",
            };
            Index::parse(format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#).as_bytes(), format)
        }
    }

    fn lacks(files: &[&str]) -> Vec<String> {
        missing(&mut Names(files)).unwrap()
    }

    const REST: [&str; 3] = ["config.json", "processor_config.json", "tokenizer.json"];

    #[test]
    fn each_way_to_write_weights_makes_a_checkpoint() {
        for weights in [
            &["model.safetensors"][..],
            &["pytorch_model.bin"],
            &["model.safetensors.index.json", "model-1.safetensors"],
            &["pytorch_model.bin.index.json", "pytorch_model-1.bin"],
        ] {
            assert_eq!(lacks(&[&REST, weights].concat()), [""; 0], "{weights:?}");
        }
        let (index, rest) = (["pytorch_model.bin.index.json"], REST);
        assert_eq!(lacks(&[&rest[..], &index].concat()), ["pytorch_model-1.bin"]);
        assert!(lacks(&REST)[0].starts_with("weights (model.safetensors, "));
    }

    #[test]
    fn the_first_of_several_files_counts() {
        let mut all = Names(&["preprocessor_config.json", "processor_config.json"]);
        assert_eq!(processor(&mut all, "").unwrap(), Some("preprocessor_config.json"));
        let mut both =
            Names(&["pytorch_model.bin", "model.safetensors", "model.safetensors.index.json"]);
        let (weights, index) = weights(&mut both, "").unwrap().unwrap();
        assert_eq!((weights.name, index), ("model.safetensors", None));
        let mut half = Names(&["vocab.json"]);
        assert_eq!(tokenizer(&mut half, "").unwrap(), None);
    }

    #[test]
    fn what_is_missing_is_listed_in_the_folder_that_has_a_config() {
        assert_eq!(lacks(&[]), ["config.json"]);
        let nested = lacks(&["0_CLIPModel/config.json", "tokenizer.json", "model.safetensors"]);
        assert_eq!(
            nested[..2],
            [
                "preprocessor_config.json or processor_config.json",
                "tokenizer.json or vocab.json with merges.txt",
            ]
        );
        assert_eq!(nested.len(), 3);
    }
}
