//! Objects of `open_clip_config.json`, whose fields are named in every complaint.

use serde_json::{Map, Value, json};

use crate::checkpoint::layout::OPEN_CLIP_CONFIG;
use crate::error::{Error, ErrorKind, Result};

/// Fields that may have no other value than this, as JSON, or none.
pub(super) type Only = [(&'static str, &'static str)];

/// An object of the file.
pub(super) struct Part<'a> {
    name: &'a str,
    value: &'a Value,
    map: &'a Map<String, Value>,
}

impl<'a> Part<'a> {
    pub(super) fn of(parent: &'a Value, name: &'a str) -> Option<Self> {
        let value = parent.get(name)?;
        Some(Self { name, value, map: value.as_object()? })
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, field: &str) -> Option<&'a str> {
        self.get(field)?.as_str().filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&self, field: &str) -> bool {
        self.get(field) == Some(&Value::Bool(true))
    }

    pub(super) fn wrong(&self, field: &str, expected: &str, value: &Value) -> Error {
        let name = self.name;
        let value = shown(&value.to_string());
        invalid(&format!("expected {name}.{field} to be {expected}, got {value}"))
    }

    pub(super) fn integer(&self, field: &str, default: i64) -> Result<i64> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => value.as_i64().ok_or_else(|| self.wrong(field, "an integer", value)),
        }
    }

    pub(super) fn number(&self, field: &str, default: f64) -> Result<f64> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(field, "a number", value)),
        }
    }

    pub(super) fn mlp_width(&self, width: i64) -> Result<i64> {
        Ok((width as f64 * self.number("mlp_ratio", 4.0)?) as i64)
    }

    /// Side of the square picture: a number, or height and width.
    pub(super) fn image_size(&self) -> Result<i64> {
        let Some(value) = self.get("image_size") else { return Ok(224) };
        let side = match value.as_array().map(Vec::as_slice) {
            Some([height, width]) if height == width => height.as_i64(),
            _ => value.as_i64(),
        };
        side.ok_or_else(|| self.wrong("image_size", "the side of a square", value))
    }

    pub(super) fn activation(&self, quick: bool) -> Result<&'static str> {
        match self.get("act_kwargs") {
            None if quick => Ok("quick_gelu"),
            None => Ok("gelu"),
            Some(value) if !quick && *value == json!({"approximate": "tanh"}) => {
                Ok("gelu_pytorch_tanh")
            }
            Some(value) => Err(self.wrong("act_kwargs", "{\"approximate\": \"tanh\"}", value)),
        }
    }

    pub(super) fn epsilon(&self) -> Result<f64> {
        match Part::of(self.value, "norm_kwargs") {
            None => Ok(1e-5),
            Some(norm) => norm.number("eps", 1e-5),
        }
    }

    /// Fields that a model of transformers has no place for.
    pub(super) fn check(&self, only: &Only) -> Result<()> {
        for (field, value) in only {
            let Some(found) = self.get(field).map(Value::to_string) else { continue };
            if found != *value {
                let (name, found) = (self.name, shown(&found));
                return Err(unsupported(&format!(
                    "has {name}.{field} = {found}, where only {value} is known"
                )));
            }
        }
        Ok(())
    }
}

/// The start of a text from outside, in quotes.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.trim_matches('"').chars().take(80).collect::<String>())
}

pub(super) fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("{OPEN_CLIP_CONFIG}: {why}"))
}

pub(super) fn unsupported(what: &str) -> Error {
    Error::new(
        ErrorKind::UnsupportedModel,
        format!(
            "this model of open_clip {what}, which is not supported; supported are towers of ViT CLIP, \
             SigLIP and MetaCLIP 2"
        ),
    )
}
