//! How much a picture may cost: every bound in one place.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Limit, Remedy, Result};

/// The longest colour profile that is read. Those of presses are longer than others, up to 3 MB.
pub(crate) const MAX_PROFILE: usize = 4 << 20;

/// What a picture may cost before it is refused.
///
/// The size is read from the header, so a picture over a limit is refused before its pixels are
/// decoded. Every error names the limit that it hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width times height, in pixels.
    pub max_pixels: u64,
    /// Width and height, in pixels each.
    pub max_side: u32,
    /// Length of the encoded picture, in bytes.
    pub max_bytes: u64,
    /// What decoding may hold in memory at once, in bytes: decoder buffers and pixels together, a
    /// careful estimate.
    pub max_decode_bytes: u64,
    /// The processor time that decoding may take.
    pub max_decode_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pixels: 50_000_000,
            max_side: 16_384,
            max_bytes: 25_000_000,
            max_decode_bytes: 512 * 1024 * 1024,
            max_decode_time: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Refuses an encoded picture that is longer than `max_bytes`.
    ///
    /// # Errors
    /// `ImageTooLarge`.
    pub fn check_bytes(&self, len: usize) -> Result<()> {
        if len as u64 <= self.max_bytes {
            return Ok(());
        }
        Err(self.too_long(&len.to_string()))
    }

    /// The error for a picture that turned out longer than `max_bytes` while it was read.
    pub fn grown(&self) -> Error {
        self.too_long(&format!("more than {}", self.max_bytes))
    }

    fn too_long(&self, len: &str) -> Error {
        let most = self.max_bytes;
        let message =
            format!("picture is {len} bytes long, the limit is {most} bytes; compress it or");
        too_large(message, Limit::Bytes)
    }

    /// Refuses a picture of no pixels, of too many, or with too long a side.
    ///
    /// # Errors
    /// `InvalidImage` when a side is 0, otherwise `ImageTooLarge`.
    pub fn check_size(&self, width: impl Into<u64>, height: impl Into<u64>) -> Result<()> {
        let (width, height) = (width.into(), height.into());
        let pixels = width.saturating_mul(height);
        if pixels == 0 {
            let message =
                format!("picture is {width} x {height} pixels, it has to have at least one");
            return Err(Error::new(ErrorKind::InvalidImage, message));
        }
        if pixels > self.max_pixels {
            let most = format!("{} pixels", self.max_pixels);
            return Err(size_too_large(width, height, &most, Limit::Pixels));
        }
        if width.max(height) > self.max_side.into() {
            let most = format!("{} pixels a side", self.max_side);
            return Err(size_too_large(width, height, &most, Limit::Side));
        }
        Ok(())
    }

    /// Refuses a picture that needs more than `max_decode_bytes` of memory.
    ///
    /// # Errors
    /// `ImageTooLarge`.
    pub fn check_decode_bytes(&self, needed: u64) -> Result<()> {
        if needed <= self.max_decode_bytes {
            return Ok(());
        }
        let message = format!(
            "picture takes {needed} bytes of memory to decode, the limit is {} bytes; resize it \
            first or",
            self.max_decode_bytes
        );
        Err(too_large(message, Limit::DecodeBytes))
    }
}

fn size_too_large(width: u64, height: u64, most: &str, limit: Limit) -> Error {
    let message =
        format!("picture is {width} x {height} pixels, the limit is {most}; resize it first or");
    too_large(message, limit)
}

fn too_large(message: String, limit: Limit) -> Error {
    Error::new(ErrorKind::ImageTooLarge, message).with_remedy(Remedy::Raise(limit))
}
