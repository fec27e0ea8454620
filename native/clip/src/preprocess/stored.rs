//! The pixels of a picture for resizing, also where only some of its columns were decoded.

#![allow(unsafe_code)]

use fast_image_resize::ImageView;
use fast_image_resize::pixels::U8x3;

use super::{PixelsRef, impossible};
use crate::error::Result;
use crate::image::Rgb;

/// As wide as the whole picture, so that each column gets exactly the weights that it gets there.
pub(super) struct Stored<'a> {
    /// All in one row.
    pixels: PixelsRef<'a>,
    width: u32,
    height: u32,
    stride: u32,
}

impl<'a> Stored<'a> {
    pub(super) fn of(rgb: &'a Rgb) -> Result<Self> {
        let (width, height, stride) = (rgb.stored_width, rgb.stored_height, rgb.stride);
        let count = u32::try_from(rgb.stored.len() / 3).unwrap_or(u32::MAX);
        let pixels = PixelsRef::from_buffer(count, 1, &rgb.stored).map_err(impossible)?;
        Ok(Self { pixels, width, height, stride })
    }
}

// SAFETY: every row is a slice as long as the picture is wide.
unsafe impl ImageView for Stored<'_> {
    type Pixel = U8x3;

    fn width(&self) -> u32 {
        self.width
    }

    fn height(&self) -> u32 {
        self.height
    }

    fn iter_rows(&self, start_row: u32) -> impl Iterator<Item = &[U8x3]> {
        let [width, stride] = [self.width, self.stride].map(|side| side as usize);
        let pixels = self.pixels.pixels();
        (start_row..self.height).map(move |row| &pixels[row as usize * stride..][..width])
    }
}
