//! A file to what the image tower takes, without the columns that are cut off.

use super::Preprocessing;
use crate::budget::Budget;
use crate::error::Result;
use crate::image::{self, DecodeOptions};

/// A picture as a model takes it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// 3 x height x width bytes, all red ones first.
    pub pixels: Vec<u8>,
    /// Width and height of the upright picture in its file.
    pub size: (u32, u32),
}

impl Preprocessing {
    /// Same as [`decode`](image::decode) and then [`apply`](Self::apply), but faster for a JPEG: columns that are
    /// cut off are not computed.
    ///
    /// # Errors
    /// Those of both.
    pub fn read(
        &self,
        bytes: &[u8],
        options: &DecodeOptions,
        budget: &Budget<'_>,
    ) -> Result<Prepared> {
        let rgb = image::decode_seen(bytes, options, budget, &|whole, turn, size| {
            // A crop that does not fit is an error of `apply`.
            let (columns, _) = self.plan(whole, turn, size).ok()?.first;
            Some(columns.touched(size.0, self.filter.radius()))
        })?;
        Ok(Prepared { pixels: self.apply(&rgb)?, size: rgb.whole_size() })
    }
}
