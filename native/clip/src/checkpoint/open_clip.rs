//! `open_clip_config.json`: the sizes and choices of a model in open_clip's own layout.
//!
//! It is rewritten as what transformers would have written of the same model, so that one reader
//! checks both. What transformers' models cannot do is refused by name.

mod part;

use serde_json::{Value, json};

use super::config::Config;
use super::family::SIGLIP_TEXT_OPEN_CLIP;
use super::json;
use super::layout::OPEN_CLIP_CONFIG;
use super::processor;
use crate::error::Result;
use crate::preprocess::{Preprocessing, Processor};
use part::{Only, Part, invalid, shown, unsupported};

/// What a file in open_clip's layout says.
#[derive(Debug)]
pub struct OpenClip {
    /// Sizes of both towers.
    pub config: Config,
    /// What happens to a picture before the image tower.
    pub preprocessing: Preprocessing,
    /// The repository whose tokenizer open_clip takes, if it is not CLIP's.
    pub tokenizer: Option<String>,
}

/// The image tower of timm, whose sizes only its weights say.
#[derive(Debug, Clone, Copy)]
pub struct TimmSizes {
    /// Length of a hidden state.
    pub width: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Length of the hidden state inside the feed-forward part.
    pub mlp_width: i64,
}

/// timm's image towers of SigLIP: how the name begins, attention heads, and the activation, which is
/// not the same for all of them.
const TIMM: [(&str, i64, &str); 7] = [
    ("vit_base_patch32_siglip_", 12, "gelu_pytorch_tanh"),
    ("vit_base_patch16_siglip_", 12, "gelu"),
    ("vit_large_patch16_siglip_512", 16, "gelu_pytorch_tanh"),
    ("vit_large_patch16_siglip_", 16, "gelu"),
    ("vit_so400m_patch14_siglip_", 16, "gelu"),
    ("vit_so400m_patch16_siglip_", 16, "gelu_pytorch_tanh"),
    ("vit_giantopt_patch16_siglip_", 16, "gelu_pytorch_tanh"),
];

const MODEL: &Only = &[("nonscalar_logit_scale", "false")];
const BOTH: &Only = &[
    ("ls_init_value", "null"),
    ("final_ln_after_pool", "false"),
    ("block_type", "\"default\""),
    ("qk_norm", "false"),
    ("scaled_cosine_attn", "false"),
    ("scale_heads", "false"),
    ("scale_attn_inner", "false"),
    ("scale_attn", "false"),
    ("scale_fc", "false"),
];
const VIT: &Only = &[
    ("attentional_pool", "false"),
    ("no_ln_pre", "false"),
    ("pos_embed_type", "\"learnable\""),
    ("pool_type", "\"tok\""),
];
const TIMM_VIT: &Only = &[("timm_pool", "\"map\""), ("timm_proj", "\"none\"")];
const TEXT: &Only = &[("embed_cls", "false"), ("proj_type", "\"linear\"")];
const CAUSAL: &Only = &[("no_causal_mask", "false"), ("proj_bias", "false")];
const BIDIRECTIONAL: &Only = &[("no_causal_mask", "true"), ("proj_bias", "true")];

impl OpenClip {
    /// Reads the text of an `open_clip_config.json`. `timm` finds the sizes of an image tower of timm
    /// in the weights.
    ///
    /// # Errors
    /// `UnsupportedModel` for a model of another kind, naming it; `InvalidConfig`, naming the field.
    pub fn from_json(bytes: &[u8], timm: impl Fn() -> Option<TimmSizes>) -> Result<Self> {
        let cannot = |why: &str| invalid(&format!("cannot be used: {why}"));
        let root = json::parse(bytes).map_err(|why| cannot(&why))?;
        let model =
            Part::of(&root, "model_cfg").ok_or_else(|| cannot("it has no object model_cfg"))?;
        model.refuse_other_kinds()?;
        model.check(MODEL)?;
        let tower = |name| {
            Part::of(model.value(), name).ok_or_else(|| cannot(&format!("it has no object {name}")))
        };
        let (vision, text) = (tower("vision_cfg")?, tower("text_cfg")?);
        let (model_type, eos) = family(&vision, &text)?;
        let quick = model.flag("quick_gelu");
        let vision_config = match vision.text("timm_model_name") {
            Some(name) => timm_vision(
                &vision,
                name,
                timm().ok_or_else(|| cannot("the weights have no image tower of timm"))?,
            )?,
            None => vit_vision(&vision, quick)?,
        };
        let dim = model.get("embed_dim").cloned().unwrap_or(Value::Null);
        let config = json!({
            "model_type": model_type, "projection_dim": dim, "vision_config": vision_config,
            "text_config": text_config(&text, quick, &dim, eos)?,
        });
        let mut config = Config::from_json(config.to_string().as_bytes())
            .map_err(|error| error.at(format!("as rewritten from {OPEN_CLIP_CONFIG}")))?;
        let tokenizer = text.text("hf_tokenizer_name").map(str::to_owned);
        if model_type == "siglip" {
            config.text.family = &SIGLIP_TEXT_OPEN_CLIP;
        }
        text.check_cleaning(model_type)?;
        let preprocessing = preprocessing(&root, config.vision.image_size)?;
        Ok(Self { config, preprocessing, tokenizer })
    }
}

/// The `model_type` that transformers has for a model with these towers, and the id at which its
/// text tower pools.
fn family(vision: &Part<'_>, text: &Part<'_>) -> Result<(&'static str, i64)> {
    vision.check(BOTH)?;
    text.check(BOTH)?;
    text.check(TEXT)?;
    let timm = vision.text("timm_model_name");
    let pooling = text.text("pool_type").unwrap_or("argmax");
    match (timm, pooling) {
        (None, "argmax" | "eos") => {
            vision.check(VIT)?;
            text.check(CAUSAL)?;
            // transformers pools at the highest id where the end token's is 2.
            let eos = if pooling == "eos" { text.integer("eos_id", 2)? } else { 2 };
            Ok((if pooling == "eos" { "metaclip_2" } else { "clip" }, eos))
        }
        (Some(name), "last") if timm_tower(name).is_some() => {
            vision.check(TIMM_VIT)?;
            text.check(BIDIRECTIONAL)?;
            Ok(("siglip", 1))
        }
        (Some(name), _) => Err(unsupported(&format!(
            "has the image tower {} of timm with a text tower that pools at {}",
            shown(name),
            shown(pooling)
        ))),
        (None, other) => {
            Err(unsupported(&format!("has a text tower that pools at {}", shown(other))))
        }
    }
}

fn vit_vision(vision: &Part<'_>, quick: bool) -> Result<Value> {
    let width = vision.integer("width", 768)?;
    let head = vision.integer("head_width", 64)?;
    Ok(json!({
        "hidden_size": width,
        "intermediate_size": vision.mlp_width(width)?,
        "num_hidden_layers": vision.integer("layers", 12)?,
        "num_attention_heads": width.checked_div(head).unwrap_or(0),
        "patch_size": vision.integer("patch_size", 16)?,
        "image_size": vision.image_size()?,
        "hidden_act": vision.activation(quick)?,
        "layer_norm_eps": vision.epsilon()?,
    }))
}

/// Patch size, picture size, heads and activation that a name of timm's stands for.
fn timm_tower(name: &str) -> Option<(i64, i64, i64, &'static str)> {
    let (_, heads, activation) = TIMM.iter().find(|(start, ..)| name.starts_with(start))?;
    let (start, side) = name.split_once("_siglip_")?;
    let patch = start.rsplit_once("_patch")?.1;
    Some((patch.parse().ok()?, side.parse().ok()?, *heads, activation))
}

fn timm_vision(vision: &Part<'_>, name: &str, sizes: TimmSizes) -> Result<Value> {
    let tower = timm_tower(name);
    let (patch, side, heads, activation) = tower
        .ok_or_else(|| unsupported(&format!("has the image tower {} of timm", shown(name))))?;
    let image_size = vision.image_size()?;
    if image_size != side {
        let expected = format!("{side}, as timm_model_name says");
        return Err(vision.wrong("image_size", &expected, &image_size.into()));
    }
    Ok(json!({
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp_width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": heads,
        "patch_size": patch,
        "image_size": side,
        "hidden_act": activation,
        "layer_norm_eps": 1e-6,
    }))
}

fn text_config(text: &Part<'_>, quick: bool, dim: &Value, eos: i64) -> Result<Value> {
    let width = text.integer("width", 512)?;
    Ok(json!({
        "hidden_size": width,
        "intermediate_size": text.mlp_width(width)?,
        "num_hidden_layers": text.integer("layers", 12)?,
        "num_attention_heads": text.integer("heads", 8)?,
        "vocab_size": text.integer("vocab_size", 49_408)?,
        "max_position_embeddings": text.integer("context_length", 77)?,
        "hidden_act": text.activation(quick)?,
        "layer_norm_eps": text.epsilon()?,
        "projection_size": dim,
        "eos_token_id": eos,
    }))
}

fn preprocessing(root: &Value, side: i64) -> Result<Preprocessing> {
    let empty = json!({"preprocess_cfg": {}});
    let part = Part::of(root, "preprocess_cfg").or(Part::of(&empty, "preprocess_cfg"));
    let Some(part) = part else { return Err(invalid("has no object preprocess_cfg")) };
    let mut made = json!({
        "resample": if part.text("interpolation") == Some("bilinear") { 2 } else { 3 },
        "image_mean": part.get("mean"),
        "image_std": part.get("std"),
    });
    let resize = match part.text("resize_mode").unwrap_or("shortest") {
        "shortest" => json!({"image_processor_type": "CLIPImageProcessor"}),
        "squash" => json!({"image_processor_type": "CLIPImageProcessor", "do_center_crop": false,
            "size": {"height": side, "width": side}}),
        other => {
            let expected = "\"shortest\" or \"squash\"";
            return Err(part.wrong("resize_mode", expected, &other.into()));
        }
    };
    if let (Some(made), Some(resize)) = (made.as_object_mut(), resize.as_object()) {
        made.extend(resize.clone());
    }
    let bytes = made.to_string();
    processor::parse(OPEN_CLIP_CONFIG, bytes.as_bytes(), side as u32, Processor::Clip)
}

impl Part<'_> {
    /// Kinds of models that have fields of their own.
    fn refuse_other_kinds(&self) -> Result<()> {
        if self.get("multimodal_cfg").is_some() {
            return Err(unsupported("is a CoCa model, which also writes captions"));
        }
        if let Some(text) = Part::of(self.value(), "text_cfg")
            && let Some(name) = text.text("hf_model_name")
        {
            let name = shown(name);
            return Err(unsupported(&format!("has the text tower {name} of Hugging Face")));
        }
        let Some(vision) = Part::of(self.value(), "vision_cfg") else { return Ok(()) };
        if vision.get("layers").is_some_and(Value::is_array) {
            return Err(unsupported("has a ResNet as its image tower"));
        }
        match vision.text("timm_model_name") {
            Some(name) if timm_tower(name).is_none() => {
                Err(unsupported(&format!("has the image tower {} of timm", shown(name))))
            }
            _ => Ok(()),
        }
    }

    /// How open_clip cleans a prompt, which each tokenizer here does in one way.
    fn check_cleaning(&self, model_type: &str) -> Result<()> {
        let kwargs = Part::of(self.value(), "tokenizer_kwargs");
        let clean = kwargs.as_ref().and_then(|kwargs| kwargs.text("clean"));
        match (model_type, clean) {
            ("siglip", Some("canonicalize")) => Ok(()),
            ("siglip", other) => Err(unsupported(&format!(
                "has tokenizer_kwargs.clean = {}, where only \"canonicalize\" is known for SigLIP",
                shown(other.unwrap_or("null"))
            ))),
            (_, Some("canonicalize")) => Err(unsupported(
                "has tokenizer_kwargs.clean = \"canonicalize\", which is known only for SigLIP",
            )),
            _ => Ok(()),
        }
    }
}
