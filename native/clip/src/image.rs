//! Encoded bytes to RGB pixels, upright, as Pillow's `ImageOps.exif_transpose` and `convert("RGB")`
//! make them.
//!
//! JPEG, PNG, GIF, WebP, BMP and TIFF are read, told apart by content. Of an animation or a
//! multi-page file the first picture counts. It is laid over white or another colour, grey is
//! repeated, and colour profiles are ignored unless [`ColorProfile::Srgb`] is asked for. One rule is
//! not Pillow's: of 16 bits a sample the high 8 are kept for grey too, where Pillow clips to 255 and so
//! turns nearly everything white.
//!
//! Whatever the bytes are, [`decode`] answers with pixels or an error: sizes are checked against
//! [`Limits`](crate::limits::Limits) from the header, and a decoder that panics is caught.

mod bitmap;
mod bmp;
mod format;
mod gif;
mod jpeg;
mod numbers;
pub(crate) mod orientation;
mod pages;
mod png;
mod profile;
mod scale;
mod tiff;
mod webp;
mod work;

use std::ops::Range;

use self::bitmap::{Bitmap, Channels};
use self::format::Format;
pub use self::numbers::{NumberType, Numbers, from_numbers};
use self::orientation::Turn;
use self::profile::Profile;
pub use self::scale::Scale;
pub use self::work::{work, work_of_pixels};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result, caught};

/// A decoded picture: RGB, 8 bits a channel.
///
/// Pixels stay in the order in which the file has them; turning them upright would take longer than
/// resizing them, so that is left until few remain. Width, height and [`pixels`](Self::pixels) are
/// those of the upright picture.
#[derive(Clone)]
pub struct Rgb {
    pub(crate) stored_width: u32,
    pub(crate) stored_height: u32,
    /// Rows of `stored_width` x 3 bytes.
    pub(crate) stored: Vec<u8>,
    /// Pixels from the start of one row to the start of the next. Fewer than a row has if only some columns
    /// were decoded: the others then are pixels of other rows.
    pub(crate) stride: u32,
    pub(crate) turn: Turn,
    pub(crate) whole: Whole,
}

/// The picture that pixels stand for: larger than they are where it was decoded to fewer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    /// Stored width and height.
    pub(crate) size: (u32, u32),
    /// Pixels that are left of eight, along each side; the last one may cover less.
    pub(crate) eighths: u8,
}

impl Whole {
    fn all(width: u32, height: u32) -> Self {
        Self { size: (width, height), eighths: 8 }
    }
}

impl Rgb {
    /// Width of the upright picture as decoded, in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.size().0
    }

    /// Height of the upright picture as decoded, in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.size().1
    }

    /// The upright picture: `height` x `width` x 3 bytes, rows from the top, red first.
    pub fn pixels(&self) -> Vec<u8> {
        let stored = self.stored.as_chunks::<3>().0;
        self.turn.indices(self.size()).flat_map(|at| stored[at]).collect()
    }

    /// Width and height of the upright picture in its file, which may have been decoded to fewer
    /// pixels.
    pub fn whole_size(&self) -> (u32, u32) {
        self.turn.size(self.whole.size)
    }

    fn size(&self) -> (u32, u32) {
        self.turn.size((self.stored_width, self.stored_height))
    }
}

impl std::fmt::Debug for Rgb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb({} x {})", self.width(), self.height())
    }
}

/// How a picture becomes RGB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// What becomes of transparent pixels.
    pub background: Background,
    /// What becomes of an embedded colour profile.
    pub color_profile: ColorProfile,
    /// Fewer pixels will do, as long as each side keeps so many: a JPEG is then decoded to a half or
    /// less along each side, other formats as ever. `None` decodes all.
    pub least_side: Option<u32>,
}

/// What becomes of an embedded colour profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColorProfile {
    /// It is not even read, as by Pillow's `convert`.
    #[default]
    Ignore,
    /// The colours are converted to sRGB by it, relative colorimetric.
    Srgb,
}

/// What becomes of transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// This colour shows through them.
    Color([u8; 3]),
    /// Alpha is dropped, so that the colour stored under it appears: OpenAI's own recipe.
    Drop,
}

/// White: what Hugging Face's processors lay a picture over since transformers 5.
impl Default for Background {
    fn default() -> Self {
        Self::Color([255; 3])
    }
}

/// Decodes a picture to upright RGB. Its pixels stay in the memory that `budget` reserves, so keep
/// the budget as long as them.
///
/// # Errors
/// `UnsupportedImage` for another format or a variant that no decoder here reads, `ImageTooLarge`
/// for one over a limit, `Timeout` where the budget says so, `InvalidImage` for everything else that
/// is wrong with the bytes.
pub fn decode(bytes: &[u8], options: &DecodeOptions, budget: &Budget<'_>) -> Result<Rgb> {
    decode_seen(bytes, options, budget, &|_, _, _| None)
}

/// The stored columns that are wanted of a picture that is turned so and stored in this width and height.
/// `None` for all.
pub(crate) type Seen<'a> = &'a dyn Fn(Whole, Turn, (u32, u32)) -> Option<Range<u32>>;

/// Same as [`decode()`], but columns that are not `seen` may hold anything.
///
/// # Errors
/// The same, wherever the damage is.
pub(crate) fn decode_seen(
    bytes: &[u8],
    options: &DecodeOptions,
    budget: &Budget<'_>,
    seen: Seen<'_>,
) -> Result<Rgb> {
    budget.limits().check_bytes(bytes.len())?;
    let format = format::detect(bytes)?;
    let profile = match options.color_profile {
        ColorProfile::Ignore => None,
        ColorProfile::Srgb => Profile::read(format, bytes, budget)?,
    };
    // Converting wants all pixels.
    let seen: Seen<'_> = if profile.is_some() { &|_, _, _| None } else { seen };
    // The decoders' own documentation says that they can panic on malicious input.
    let bitmap = caught(|| read(format, bytes, options, budget, seen))
        .unwrap_or_else(|panic| Err(broken(format, "its decoder gave up").with_source(panic)));
    let bitmap = bitmap.map_err(|error| budget.refusal().unwrap_or(error))?;
    let bitmap = match profile {
        Some(profile) => profile.convert(bitmap, budget)?,
        None => bitmap,
    };
    bitmap.into_rgb(options.background)
}

/// Takes raw pixels, `height` x `width` x `channels` bytes: grey, grey and alpha, RGB, or RGBA.
///
/// # Errors
/// `InvalidArgument` when the length or the number of channels is wrong, otherwise as [`decode`].
pub fn from_raw(
    data: &[u8],
    height: u32,
    width: u32,
    channels: u32,
    options: &DecodeOptions,
    budget: &Budget<'_>,
) -> Result<Rgb> {
    let kind = Channels::from_count(channels).ok_or_else(|| {
        invalid_argument(format!(
            "picture has {channels} channels, expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 \
            (RGBA)"
        ))
    })?;
    budget.limits().check_size(width, height)?;
    let expected = u64::from(width) * u64::from(height) * u64::from(channels);
    if data.len() as u64 != expected {
        return Err(invalid_argument(format!(
            "picture of {height} x {width} x {channels} bytes has to be {expected} bytes long, \
            it is {}",
            data.len()
        )));
    }
    budget.reserve(u64::from(width) * u64::from(height) * (u64::from(channels) + 3))?;
    let mut copy = zeroed(data.len())?;
    copy.copy_from_slice(data);
    Bitmap::new(width, height, kind, copy).into_rgb(options.background)
}

fn invalid_argument(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn read(
    format: Format,
    bytes: &[u8],
    options: &DecodeOptions,
    budget: &Budget<'_>,
    seen: Seen<'_>,
) -> Result<Bitmap> {
    match format {
        Format::Jpeg => jpeg::read(bytes, options.least_side, budget, seen),
        Format::Png => png::read(bytes, budget),
        Format::Bmp => bmp::read(bytes, budget),
        Format::Webp => webp::read(bytes, budget),
        Format::Gif => gif::read(bytes, budget),
        Format::Tiff => tiff::read(bytes, budget),
    }
}

/// A buffer of zeros, or an error where a plain `vec![0; len]` would end the process.
fn zeroed(len: usize) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    data.try_reserve_exact(len).map_err(|error| {
        let message = format!(
            "no memory for the {len} bytes of the picture; send smaller pictures or fewer at once"
        );
        Error::new(ErrorKind::ImageTooLarge, message).with_source(error)
    })?;
    pages::advise_large(data.spare_capacity_mut());
    data.resize(len, 0);
    Ok(data)
}

fn broken(format: Format, reason: &str) -> Error {
    Error::new(
        ErrorKind::InvalidImage,
        format!("cannot decode the {format} picture (damaged or cut short?): {reason}"),
    )
}

fn unsupported(format: Format, what: &str) -> Error {
    Error::new(
        ErrorKind::UnsupportedImage,
        format!(
            "cannot decode the {format} picture: {what} is not supported; convert it to a plain \
            PNG or JPEG"
        ),
    )
}
