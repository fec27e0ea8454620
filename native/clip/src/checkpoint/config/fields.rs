//! Typed fields of `config.json`.

use serde_json::{Map, Value};

use super::Activation;
use crate::error::{Error, ErrorKind, Result};

/// Reads typed fields of one JSON object and names the field in every complaint.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    prefix: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, prefix: &'static str) -> Self {
        Self { map, prefix }
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn wrong(&self, name: &str, expected: &str, value: &Value) -> Error {
        let prefix = self.prefix;
        invalid(format!("config.json: expected {prefix}{name} to be {expected}, got {value}"))
    }

    pub(super) fn integer(&self, name: &str, default: i64) -> Result<i64> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value.as_i64().ok_or_else(|| self.wrong(name, "an integer", value)),
        }
    }

    pub(super) fn size(&self, name: &str, default: i64, most: i64) -> Result<i64> {
        self.at_least(name, 1, default, most)
    }

    pub(super) fn at_least(&self, name: &str, least: i64, default: i64, most: i64) -> Result<i64> {
        let value = self.integer(name, default)?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            let expected = format!("an integer between {least} and {most}");
            Err(self.wrong(name, &expected, &value.into()))
        }
    }

    pub(super) fn number(&self, name: &str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| self.wrong(name, "a number", value)),
        }
    }

    /// Python writes NaN, and as long as the weights have a logit scale, it says nothing.
    pub(super) fn logit_scale(&self) -> Result<f64> {
        let name = "logit_scale_init_value";
        match self.get(name).and_then(Value::as_str) {
            Some("NaN" | "Infinity" | "-Infinity") => Ok(f64::NAN),
            _ => self.number(name, 2.6592),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(name, "true or false", value)),
        }
    }

    pub(super) fn epsilon(&self, default: f64) -> Result<f64> {
        let value = self.number("layer_norm_eps", default)?;
        if value > 0.0 && value <= 1.0 {
            return Ok(value);
        }
        Err(self.wrong("layer_norm_eps", "a number between 0 and 1", &value.into()))
    }

    pub(super) fn activation(&self, default: Activation) -> Result<Activation> {
        match self.get("hidden_act") {
            None => Ok(default),
            Some(value) => match value.as_str() {
                Some("quick_gelu") => Ok(Activation::QuickGelu),
                Some("gelu") => Ok(Activation::Gelu),
                Some("gelu_new" | "gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
                _ => Err(self.wrong(
                    "hidden_act",
                    "\"quick_gelu\", \"gelu\", \"gelu_new\" or \"gelu_pytorch_tanh\"",
                    value,
                )),
            },
        }
    }
}

pub(super) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
