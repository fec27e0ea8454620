//! What libtorch runs on: threads and what they share, the device, and the end of the process.

pub(crate) mod delay;
pub mod device;
pub(crate) mod exit;
pub(crate) mod inference_mode;
pub(crate) mod memory;
pub(crate) mod precision;
pub(crate) mod queue;
pub(crate) mod settings;
pub(crate) mod team;
pub(crate) mod threads;
pub(crate) mod workers;
