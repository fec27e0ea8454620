//! CLIP's tokenizer: BPE over bytes, as its file describes it.

use std::path::Path;

use tokenizers::Tokenizer;

use super::beginning::{Beginnings, SHORT, squeezed};
use super::{json, vocabulary};

/// CLIP's way from a text to ids.
#[derive(Debug)]
pub(super) struct Clip {
    inner: Tokenizer,
    beginnings: Option<Beginnings>,
}

impl Clip {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        json::check(bytes)?;
        Self::new(Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())?)
    }

    /// Reads `vocab.json` and `merges.txt`.
    ///
    /// # Errors
    /// Those of reading them.
    pub(super) fn from_pieces(directory: &Path) -> crate::error::Result<Self> {
        let inner = vocabulary::tokenizer(directory)?;
        Self::new(inner).map_err(|why| super::invalid(&why))
    }

    fn new(mut inner: Tokenizer) -> Result<Self, String> {
        // Both are done by who calls: padding changes nothing but costs time, and the file's idea of
        // a length need not be the model's.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| e.to_string())?;
        let beginnings = Beginnings::of(&inner);
        Ok(Self { inner, beginnings })
    }

    /// All ids of a text with the special tokens around it.
    ///
    /// # Errors
    /// Those of the crate.
    pub(super) fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.inner.encode_fast(text, true).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// So many ids of a long text or more, without special tokens around them; none if there are not
    /// as many, or all of the text has to be looked at.
    ///
    /// # Errors
    /// Those of the crate.
    pub(super) fn first_ids(&self, text: &str, count: usize) -> Result<Option<Vec<u32>>, String> {
        match self.beginnings.as_ref().filter(|_| text.len() > SHORT) {
            None => Ok(None),
            Some(known) => known.first_ids(&self.inner, text, count).map_err(|e| e.to_string()),
        }
    }

    /// A text that becomes the same ids, and shorter if it can be.
    pub(super) fn squeezed(&self, text: &str) -> Option<String> {
        (self.beginnings.is_some() && text.len() > SHORT).then(|| squeezed(text))
    }
}
