//! The kinds of tokenizers, and which one a file is.

use clip::checkpoint::family::TokenizerKind;

use super::clip_bytes::Clip;
use super::document::Document;
use super::pipeline::Pipeline;
use super::siglip::Siglip;

/// How a text becomes ids.
#[derive(Debug)]
pub(super) enum Steps {
    /// CLIP's.
    Clip(Box<Clip>),
    /// The first SigLIP's.
    Siglip(Box<Siglip>),
    /// SigLIP 2's and MetaCLIP 2's.
    Pipeline(Box<Pipeline>),
    /// SigLIP's and SigLIP 2's as open_clip has them, prompts cleaned first.
    Cleaned(Box<Pipeline>),
}

impl Steps {
    /// # Errors
    /// Why the document cannot be used.
    pub(super) fn of(kind: TokenizerKind, document: Document) -> Result<Self, String> {
        let model = document.model.kind.clone().unwrap_or_default();
        match (kind, &*model) {
            (TokenizerKind::Siglip, "Unigram") => Ok(Self::Siglip(Siglip::new(document)?.into())),
            (TokenizerKind::Siglip, "BPE") => {
                Ok(Self::Pipeline(Pipeline::siglip2(document)?.into()))
            }
            (TokenizerKind::SiglipOpenClip, "Unigram") => {
                Ok(Self::Cleaned(Pipeline::words(document)?.into()))
            }
            (TokenizerKind::SiglipOpenClip, "BPE") => {
                Ok(Self::Cleaned(Pipeline::siglip2(document)?.into()))
            }
            (TokenizerKind::XlmRoberta, "Unigram") => {
                Ok(Self::Pipeline(Pipeline::words(document)?.into()))
            }
            (kind, model) => {
                let model: String = model.chars().take(80).collect();
                let expected = match kind {
                    TokenizerKind::XlmRoberta => "Unigram",
                    _ => "Unigram (SigLIP) or BPE (SigLIP 2)",
                };
                Err(format!("expected a model of type {expected}, got {model:?}"))
            }
        }
    }

    /// The start, end and padding tokens where no file names them.
    pub(super) fn defaults(&self) -> [&'static str; 3] {
        match self {
            Self::Pipeline(pipeline) | Self::Cleaned(pipeline) if pipeline.is_bpe() => {
                ["<bos>", "<eos>", "<pad>"]
            }
            Self::Siglip(_) | Self::Cleaned(_) => ["<s>", "</s>", "</s>"],
            _ => ["<s>", "</s>", "<pad>"],
        }
    }

    pub(super) fn find(&self, piece: &str) -> Option<u32> {
        match self {
            Self::Clip(_) => None,
            Self::Siglip(siglip) => siglip.find(piece),
            Self::Pipeline(pipeline) | Self::Cleaned(pipeline) => pipeline.find(piece),
        }
    }
}
