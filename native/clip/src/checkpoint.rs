//! What a checkpoint in the layout of Hugging Face transformers is made of: one rule, for the
//! directory that is loaded and for the repository that is fetched by name.

pub mod config;
pub mod contents;
pub mod directory;
pub mod family;
pub mod files;
pub mod fingerprint;
pub mod json;
pub mod layout;
pub mod open_clip;
pub mod processor;
pub mod transformer;
