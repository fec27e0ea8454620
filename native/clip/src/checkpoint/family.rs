//! What differs between families of models, as data: a new family is one more [`Family`] here, and
//! whatever pieces it has that no other one has.

use std::fmt;

use super::transformer::{Activation, TransformerConfig};
use crate::preprocess::Processor;

/// Every family that is supported.
pub const FAMILIES: [&Family; 3] = [&CLIP, &SIGLIP, &METACLIP_2];

/// A family of models: the part of a model that its `config.json` does not say.
#[derive(PartialEq)]
pub struct Family {
    /// What `model_type` in `config.json` says.
    pub model_type: &'static str,
    /// What people call it.
    pub name: &'static str,
    /// What names of tensors begin with in a checkpoint that was saved out of a larger model.
    pub prefix: &'static str,
    /// How towers end in the common space.
    pub heads: Heads,
    /// The text tower.
    pub text: TextFamily,
    /// The image tower.
    pub vision: VisionFamily,
    /// Which processor prepares pictures where `preprocessor_config.json` names none.
    pub processor: Processor,
    /// What the probability of a label by itself is.
    pub independent: Independent,
}

/// What a family's text towers share.
#[derive(Debug, PartialEq)]
pub struct TextFamily {
    /// Who attends to whom.
    pub attention: TextAttention,
    /// Which token's hidden state is the prompt's.
    pub pooling: TextPooling,
    /// What becomes of a prompt, whatever the tokenizer's file says.
    pub tokenizer: TokenizerRules,
    /// Sizes that `config.json` may leave out.
    pub transformer: TransformerConfig,
    /// Number of token ids, where it is left out.
    pub vocab_size: i64,
    /// Most tokens of a prompt, where it is left out.
    pub max_positions: i64,
}

/// What a family's image towers share.
#[derive(Debug, PartialEq)]
pub struct VisionFamily {
    /// What of the hidden states is the picture's.
    pub pooling: ImagePooling,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Whether patches are normalised before the first block.
    pub norm_before: bool,
    /// Sizes that `config.json` may leave out.
    pub transformer: TransformerConfig,
    /// Side of a patch, where it is left out.
    pub patch_size: i64,
}

/// How towers end in the common space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// A projection without bias for each tower, to `projection_dim`.
    Projections,
    /// The text tower ends in a layer with bias, to `projection_size`; the image tower's width is
    /// the same.
    TextHead,
}

/// Who attends to whom among the tokens of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextAttention {
    /// Each token to those before it, so nothing behind the pooled one counts.
    Causal,
    /// Each token to all others, padding too: a prompt is as long as the model was trained with.
    Full,
}

/// How `config.json` says which token is pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPooling {
    /// The first `eos_token_id`; where that is 2, which OpenAI's configs say by mistake, the first of
    /// the highest id.
    EndOrHighest,
    /// The first `eos_token_id`, whatever it is: XLM-R's is 2.
    End,
    /// The last position, padding or not. Ids in `config.json` are left from CLIP, and not read.
    Last,
}

/// What the hidden states of a picture become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImagePooling {
    /// The state of a class token before the patches.
    ClassToken,
    /// Attention of a trained query to all patches, and a feed-forward part behind it.
    Probe,
}

/// What becomes of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenizerRules {
    /// How a prompt is cut into tokens.
    pub kind: TokenizerKind,
    /// Whether a prompt begins with a start token. All end with an end token.
    pub starts: bool,
    /// Whether a prompt is filled up with padding, on the right, to `max_positions`.
    pub padded: bool,
}

/// How a prompt is cut into tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenizerKind {
    /// BPE over bytes, in lower case.
    Clip,
    /// The pieces of T5 in the first SigLIP, those of Gemma in SigLIP 2: the file tells which.
    Siglip,
    /// The same pieces as open_clip cuts prompts into them.
    SiglipOpenClip,
    /// The pieces of XLM-R.
    XlmRoberta,
}

/// What the probability of a label by itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Independent {
    /// There is none: the training compared labels. They are set against a background.
    Background,
    /// `sigmoid(logit_scale * cosine + logit_bias)`, which the training was about.
    Sigmoid,
}

impl fmt::Debug for Family {
    /// The name alone: it stands for the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type)
    }
}

/// OpenAI's CLIP and all who trained it anew: OpenCLIP, DFN, DataComp, MetaCLIP 1, TinyCLIP.
pub static CLIP: Family = Family {
    model_type: "clip",
    name: "CLIP",
    prefix: "clip.",
    heads: Heads::Projections,
    text: CLIP_TEXT,
    vision: CLIP_VISION,
    processor: Processor::Clip,
    independent: Independent::Background,
};

/// SigLIP, and SigLIP 2 in its fixed resolutions.
pub static SIGLIP: Family = Family {
    model_type: "siglip",
    name: "SigLIP",
    prefix: "siglip.",
    heads: Heads::TextHead,
    text: SIGLIP_TEXT,
    vision: VisionFamily {
        pooling: ImagePooling::Probe,
        patch_bias: true,
        norm_before: false,
        transformer: SIGLIP_TOWER,
        patch_size: 16,
    },
    processor: Processor::Siglip,
    independent: Independent::Sigmoid,
};

/// The same text tower in open_clip's layout: that package cleans prompts in its own way.
pub static SIGLIP_TEXT_OPEN_CLIP: TextFamily = TextFamily {
    tokenizer: TokenizerRules { kind: TokenizerKind::SiglipOpenClip, ..SIGLIP_TEXT.tokenizer },
    ..SIGLIP_TEXT
};

const SIGLIP_TEXT: TextFamily = TextFamily {
    attention: TextAttention::Full,
    pooling: TextPooling::Last,
    tokenizer: TokenizerRules { kind: TokenizerKind::Siglip, starts: false, padded: true },
    transformer: SIGLIP_TOWER,
    vocab_size: 32_000,
    max_positions: 64,
};

/// MetaCLIP 2: CLIP's towers with XLM-R's tokenizer.
pub static METACLIP_2: Family = Family {
    model_type: "metaclip_2",
    name: "MetaCLIP 2",
    prefix: "metaclip_2.",
    heads: Heads::Projections,
    text: TextFamily {
        pooling: TextPooling::End,
        tokenizer: TokenizerRules { kind: TokenizerKind::XlmRoberta, ..CLIP_TEXT.tokenizer },
        ..CLIP_TEXT
    },
    vision: CLIP_VISION,
    processor: Processor::Clip,
    independent: Independent::Background,
};

/// transformers' `CLIPTextConfig`.
const CLIP_TEXT: TextFamily = TextFamily {
    attention: TextAttention::Causal,
    pooling: TextPooling::EndOrHighest,
    tokenizer: TokenizerRules { kind: TokenizerKind::Clip, starts: true, padded: false },
    transformer: TransformerConfig {
        width: 512,
        layers: 12,
        heads: 8,
        mlp_width: 2_048,
        activation: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
    },
    vocab_size: 49_408,
    max_positions: 77,
};

/// transformers' `CLIPVisionConfig`.
const CLIP_VISION: VisionFamily = VisionFamily {
    pooling: ImagePooling::ClassToken,
    patch_bias: false,
    norm_before: true,
    transformer: TransformerConfig {
        width: 768,
        heads: 12,
        mlp_width: 3_072,
        ..CLIP_TEXT.transformer
    },
    patch_size: 32,
};

/// transformers' `SiglipTextConfig` and `SiglipVisionConfig`.
const SIGLIP_TOWER: TransformerConfig = TransformerConfig {
    width: 768,
    layers: 12,
    heads: 12,
    mlp_width: 3_072,
    activation: Activation::GeluTanh,
    layer_norm_eps: 1e-6,
};

impl Family {
    /// The family of this `model_type`.
    ///
    /// # Errors
    /// What the model is instead, and what is supported.
    pub fn of(model_type: Option<&str>) -> Result<&'static Self, String> {
        let known =
            |model_type| FAMILIES.into_iter().find(|family| family.model_type == model_type);
        model_type.and_then(known).ok_or_else(|| refusal(model_type))
    }
}

/// `model_type`s that people try, and what they are.
const OTHERS: [(&str, &str); 3] = [
    ("siglip2", "is a SigLIP 2 model of the NaFlex kind, which takes pictures of every shape"),
    ("mobileclip", "is a MobileCLIP model"),
    ("chinese_clip", "is a Chinese CLIP model"),
];

fn refusal(model_type: Option<&str>) -> String {
    let described = match model_type {
        None => "has no model_type in its config.json".to_owned(),
        Some(model_type) => described(model_type),
    };
    let supported = FAMILIES.map(|family| format!("{} (\"{}\")", family.name, family.model_type));
    format!(
        "this {described}; zero-shot classification needs both towers of a model whose model_type is \
         supported: {}, such as openai/clip-vit-base-patch32 or google/siglip2-base-patch32-256",
        supported.join(", ")
    )
}

fn described(model_type: &str) -> String {
    for family in FAMILIES {
        for (tower, ending) in [("text", "_text_model"), ("image", "_vision_model")] {
            if model_type.strip_suffix(ending) == Some(family.model_type) {
                return format!("is only the {tower} tower of a {} model", family.name);
            }
        }
    }
    match OTHERS.iter().find(|(other, _)| *other == model_type) {
        Some((_, what)) => format!("{what}, which is not supported"),
        None => {
            let shown: String = model_type.chars().take(80).collect();
            format!("is a model of type {shown:?}, which is not supported")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_family_is_found_by_its_model_type() {
        for family in FAMILIES {
            assert_eq!(Family::of(Some(family.model_type)).unwrap(), family);
        }
    }

    #[test]
    fn an_unknown_family_is_refused_with_what_is_supported() {
        for (model_type, what) in [
            (None, "this has no model_type in its config.json; "),
            (Some("bert"), "this is a model of type \"bert\", which is not supported; "),
            (Some("siglip2"), "this is a SigLIP 2 model of the NaFlex kind, "),
            (Some("clip_text_model"), "this is only the text tower of a CLIP model; "),
            (Some("siglip_vision_model"), "this is only the image tower of a SigLIP model; "),
        ] {
            let message = Family::of(model_type).unwrap_err();
            assert!(message.starts_with(what), "{message}");
            let supported = "CLIP (\"clip\"), SigLIP (\"siglip\"), MetaCLIP 2 (\"metaclip_2\")";
            assert!(message.contains(supported), "{message}");
        }
        let long = Family::of(Some(&"x".repeat(10_000))).unwrap_err();
        assert!(long.len() < 500, "{long}");
    }
}
