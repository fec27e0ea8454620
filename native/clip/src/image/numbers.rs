//! Converts numbers of any type, in any order of axes, to samples of one byte: tensors, and images
//! whose samples are not bytes.

use half::{bf16, f16};

use super::bitmap::{Bitmap, Channels};
use super::scale::{Scale, Span};
use super::{DecodeOptions, Rgb, invalid_argument, zeroed};
use crate::budget::Budget;
use crate::error::{Error, Result};

/// The type of a number, in the byte order of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NumberType {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    Bf16,
    F32,
    F64,
}

/// A picture as numbers.
#[derive(Debug, Clone, Copy)]
pub struct Numbers<'a> {
    /// The numbers, one after the other.
    pub data: &'a [u8],
    /// Their type.
    pub number: NumberType,
    /// How far they count.
    pub scale: Scale,
    /// Height, width and channels.
    pub shape: [u32; 3],
    /// How many numbers further the next row, column and channel lies.
    pub strides: [u64; 3],
    /// Whether four channels are inks (CMYK, 0 is none) and not RGBA.
    pub inks: bool,
}

/// Converts a picture of numbers to RGB.
///
/// # Errors
/// `InvalidArgument` when length, strides or the number of channels are wrong, `UnsupportedImage`
/// for numbers outside their scale or of a scale that cannot be told, otherwise as
/// [`decode`](super::decode).
pub fn from_numbers(
    numbers: &Numbers<'_>,
    options: &DecodeOptions,
    budget: &Budget<'_>,
) -> Result<Rgb> {
    let [height, width, channels] = numbers.shape;
    let kind = match (channels, numbers.inks) {
        (4, true) => Some(Channels::Cmyk),
        (count, false) => Channels::from_count(count),
        _ => None,
    };
    let kind = kind.ok_or_else(|| invalid_argument(format!("picture has {channels} channels")))?;
    budget.limits().check_size(width, height)?;
    numbers.check_strides()?;
    budget.reserve(u64::from(width) * u64::from(height) * (u64::from(channels) + 3))?;
    let data = match numbers.number {
        NumberType::U8 => numbers.bytes::<u8>(budget),
        NumberType::U16 => numbers.bytes::<u16>(budget),
        NumberType::U32 => numbers.bytes::<u32>(budget),
        NumberType::U64 => numbers.bytes::<u64>(budget),
        NumberType::S8 => numbers.bytes::<i8>(budget),
        NumberType::S16 => numbers.bytes::<i16>(budget),
        NumberType::S32 => numbers.bytes::<i32>(budget),
        NumberType::S64 => numbers.bytes::<i64>(budget),
        NumberType::F16 => numbers.bytes::<f16>(budget),
        NumberType::Bf16 => numbers.bytes::<bf16>(budget),
        NumberType::F32 => numbers.bytes::<f32>(budget),
        NumberType::F64 => numbers.bytes::<f64>(budget),
    };
    Bitmap::new(width, height, kind, data?).into_rgb(options.background)
}

trait Number: Copy + std::fmt::Display {
    const WHOLE: bool;

    fn at(index: usize, data: &[u8]) -> Option<Self>;

    /// The same number, or one as far from 0..=255.
    fn value(self) -> f64;
}

macro_rules! number {
    ($whole:literal: $($type:ty => $value:expr),+) => {$(
        impl Number for $type {
            const WHOLE: bool = $whole;

            fn at(index: usize, data: &[u8]) -> Option<Self> {
                let rest = data.get(index * size_of::<Self>()..)?;
                Some(Self::from_ne_bytes(*rest.first_chunk()?))
            }

            fn value(self) -> f64 {
                ($value as fn(Self) -> f64)(self)
            }
        }
    )+};
}

number!(true: u8 => f64::from, u16 => f64::from, u32 => f64::from, u64 => |whole| whole as f64);
number!(true: i8 => f64::from, i16 => f64::from, i32 => f64::from, i64 => |whole| whole as f64);
number!(false: f16 => f16::to_f64, bf16 => bf16::to_f64, f32 => f64::from, f64 => |same| same);

/// Row, column and channel.
type Place = [u32; 3];

impl Numbers<'_> {
    /// Checks that the strides reach each number once.
    fn check_strides(&self) -> Result<()> {
        let mut axes: Vec<_> = self.strides.into_iter().zip(self.shape).collect();
        axes.sort_unstable_by_key(|(stride, size)| (*stride, *size));
        let mut next = 1;
        for (stride, size) in axes {
            if stride != next && size > 1 {
                let message = format!(
                    "strides {:?} are not those of a picture of {:?} numbers",
                    self.strides, self.shape
                );
                return Err(invalid_argument(message));
            }
            next *= u64::from(size);
        }
        Ok(())
    }

    fn bytes<T: Number>(&self, budget: &Budget<'_>) -> Result<Vec<u8>> {
        let count = self.shape.iter().map(|size| *size as usize).product::<usize>();
        let expected = count * size_of::<T>();
        if self.data.len() != expected {
            return Err(invalid_argument(format!(
                "picture of {:?} numbers has to be {expected} bytes long, it is {}",
                self.shape,
                self.data.len()
            )));
        }
        let factor = if T::WHOLE { 1.0 } else { self.factor::<T>(budget)? };
        let mut bytes = zeroed(count)?;
        let mut out = bytes.iter_mut();
        self.each::<T>(budget, |place, number| {
            let byte = self.scale.byte(number.value() * factor);
            match (byte, out.next()) {
                (Some(byte), Some(out)) => *out = byte,
                _ => return Err(self.outside(number, place)),
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    fn each<T: Number>(
        &self,
        budget: &Budget<'_>,
        mut visit: impl FnMut(Place, T) -> Result<()>,
    ) -> Result<()> {
        let [height, width, channels] = self.shape;
        let [down, right, deep] = self.strides.map(|stride| stride as usize);
        for row in 0..height {
            budget.check()?;
            for column in 0..width {
                let pixel = row as usize * down + column as usize * right;
                for channel in 0..channels {
                    let number = T::at(pixel + channel as usize * deep, self.data);
                    // Length and strides were checked.
                    let missing = || invalid_argument("picture has no such number".to_owned());
                    let number = number.ok_or_else(missing)?;
                    visit([row, column, channel], number)?;
                }
            }
        }
        Ok(())
    }

    fn outside<T: Number>(&self, number: T, [row, column, channel]: Place) -> Error {
        let number = format!("value {number} at row {row}, column {column}, channel {channel}");
        self.scale.outside(&number, T::WHOLE)
    }

    /// The factor that makes floating-point numbers count to 255.
    fn factor<T: Number>(&self, budget: &Budget<'_>) -> Result<f64> {
        let alpha = match self.shape[2] {
            channels @ (2 | 4) if !self.inks => channels - 1,
            channels => channels,
        };
        let mut spans = [Span::default(), Span::default()];
        self.each::<T>(budget, |place, number| {
            if !self.scale.allows(number.value()) {
                return Err(self.outside(number, place));
            }
            spans[usize::from(place[2] == alpha)].widen(number.value());
            Ok(())
        })?;
        let [colors, alpha] = spans;
        self.scale.factor(colors, alpha)
    }
}
