//! Which part of a picture the model sees.

use super::{Preprocessing, Span};
use crate::error::Result;

/// A part of an upright picture, in its pixels, which need not be whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Pixels to the left of it.
    pub left: f64,
    /// Pixels above it.
    pub top: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
}

impl Preprocessing {
    /// The part of an upright picture of this width and height that becomes patches of `patch` x `patch`
    /// pixels. What is left over beside the last whole patch is not part of it.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn window(&self, size: (u32, u32), patch: u32) -> Result<Window> {
        let (height, width) = self.resized(size);
        let crop = self.crop.unwrap_or((height, width));
        let columns = Span::new(size.0, width, crop.1)?;
        let rows = Span::new(size.1, height, crop.0)?;
        let seen = |span: Span| {
            let whole = span.len - span.len % patch.max(1);
            span.extent * f64::from(whole) / f64::from(span.len.max(1))
        };
        Ok(Window {
            left: columns.start,
            top: rows.start,
            width: seen(columns),
            height: seen(rows),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::preprocess::Resize;

    fn window(size: (u32, u32), patch: u32) -> [f64; 4] {
        let window = Preprocessing::clip(224).window(size, patch).unwrap();
        [window.left, window.top, window.width, window.height]
    }

    fn close(ours: [f64; 4], expected: [f64; 4]) {
        let off = ours.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-9, "{ours:?}, expected {expected:?}");
    }

    #[test]
    fn a_square_is_seen_whole_at_any_size() {
        for side in [1, 100, 224, 4000] {
            let length = f64::from(side);
            close(window((side, side), 32), [0.0, 0.0, length, length]);
        }
    }

    #[test]
    fn of_other_pictures_the_middle_is_seen() {
        // 448 x 224: 112 pixels are cut off at each side.
        close(window((896, 448), 32), [224.0, 0.0, 448.0, 448.0]);
        close(window((448, 896), 32), [0.0, 224.0, 448.0, 448.0]);
    }

    #[test]
    fn pixels_beside_the_last_whole_patch_are_not_seen() {
        // 224 is 18 patches of 12, and 8 pixels.
        let seen = 448.0 * 216.0 / 224.0;
        close(window((448, 448), 12), [0.0, 0.0, seen, seen]);
    }

    #[test]
    fn a_squashed_picture_is_seen_whole() {
        let mut squashing = Preprocessing::clip(224);
        (squashing.resize, squashing.crop) = (Resize::Exact { height: 224, width: 224 }, None);
        let window = squashing.window((640, 480), 16).unwrap();
        close([window.left, window.top, window.width, window.height], [0.0, 0.0, 640.0, 480.0]);
    }

    #[test]
    fn a_crop_larger_than_the_picture_is_an_error() {
        let mut impossible = Preprocessing::clip(224);
        impossible.crop = Some((300, 300));
        assert!(impossible.window((100, 100), 32).is_err());
    }
}
