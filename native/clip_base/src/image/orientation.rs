//! The eight Exif orientations.

use image::metadata::Orientation;

/// How upright pixels are found among stored ones: mirrored first, then with the axes swapped.
///
/// The upright pixel (x, y) of a picture of `width` x `height` upright pixels is stored at column
/// u, row v, where u is x, or `width - 1 - x` with `mirror_x`, and v likewise; with `swap` at
/// column v, row u.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) mirror_x: bool,
    pub(crate) mirror_y: bool,
    pub(crate) swap: bool,
}

impl From<Orientation> for Turn {
    fn from(orientation: Orientation) -> Self {
        let (mirror_x, mirror_y, swap) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (true, false, false),
            Orientation::Rotate180 => (true, true, false),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (false, false, true),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
            Orientation::Rotate270 => (false, true, true),
        };
        Self { mirror_x, mirror_y, swap }
    }
}

impl Turn {
    /// Upright width and height of a picture that is stored in this width and height, or the other
    /// way round.
    pub(crate) fn size(self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.swap { (height, width) } else { (width, height) }
    }

    /// Where the upright pixels of a picture of this upright size are stored: row by row, as
    /// indices of pixels.
    pub(crate) fn indices(
        self,
        (width, height): (u32, u32),
    ) -> impl Iterator<Item = usize> + Clone {
        let (width, height) = (width as usize, height as usize);
        (0..height).flat_map(move |y| {
            let v = if self.mirror_y { height - 1 - y } else { y };
            (0..width).map(move |x| {
                let u = if self.mirror_x { width - 1 - x } else { x };
                if self.swap { u * height + v } else { v * width + u }
            })
        })
    }
}
