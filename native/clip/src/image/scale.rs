//! How far the numbers of a picture count: to 1 or to 255.
//!
//! Floating-point numbers say it by their values only. Where both readings are possible the picture
//! is refused: the wrong one would be black or white, without an error.

use crate::error::{Error, ErrorKind, Result};

/// How far the numbers of a picture count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Whole numbers to 255, floating-point ones to 1 or to 255 as their values tell. Nothing
    /// outside is taken.
    Told,
    /// To 255, by the colour space. What sums and differences of such numbers can be, -255 to 510,
    /// is clipped.
    Bytes,
}

impl Scale {
    /// Whether a floating-point number can be part of a picture at all.
    pub(super) fn allows(self, value: f64) -> bool {
        value.is_finite() && (self == Self::Bytes || value > -1.0)
    }

    /// A level of 0 to 255 as the nearest byte.
    pub(super) fn byte(self, level: f64) -> Option<u8> {
        let taken = match self {
            Self::Told => -0.5..255.5,
            Self::Bytes => -255.5..510.5,
        };
        // The cast cuts the fraction off and keeps to 0..=255, without a call of `round`.
        taken.contains(&level).then_some((level + 0.5) as u8)
    }

    /// The factor that makes floating-point numbers count to 255. Colours and alpha are judged
    /// separately: an opaque alpha says nothing about dark colours.
    pub(super) fn factor(self, colors: Span, alpha: Span) -> Result<f64> {
        let (colors, alpha) = (colors.reading(), alpha.reading());
        match self {
            Self::Told => told(colors, alpha),
            Self::Bytes => counts_to_255(colors).and(counts_to_255(alpha)),
        }
    }

    /// The error for a number that is not part of a picture.
    pub(super) fn outside(self, number: &str, whole: bool) -> Error {
        let (expected, way_out) = match (self, whole) {
            (Self::Told, true) => ("0 to 255", "scale it first, of 16 bits to the high 8"),
            (Self::Told, false) => {
                ("0 to 1 or 0 to 255", "clip it, or undo the normalization for a model, first")
            }
            (Self::Bytes, _) => (
                "0 to 255, where -255 to 510 is clipped",
                "scale it first, or mark 16 bits as such",
            ),
        };
        unsupported(format!("{number} is outside what a picture holds ({expected}); {way_out}"))
    }
}

/// What floating-point numbers have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    highest: f64,
    fraction: bool,
}

/// How far they count.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reading {
    /// All are 0.
    Any,
    /// 0 and 1 only: black and white, or nearly black.
    Bits,
    ToOne,
    /// Too much for 1, and hardly a picture that counts to 255.
    Between(f32),
    To255,
}

/// Fractions that stay below this are hardly a picture that counts to 255.
const DARKEST: f64 = 16.0;

impl Span {
    pub(super) fn widen(&mut self, value: f64) {
        self.highest = self.highest.max(value);
        self.fraction |= value != value as i64 as f64;
    }

    fn reading(self) -> Reading {
        match self.highest {
            0.0 => Reading::Any,
            1.0 if !self.fraction => Reading::Bits,
            // What rounds to the highest level is not above it.
            highest if highest < 1.0 + 0.5 / 255.0 => Reading::ToOne,
            highest if self.fraction && highest < DARKEST => Reading::Between(highest as f32),
            _ => Reading::To255,
        }
    }
}

fn told(colors: Reading, alpha: Reading) -> Result<f64> {
    use Reading::{Any, Between, Bits, To255, ToOne};
    match (colors, alpha) {
        (Between(highest), _) | (_, Between(highest)) => Err(undecided(&format!(
            "the largest of its colours or of its alpha is {highest}, too much for 0 to 1 and too \
            dark for 0 to 255"
        ))),
        (ToOne | Bits, To255) | (To255, ToOne | Bits) => {
            Err(undecided("either its colours or its alpha count to 1, and the other to 255"))
        }
        (To255, _) | (_, To255) | (Any, Any) => Ok(1.0),
        (ToOne, _) | (_, ToOne) => Ok(255.0),
        (Bits, _) | (_, Bits) => {
            Err(undecided("all are 0 or 1, which is white in 0 to 1 and black in 0 to 255"))
        }
    }
}

fn counts_to_255(reading: Reading) -> Result<f64> {
    match reading {
        Reading::Any | Reading::To255 => Ok(1.0),
        Reading::Bits | Reading::ToOne => {
            Err(undecided("none is above 1, which its colour space takes for black"))
        }
        Reading::Between(highest) => Err(undecided(&format!(
            "the largest is {highest}, which its colour space takes for nearly black"
        ))),
    }
}

fn undecided(why: &str) -> Error {
    unsupported(format!(
        "cannot tell how far the floating-point numbers of this picture count: {why}; convert it \
        to 8 bits first, times 255 where it counts to 1"
    ))
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedImage, message)
}
