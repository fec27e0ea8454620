//! RGB pixels to what the image tower takes: resized, cropped, channel by channel.
//!
//! The reference is OpenAI's own recipe, `clip/clip.py` of openai/CLIP at dcba3cb, on Pillow:
//! bicubic with antialias on 8-bit pixels so that the shortest edge fits, the long edge truncated,
//! the centre cut out, halves rounded to even. Pillow makes two passes, the horizontal one first,
//! and rounds to 8 bits after each: so does this, which is at most one level off, because its
//! coefficients have fewer bits. Hugging Face's processors truncate the crop's offset, and so look
//! one pixel further up or left wherever the margin is 3 modulo 4.
//!
//! Mean and standard deviation are read here and applied in the exported encoder, on its device.

mod read;
mod stored;
mod window;

use std::ops::Range;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ImageView, ResizeAlg, ResizeOptions, Resizer};

use crate::error::{Error, ErrorKind, Result};
use crate::image::orientation::Turn;
use crate::image::{Rgb, Whole};

use self::stored::Stored;
pub use read::Prepared;
pub use window::Window;

/// Mean of each channel in OpenAI's training data, red first (`clip.py`, line 85).
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];

/// Standard deviation of each channel in OpenAI's training data, red first (`clip.py`, line 85).
pub const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

// Typed, because the untyped ones bring code for fourteen kinds of pixels: a minute of compilation.
type Pixels<'a> = TypedImage<'a, U8x3>;
type PixelsRef<'a> = TypedImageRef<'a, U8x3>;

/// To which size a picture is resized before it is cropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter edge to this many pixels, the longer one in proportion.
    ShortestEdge(u32),
    /// To this height and width, whatever the proportions.
    Exact {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
    },
}

/// How pixels are averaged, always with antialias. The names are Pillow's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Lanczos with three lobes, `resample` 1.
    Lanczos,
    /// Triangle, `resample` 2.
    Bilinear,
    /// Cubic with a = -0.5, `resample` 3: what CLIP uses.
    Bicubic,
    /// Mean, `resample` 4.
    Box,
    /// Hamming window, `resample` 5.
    Hamming,
}

/// A processor of transformers: what stands in for fields that a file leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processor {
    /// The shortest edge resized, the centre cut out, OpenAI's mean and deviation.
    Clip,
    /// Squashed to the size, nothing cut off, mean and deviation 0.5.
    Siglip,
}

/// What a model wants done to a picture: the content of `preprocessor_config.json`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Preprocessing {
    /// The size before the crop.
    pub resize: Resize,
    /// Height and width to cut from the centre, `None` for everything.
    pub crop: Option<(u32, u32)>,
    /// The resampling filter.
    pub filter: Filter,
    /// What the encoder subtracts from the pixels, which it has divided by 255, red first.
    pub mean: [f32; 3],
    /// What the encoder divides by after that, red first.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// The recipe of OpenAI's CLIP for a model whose pictures are `size` x `size` pixels.
    #[must_use]
    pub fn clip(size: u32) -> Self {
        Self {
            resize: Resize::ShortestEdge(size),
            crop: Some((size, size)),
            filter: Filter::Bicubic,
            mean: CLIP_MEAN,
            std: CLIP_STD,
        }
    }

    /// Resizes and crops a picture to 3 x height x width bytes, all red ones first.
    ///
    /// # Errors
    /// `InvalidConfig` when the crop is larger than the resized picture.
    pub fn apply(&self, rgb: &Rgb) -> Result<Vec<u8>> {
        let size = (rgb.stored_width, rgb.stored_height);
        let plan = self.plan(rgb.whole, rgb.turn, size)?;
        let halfway = self.pass(&Stored::of(rgb)?, plan.first)?;
        let source = PixelsRef::new(halfway.width(), halfway.height(), halfway.pixels());
        let pixels = self.pass(&source.map_err(impossible)?, plan.second)?;
        Ok(planes(pixels.pixels(), rgb.turn, plan.size))
    }

    /// The [`least_side`](crate::image::DecodeOptions::least_side) of a picture that is resized to
    /// this afterwards: four times its longer side. From there on, what a JPEG loses by being
    /// decoded to fewer pixels is lost in resizing anyway.
    pub fn least_side(&self) -> u32 {
        let longer = match self.resize {
            Resize::ShortestEdge(size) => size,
            Resize::Exact { height, width } => height.max(width),
        };
        longer.saturating_mul(4)
    }

    /// Height and width after resizing an upright picture of this width and height.
    fn resized(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let long = |size: u32, long: u32, short: u32| {
            let scaled = u64::from(size) * u64::from(long) / u64::from(short.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        match self.resize {
            Resize::Exact { height, width } => (height, width),
            Resize::ShortestEdge(size) if width <= height => (long(size, height, width), size),
            Resize::ShortestEdge(size) => (size, long(size, width, height)),
        }
    }

    /// How a picture is resized that is stored in this width and height.
    fn plan(&self, whole: Whole, turn: Turn, (width, height): (u32, u32)) -> Result<Plan> {
        let upright = turn.size(whole.size);
        let resized = self.resized(upright);
        let crop = self.crop.unwrap_or(resized);
        let mut columns = Span::new(upright.0, resized.1, crop.1)?;
        let mut rows = Span::new(upright.1, resized.0, crop.0)?;
        if turn.mirror_x {
            columns = columns.mirrored(upright.0);
        }
        if turn.mirror_y {
            rows = rows.mirrored(upright.1);
        }
        let kept = f64::from(whole.eighths) / 8.0;
        let (columns, rows) = (columns.scaled(kept), rows.scaled(kept));
        let radius = self.filter.radius();
        let size = (crop.1, crop.0);
        Ok(if turn.swap {
            let (reach, rest) = rows.split(width, radius);
            Plan { first: (reach, columns), second: (rest, Span::whole(columns.len)), size }
        } else {
            let (reach, rest) = rows.split(height, radius);
            Plan { first: (columns, reach), second: (Span::whole(columns.len), rest), size }
        })
    }

    fn pass(
        &self,
        source: &impl ImageView<Pixel = U8x3>,
        (x, y): (Span, Span),
    ) -> Result<Pixels<'static>> {
        let mut target = Pixels::new(x.len, y.len);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(self.filter.kernel()))
            .crop(x.start, y.start, x.extent, y.extent);
        Resizer::new().resize_typed(source, &mut target, &options).map_err(impossible)?;
        Ok(target)
    }
}

/// Two passes, along the upright rows first, over the cropped part and what the kernel reaches around it:
/// across and down the picture as it is stored. The result is still to be turned.
struct Plan {
    first: (Span, Span),
    second: (Span, Span),
    /// Width and height of the upright result.
    size: (u32, u32),
}

impl Filter {
    /// How many pixels of the result the kernel reaches to each side.
    fn radius(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Box => 0.5,
        }
    }

    fn kernel(self) -> FilterType {
        match self {
            Self::Lanczos => FilterType::Lanczos3,
            Self::Bilinear => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Box => FilterType::Box,
            Self::Hamming => FilterType::Hamming,
        }
    }
}

/// Along one axis: `len` pixels of the result, and the stretch of the source that they cover.
#[derive(Clone, Copy)]
struct Span {
    len: u32,
    start: f64,
    extent: f64,
}

impl Span {
    /// The centre of `crop` pixels, after `source` pixels were resized to `resized`.
    fn new(source: u32, resized: u32, crop: u32) -> Result<Self> {
        let Some(margin) = resized.checked_sub(crop) else {
            let message = format!(
                "crop of {crop} pixels is larger than the resized picture, {resized} pixels; \
                correct crop_size or size in preprocessor_config.json"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        };
        // Half of the margin, rounded as Python rounds: 1.5 and 2.5 both become 2.
        let half = margin / 2;
        let offset = if margin % 2 == 1 { half + half % 2 } else { half };
        let scale = f64::from(source) / f64::from(resized);
        let start = f64::from(offset) * scale;
        let extent = (f64::from(crop) * scale).min(f64::from(source) - start);
        Ok(Self { len: crop, start, extent })
    }

    /// `len` pixels as they are.
    fn whole(len: u32) -> Self {
        Self { len, start: 0.0, extent: f64::from(len) }
    }

    /// The same stretch among so many times the pixels.
    fn scaled(self, times: f64) -> Self {
        Self { start: self.start * times, extent: self.extent * times, ..self }
    }

    /// The same stretch, counted from the other end of `source` pixels.
    fn mirrored(self, source: u32) -> Self {
        Self { start: (f64::from(source) - self.start - self.extent).max(0.0), ..self }
    }

    /// The pixels among `size` that the kernel touches.
    fn touched(self, size: u32, radius: f64) -> Range<u32> {
        let (reach, _) = self.split(size, radius);
        let first = reach.start as u32;
        first..first + reach.len
    }

    /// The pixels among `size` that the kernel touches, as they are, and this stretch counted from
    /// the first of them.
    fn split(self, size: u32, radius: f64) -> (Self, Self) {
        let support = radius * (self.extent / f64::from(self.len)).max(1.0);
        let first = (self.start - support).floor().max(0.0);
        let end = (self.start + self.extent + support).ceil().min(f64::from(size));
        let reach = Self { len: (end - first) as u32, start: first, extent: end - first };
        (reach, Self { start: self.start - first, ..self })
    }
}

/// Pixel by pixel, turned, to channel by channel, upright.
fn planes(pixels: &[U8x3], turn: Turn, size: (u32, u32)) -> Vec<u8> {
    let mut planes = vec![0; 3 * pixels.len()];
    let (red, others) = planes.split_at_mut(pixels.len());
    let (green, blue) = others.split_at_mut(pixels.len());
    // By `for_each`: a loop that asks for one index after another takes ten times as long.
    turn.indices(size).enumerate().for_each(|(to, at)| {
        [red[to], green[to], blue[to]] = pixels[at].0;
    });
    planes
}

fn impossible(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidImage, format!("picture cannot be resized: {error}"))
        .with_source(error)
}
