//! The two towers as libtorch operations, written once for all checkpoints.

pub(crate) mod matmul;
pub(crate) mod text;
pub(crate) mod transformer;
pub(crate) mod vision;
