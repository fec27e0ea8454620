//! The towers as TorchScript: exported here or by a user, cached, and fed with passes.

pub(crate) mod cache;
pub(crate) mod dense;
pub(crate) mod encoder;
pub(crate) mod export;
pub(crate) mod key;
pub(crate) mod parts;
pub(crate) mod table;
pub(crate) mod trie;
pub(crate) mod user;
