//! `config.json`: the sizes and choices of a model.
//!
//! Fields that are absent take the defaults of Hugging Face transformers, which is what the
//! checkpoints were saved with. They differ between families.

mod fields;

use serde_json::{Map, Value};

use super::family::{Family, Heads, ImagePooling, TextFamily, TextPooling, VisionFamily};
use super::json;
use super::transformer::{Activation, TransformerConfig};
use crate::error::{Error, ErrorKind, Result};
use fields::{Fields, invalid};

/// Most components of a hidden state or an embedding.
const MAX_DIM: i64 = 65_536;

/// Sizes of both towers.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the model is.
    pub family: &'static Family,
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

/// Sizes of the text tower, a transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// What all text towers of the family share.
    pub family: &'static TextFamily,
    /// The transformer.
    pub transformer: TransformerConfig,
    /// Number of token ids.
    pub vocab_size: i64,
    /// Most tokens of a prompt, start and end included.
    pub max_positions: i64,
    /// Which token's hidden state is the prompt's.
    pub pooling: Pooling,
}

/// Which token's hidden state becomes the embedding of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The first of the highest token id. transformers does so where `eos_token_id` is 2, a value
    /// that OpenAI's configs carry by mistake.
    HighestId,
    /// The first token with this id.
    FirstOf(u32),
    /// The last one, whatever it is.
    Last,
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
            Self::Last => ids.len().checked_sub(1),
        }
    }
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// `InvalidConfig`, naming the field; `UnsupportedModel` for a model of another family.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let root = json::parse(bytes)
            .map_err(|why| invalid(format!("config.json cannot be used: {why}")))?;
        let root = root
            .as_object()
            .ok_or_else(|| invalid("config.json is not a JSON object".to_owned()))?;
        let family = Family::of(root.get("model_type").and_then(Value::as_str))
            .map_err(|why| Error::new(ErrorKind::UnsupportedModel, why))?;

        let text = tower(root, "text_config", "text_config_dict")?;
        let vision = tower(root, "vision_config", "vision_config_dict")?;
        let (root, text) = (Fields::new(root, ""), Fields::new(&text, "text_config."));
        let vision =
            VisionConfig::from_fields(&Fields::new(&vision, "vision_config."), &family.vision)?;
        Ok(Self {
            family,
            projection_dim: match family.heads {
                Heads::Projections => root.size("projection_dim", 512, MAX_DIM)?,
                Heads::TextHead => projection_size(&text, family, &vision)?,
            },
            logit_scale_init: root.logit_scale()?,
            text: TextConfig::from_fields(&text, &family.text)?,
            vision,
        })
    }
}

/// Length of an embedding where only the text tower has a last layer, so that it has to be the
/// image tower's width.
fn projection_size(text: &Fields<'_>, family: &Family, vision: &VisionConfig) -> Result<i64> {
    let width = text.size("hidden_size", family.text.transformer.width, MAX_DIM)?;
    let size = text.size("projection_size", width, MAX_DIM)?;
    if size == vision.transformer.width {
        return Ok(size);
    }
    let expected = format!(
        "vision_config.hidden_size ({}), with which it is compared",
        vision.transformer.width
    );
    Err(text.wrong("projection_size", &expected, &size.into()))
}

impl TextConfig {
    fn from_fields(fields: &Fields<'_>, family: &'static TextFamily) -> Result<Self> {
        let vocab_size = fields.size("vocab_size", family.vocab_size, 10_000_000)?;
        Ok(Self {
            family,
            transformer: TransformerConfig::from_fields(fields, &family.transformer)?,
            vocab_size,
            max_positions: fields.at_least(
                "max_position_embeddings",
                2,
                family.max_positions,
                65_536,
            )?,
            pooling: pooling(fields, family.pooling, vocab_size)?,
        })
    }
}

fn pooling(fields: &Fields<'_>, rule: TextPooling, vocab_size: i64) -> Result<Pooling> {
    if rule == TextPooling::Last {
        return Ok(Pooling::Last);
    }
    match fields.integer("eos_token_id", 49_407)? {
        2 if rule == TextPooling::EndOrHighest => Ok(Pooling::HighestId),
        id if (0..vocab_size).contains(&id) => Ok(Pooling::FirstOf(id as u32)),
        id => {
            let expected = format!("a token id below vocab_size ({vocab_size})");
            Err(fields.wrong("eos_token_id", &expected, &id.into()))
        }
    }
}

impl VisionConfig {
    fn from_fields(fields: &Fields<'_>, family: &VisionFamily) -> Result<Self> {
        let image_size = fields.size("image_size", 224, 4_096)?;
        let patch_size = fields.size("patch_size", family.patch_size, 4_096)?;
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
        if family.pooling == ImagePooling::Probe && !fields.flag("vision_use_head", true)? {
            let expected = "true, because the head makes the embedding";
            return Err(fields.wrong("vision_use_head", expected, &false.into()));
        }
        Ok(Self {
            transformer: TransformerConfig::from_fields(fields, &family.transformer)?,
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
    fn from_fields(fields: &Fields<'_>, defaults: &Self) -> Result<Self> {
        let config = Self {
            width: fields.size("hidden_size", defaults.width, MAX_DIM)?,
            mlp_width: fields.size("intermediate_size", defaults.mlp_width, 1 << 20)?,
            layers: fields.size("num_hidden_layers", defaults.layers, 1_024)?,
            heads: fields.size("num_attention_heads", defaults.heads, 4_096)?,
            activation: fields.activation(defaults.activation)?,
            layer_norm_eps: fields.epsilon(defaults.layer_norm_eps)?,
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
