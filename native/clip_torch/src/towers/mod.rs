//! The two towers as libtorch operations, written once for all checkpoints.

pub(crate) mod feed_forward;
pub(crate) mod layers;
pub(crate) mod loader;
pub(crate) mod matmul;
mod narrow;
pub(crate) mod parts;
pub(crate) mod probe;
pub(crate) mod text;
pub(crate) mod transformer;
pub(crate) mod vision;
