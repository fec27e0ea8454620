//! `config.json`: the sizes and choices of a CLIP model.
//!
//! Fields that are absent take the defaults of Hugging Face transformers' `CLIPConfig`, which is
//! what the checkpoints were saved with.

mod fields;

use serde_json::{Map, Value};

use super::json;
use crate::error::{Error, ErrorKind, Result};
use fields::{Fields, invalid};

/// Sizes of both towers.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The image tower.
    pub vision: VisionConfig,
    /// The text tower.
    pub text: TextConfig,
    /// Length of an embedding.
    pub projection_dim: i64,
    /// Log of the logit scale, for a checkpoint that has no such weight. Otherwise it may be NaN.
    pub logit_scale_init: f64,
}

/// Sizes of the image tower, a vision transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// The transformer.
    pub transformer: TransformerConfig,
    /// Side of the square picture that the tower takes, in pixels.
    pub image_size: i64,
    /// Side of a square patch, in pixels.
    pub patch_size: i64,
}

/// Sizes of the text tower, a causal transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// The transformer.
    pub transformer: TransformerConfig,
    /// Number of token ids.
    pub vocab_size: i64,
    /// Most tokens of a prompt, start and end included.
    pub max_positions: i64,
    /// Which token's hidden state is the prompt's.
    pub pooling: Pooling,
}

/// Sizes that both towers have.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    /// Length of a hidden state.
    pub width: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Attention heads of a block.
    pub heads: i64,
    /// Length of the hidden state inside the feed-forward part.
    pub mlp_width: i64,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Epsilon of every layer normalisation.
    pub layer_norm_eps: f64,
}

/// Activation of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's and MetaCLIP's checkpoints.
    QuickGelu,
    /// `x * Φ(x)`: LAION's checkpoints.
    Gelu,
    /// The tanh approximation of [`Activation::Gelu`].
    GeluTanh,
}

/// Which token's hidden state becomes the embedding of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first of the highest token id. transformers does so where `eos_token_id` is 2, a value
    /// that OpenAI's configs carry by mistake.
    HighestId,
    /// The first token with this id.
    FirstOf(u32),
}

impl Pooling {
    /// Position of the pooled token, if there is one.
    pub fn position(self, ids: &[u32]) -> Option<usize> {
        match self {
            Self::HighestId => {
                let highest = ids.iter().max()?;
                ids.iter().position(|id| id == highest)
            }
            Self::FirstOf(end) => ids.iter().position(|id| *id == end),
        }
    }
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the field; `UnsupportedModel` for another model than CLIP.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let root = json::parse(bytes)
            .map_err(|why| invalid(format!("config.json cannot be used: {why}")))?;
        let root = root
            .as_object()
            .ok_or_else(|| invalid("config.json is not a JSON object".to_owned()))?;
        check_model_type(root)?;

        let text = tower(root, "text_config", "text_config_dict")?;
        let vision = tower(root, "vision_config", "vision_config_dict")?;
        Ok(Self {
            projection_dim: Fields::new(root, "").size("projection_dim", 512, 65_536)?,
            logit_scale_init: Fields::new(root, "").logit_scale()?,
            text: TextConfig::from_fields(&Fields::new(&text, "text_config."))?,
            vision: VisionConfig::from_fields(&Fields::new(&vision, "vision_config."))?,
        })
    }
}

impl TextConfig {
    fn from_fields(fields: &Fields<'_>) -> Result<Self> {
        let vocab_size = fields.size("vocab_size", 49_408, 10_000_000)?;
        let pooling = match fields.integer("eos_token_id", 49_407)? {
            2 => Pooling::HighestId,
            id if (0..vocab_size).contains(&id) => Pooling::FirstOf(id as u32),
            id => {
                return Err(fields.wrong(
                    "eos_token_id",
                    &format!("a token id below vocab_size ({vocab_size})"),
                    &id.into(),
                ));
            }
        };
        Ok(Self {
            transformer: TransformerConfig::from_fields(fields, [512, 2_048, 12, 8])?,
            vocab_size,
            max_positions: fields.at_least("max_position_embeddings", 2, 77, 65_536)?,
            pooling,
        })
    }
}

impl VisionConfig {
    fn from_fields(fields: &Fields<'_>) -> Result<Self> {
        let image_size = fields.size("image_size", 224, 4_096)?;
        let patch_size = fields.size("patch_size", 32, 4_096)?;
        if patch_size > image_size {
            return Err(fields.wrong(
                "patch_size",
                &format!("at most image_size ({image_size})"),
                &patch_size.into(),
            ));
        }
        match fields.integer("num_channels", 3)? {
            3 => {}
            other => return Err(fields.wrong("num_channels", "3", &other.into())),
        }
        Ok(Self {
            transformer: TransformerConfig::from_fields(fields, [768, 3_072, 12, 12])?,
            image_size,
            patch_size,
        })
    }

    /// Patches along a side of a picture. What is left over to its right and below is not seen.
    pub fn grid(&self) -> i64 {
        self.image_size / self.patch_size
    }

    /// Number of patches of a picture.
    pub fn patches(&self) -> i64 {
        self.grid() * self.grid()
    }
}

impl TransformerConfig {
    fn from_fields(fields: &Fields<'_>, defaults: [i64; 4]) -> Result<Self> {
        let [width, mlp_width, layers, heads] = defaults;
        let config = Self {
            width: fields.size("hidden_size", width, 65_536)?,
            mlp_width: fields.size("intermediate_size", mlp_width, 1 << 20)?,
            layers: fields.size("num_hidden_layers", layers, 1_024)?,
            heads: fields.size("num_attention_heads", heads, 4_096)?,
            activation: fields.activation()?,
            layer_norm_eps: fields.epsilon()?,
        };
        if config.width % config.heads != 0 {
            return Err(fields.wrong(
                "num_attention_heads",
                &format!("a divisor of hidden_size ({})", config.width),
                &config.heads.into(),
            ));
        }
        Ok(config)
    }
}

/// A tower's fields. Old configs have them in `*_config_dict`, often beside `*_config`; transformers
/// then takes the old one with its own defaults, and nothing from the other.
fn tower(root: &Map<String, Value>, name: &str, old_name: &str) -> Result<Map<String, Value>> {
    let given = |name: &str| root.get(name).filter(|value| !value.is_null());
    match given(old_name).or_else(|| given(name)) {
        None => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields.clone()),
        Some(other) => {
            Err(invalid(format!("config.json: expected {name} to be an object, got {other}")))
        }
    }
}

fn check_model_type(root: &Map<String, Value>) -> Result<()> {
    let described = match root.get("model_type").and_then(Value::as_str) {
        Some("clip") => return Ok(()),
        Some("clip_text_model") => "is the text tower of a CLIP model alone".to_owned(),
        Some("clip_vision_model") => "is the image tower of a CLIP model alone".to_owned(),
        Some("siglip" | "siglip2") => "is a SigLIP model, which is not supported".to_owned(),
        Some(other) => {
            let other: String = other.chars().take(80).collect();
            format!("is a model of type {other:?}, which is not supported")
        }
        None => "has no model_type in its config.json".to_owned(),
    };
    Err(Error::new(
        ErrorKind::UnsupportedModel,
        format!(
            "this {described}; zero-shot classification needs both towers of a CLIP model \
             (model_type \"clip\"), such as openai/clip-vit-base-patch32"
        ),
    ))
}
