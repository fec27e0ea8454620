//! Which files make a checkpoint, and which of them count where there are several: the one rule, for
//! a directory that is loaded and for a repository that is fetched by name.

use super::layout::{
    CONFIG, FOLDERS, Format, Index, Layout, OPEN_CLIP_CONFIG, PROCESSORS, TOKENIZER,
    TOKENIZER_EXTRAS, TOKENIZER_PIECES, Weights,
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

/// Returns the layout of the checkpoint: transformers' in the first folder that has a `config.json`,
/// or else open_clip's. Where a repository has both, transformers' counts if its weights are there.
///
/// # Errors
/// Those of the listing, here and in all functions below.
pub fn layout<L: Listing>(listing: &mut L) -> Result<Option<Layout>, L::Error> {
    let transformers = folder(listing)?.map(Layout::Transformers);
    match transformers {
        Some(Layout::Transformers("")) if weights(listing, Layout::Transformers(""))?.is_none() => {
            let is_open_clip =
                listing.has(OPEN_CLIP_CONFIG)? && weights(listing, Layout::OpenClip)?.is_some();
            Ok(if is_open_clip { Some(Layout::OpenClip) } else { transformers })
        }
        Some(layout) => Ok(Some(layout)),
        None => Ok(listing.has(OPEN_CLIP_CONFIG)?.then_some(Layout::OpenClip)),
    }
}

fn folder<L: Listing>(listing: &mut L) -> Result<Option<&'static str>, L::Error> {
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
    layout: Layout,
) -> Result<Option<(Weights, Option<Index>)>, L::Error> {
    for weights in layout.weights() {
        let file = path(layout.folder(), weights.name);
        if !listing.has(&file)? {
            continue;
        }
        let index = weights.is_index.then(|| listing.index(&file, weights.format)).transpose()?;
        return Ok(Some((*weights, index)));
    }
    Ok(None)
}

/// Asks for every file of a whole checkpoint, each once, and returns what is missing, in words.
///
/// # Errors
/// Those of the listing.
pub fn missing<L: Listing>(listing: &mut L) -> Result<Vec<String>, L::Error> {
    let transformers = folder(listing)?.map(Layout::Transformers);
    let Some(layout) = transformers else {
        return match listing.has(OPEN_CLIP_CONFIG)? {
            false => Ok(vec![CONFIG.to_owned()]),
            true => {
                let mut missing = missing_tokenizer(listing, "")?;
                missing.extend(missing_weights(listing, Layout::OpenClip)?);
                Ok(missing)
            }
        };
    };
    let mut missing = Vec::new();
    if processor(listing, layout.folder())?.is_none() {
        missing.push(PROCESSORS.join(" or "));
    }
    let tokenizer = missing_tokenizer(listing, layout.folder())?;
    missing.extend(tokenizer.iter().cloned());
    let (has_weights, weights) = found_weights(listing, layout)?;
    missing.extend(weights);
    if !has_weights && layout.folder().is_empty() && listing.has(OPEN_CLIP_CONFIG)? {
        let (has_weights, weights) = found_weights(listing, Layout::OpenClip)?;
        if has_weights {
            return Ok(tokenizer.into_iter().chain(weights).collect());
        }
    }
    Ok(missing)
}

fn missing_tokenizer<L: Listing>(listing: &mut L, folder: &str) -> Result<Vec<String>, L::Error> {
    let has_tokenizer = tokenizer(listing, folder)?.is_some();
    for extra in TOKENIZER_EXTRAS {
        listing.has(&path(folder, extra))?;
    }
    let names = || format!("{TOKENIZER} or {}", TOKENIZER_PIECES.join(" with "));
    Ok(if has_tokenizer { Vec::new() } else { vec![names()] })
}

fn missing_weights<L: Listing>(listing: &mut L, layout: Layout) -> Result<Vec<String>, L::Error> {
    Ok(found_weights(listing, layout)?.1)
}

/// Whether there are weights, and what of them is missing.
fn found_weights<L: Listing>(
    listing: &mut L,
    layout: Layout,
) -> Result<(bool, Vec<String>), L::Error> {
    let Some((_, index)) = weights(listing, layout)? else {
        return Ok((false, vec![format!("weights ({})", layout.weights_names())]));
    };
    let mut missing = Vec::new();
    for shard in index.iter().flat_map(Index::shards) {
        if !listing.has(&path(layout.folder(), shard))? {
            missing.push(shard.to_owned());
        }
    }
    Ok((true, missing))
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
        let (weights, index) = weights(&mut both, Layout::Transformers("")).unwrap().unwrap();
        assert_eq!((weights.name, index), ("model.safetensors", None));
        let mut half = Names(&["vocab.json"]);
        assert_eq!(tokenizer(&mut half, "").unwrap(), None);
    }

    #[test]
    fn open_clips_layout_counts_where_transformers_is_not_whole() {
        let layout_of = |files: &[&str]| layout(&mut Names(files)).unwrap();
        let own = ["open_clip_config.json", "tokenizer.json"];
        for weights in [
            &["open_clip_model.safetensors"][..],
            &["open_clip_pytorch_model.bin"],
            &["open_clip_model.safetensors.index.json", "model-1.safetensors"],
            &["open_clip_pytorch_model.bin.index.json", "pytorch_model-1.bin"],
        ] {
            let files = [&own, weights].concat();
            assert_eq!((lacks(&files), layout_of(&files)), (vec![], Some(Layout::OpenClip)));
            let both = [&files[..], &["config.json"]].concat();
            assert_eq!((lacks(&both), layout_of(&both)), (vec![], Some(Layout::OpenClip)));
            let both = [&files[..], &REST, &["model.safetensors"]].concat();
            assert_eq!(layout_of(&both), Some(Layout::Transformers("")));
        }
        assert_eq!(
            lacks(&["open_clip_config.json"])[0],
            "tokenizer.json or vocab.json with merges.txt"
        );
        assert!(lacks(&own)[0].starts_with("weights (open_clip_model.safetensors, "));
        let neither = [&own[..], &REST].concat();
        assert!(lacks(&neither)[0].starts_with("weights (model.safetensors, "));
        assert_eq!(layout_of(&neither), Some(Layout::Transformers("")));
        assert_eq!(layout_of(&["tokenizer.json"]), None);
    }

    #[test]
    fn every_file_is_asked_for_once() {
        struct Counted<'a>(&'a [&'a str], Vec<String>);
        impl Listing for Counted<'_> {
            type Error = String;
            fn has(&mut self, file: &str) -> Result<bool, String> {
                self.1.push(file.to_owned());
                Ok(self.0.contains(&file))
            }
            fn index(&mut self, file: &str, format: Format) -> Result<Index, String> {
                Names(self.0).index(file, format)
            }
        }
        for files in [&[][..], &["config.json"], &["config.json", "open_clip_config.json"]] {
            let mut counted = Counted(files, Vec::new());
            missing(&mut counted).unwrap();
            let mut asked = counted.1.clone();
            asked.sort();
            asked.dedup();
            assert_eq!(asked.len(), counted.1.len(), "{:?}", counted.1);
        }
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
