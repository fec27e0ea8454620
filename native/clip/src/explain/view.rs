//! A picture at the size at which it is shown.

use crate::error::Result;
use crate::image::Rgb;
use crate::preprocess::{Filter, Preprocessing, Resize};

/// Longer side of what is shown. Smaller pictures are enlarged so that patches can be told apart,
/// larger ones would be large files and show no more.
const LONGER_SIDE: (u32, u32) = (448, 1024);

/// An upright picture at the size at which it is shown, and the size that it has.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Width of the view in pixels.
    pub width: u32,
    /// Height of the view in pixels.
    pub height: u32,
    /// Width and height of the picture.
    pub picture: (u32, u32),
    /// Three planes of `height` x `width` bytes, all red ones first.
    pub planes: Vec<u8>,
}

impl View {
    /// The view of a decoded picture.
    pub fn new(rgb: &Rgb) -> Result<Self> {
        let picture = rgb.whole_size();
        let (width, height) = size(picture);
        let mut scaling = Preprocessing::clip(0);
        scaling.resize = Resize::Exact { height, width };
        scaling.crop = None;
        scaling.filter = Filter::Bilinear;
        Ok(Self { width, height, picture, planes: scaling.apply(rgb)? })
    }

    /// Red, green and blue of a pixel.
    pub(super) fn pixel(&self, x: u32, y: u32) -> [u8; 3] {
        let plane = self.width as usize * self.height as usize;
        let at = y as usize * self.width as usize + x as usize;
        [0, 1, 2].map(|channel| self.planes[channel * plane + at])
    }
}

fn size((width, height): (u32, u32)) -> (u32, u32) {
    let longer = width.max(height);
    let shown = longer.clamp(LONGER_SIDE.0, LONGER_SIDE.1);
    let scaled = |side: u32| {
        let scaled =
            (u64::from(side) * u64::from(shown) + u64::from(longer) / 2) / u64::from(longer);
        (scaled as u32).max(1)
    };
    (scaled(width), scaled(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_side_is_within_bounds_and_the_shape_is_kept() {
        assert_eq!(size((4000, 3000)), (1024, 768));
        assert_eq!(size((600, 800)), (600, 800));
        assert_eq!(size((64, 32)), (448, 224));
        assert_eq!(size((1, 1)), (448, 448));
        assert_eq!(size((1, 16_384)), (1, 1024));
    }
}
