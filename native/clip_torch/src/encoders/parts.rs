//! A second export of the image tower, which returns the parts that sum to the embedding: see
//! [`VisionTower::parts`](crate::towers::vision::VisionTower::parts).

use clip::checkpoint::config::Config;
use tch::CModule;

use crate::error::{Error, ErrorKind, Result};

/// The module, or why there is none.
#[derive(Debug)]
pub(crate) enum Parts {
    Module(CModule),
    Refused(String),
}

impl Parts {
    /// TorchScript of the user's gives embeddings, and nothing is known of what is inside.
    pub(crate) fn of_user() -> Self {
        let reason = "the encoders of this model were exported by its user, and only give embeddings; \
                      load the model without them";
        Self::Refused(reason.to_owned())
    }

    pub(crate) fn without_class_token(config: &Config) -> Self {
        Self::Refused(format!(
            "{} models cannot be explained: the head behind their patches is not linear, so the \
             parts of the patches would not sum to the score; use a CLIP model",
            config.family.model_type
        ))
    }

    pub(crate) fn module(&self) -> Result<&CModule> {
        match self {
            Self::Module(module) => Ok(module),
            Self::Refused(reason) => Err(Error::new(ErrorKind::UnsupportedModel, reason)),
        }
    }
}
