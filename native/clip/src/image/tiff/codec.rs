//! The codings of strips and tiles.

mod deflate;
mod fax;
mod lzw;
mod packbits;

use super::directory::Directory;
use super::{cannot, damaged};
use crate::budget::Budget;
use crate::error::{Error, Result};

const COMPRESSION: u16 = 259;
const FAX_OPTIONS: u16 = 292;

/// The bit of the options of group 3 that says that rows may refer to the one above.
const TWO_DIMENSIONAL: u64 = 1;

/// Bytes that are inflated before the budget is asked again: a millisecond or so.
const PIECE: usize = 1 << 17;

/// How strips and tiles are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Fax(Fax),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

/// The kinds of fax coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fax {
    /// Rows by themselves, each of which begins at a multiple of so many bits.
    Rows {
        align: usize,
    },
    /// Rows with marks between them.
    Group3 {
        two_dimensional: bool,
    },
    Group4,
}

impl Compression {
    pub(super) fn of(directory: &Directory<'_>) -> Result<Self> {
        let name = match directory.number_of(COMPRESSION)?.unwrap_or(1) {
            1 => return Ok(Self::None),
            2 => return Ok(Self::Fax(Fax::Rows { align: 8 })),
            3 => {
                let options = directory.number_of(FAX_OPTIONS)?.unwrap_or(0);
                let two_dimensional = options & TWO_DIMENSIONAL != 0;
                return Ok(Self::Fax(Fax::Group3 { two_dimensional }));
            }
            4 => return Ok(Self::Fax(Fax::Group4)),
            5 => return Ok(Self::Lzw),
            7 => return Ok(Self::Jpeg),
            8 | 32_946 => return Ok(Self::Deflate),
            32_771 => return Ok(Self::Fax(Fax::Rows { align: 16 })),
            32_773 => return Ok(Self::PackBits),
            6 => "JPEG of the old kind (compression 6)",
            9 | 10 | 34_661 => "JBIG coding",
            32_766 => "NeXT coding",
            32_809 => "ThunderScan coding",
            32_895..=32_898 => "prepress coding (IT8)",
            32_908 | 32_909 => "Pixar coding",
            33_003 | 33_004 | 33_005 | 34_712 => "JPEG 2000 coding",
            34_676 | 34_677 => "SGI LogLuv coding",
            34_887 => "LERC coding",
            34_892 => "lossy JPEG of a DNG",
            34_925 => "LZMA coding",
            34_933 | 34_934 => "PNG or JPEG XR coding",
            50_000 => "Zstandard coding",
            50_001 => "WebP coding",
            50_002 | 52_546 => "JPEG XL coding",
            other => return Err(cannot(&format!("compression {other}"))),
        };
        Err(cannot(name))
    }

    pub(super) fn is_fax(self) -> bool {
        matches!(self, Self::Fax(_))
    }

    /// Whether a predictor may precede the coding. Elsewhere readers ignore its tag.
    pub(super) fn predicts(self) -> bool {
        matches!(self, Self::Lzw | Self::Deflate)
    }
}

/// Decodes chunks of one picture, one after the other.
pub(super) enum Decoder {
    Copy,
    Fax(fax::Decoder),
    Lzw,
    Deflate,
    PackBits,
}

impl Decoder {
    /// A decoder of chunks of this width in pixels. JPEG is not its matter.
    pub(super) fn new(compression: Compression, width: u32) -> Self {
        match compression {
            Compression::None | Compression::Jpeg => Self::Copy,
            Compression::Fax(kind) => Self::Fax(fax::Decoder::new(kind, width as usize)),
            Compression::Lzw => Self::Lzw,
            Compression::Deflate => Self::Deflate,
            Compression::PackBits => Self::PackBits,
        }
    }

    /// Fills `out` with what `chunk` decodes to, and leaves the rest of it alone.
    ///
    /// # Errors
    /// `InvalidImage` for a chunk that is damaged or too short; what the budget says.
    pub(super) fn decode(
        &mut self,
        chunk: &[u8],
        out: &mut [u8],
        budget: &Budget<'_>,
    ) -> Result<()> {
        match self {
            Self::Copy => {
                out.copy_from_slice(chunk.get(..out.len()).ok_or_else(short)?);
                Ok(())
            }
            Self::Fax(decoder) => decoder.decode(chunk, out, budget),
            Self::Lzw => lzw::decode(chunk, out, budget),
            Self::Deflate => deflate::decode(chunk, out, budget),
            Self::PackBits => packbits::decode(chunk, out, budget),
        }
    }
}

fn short() -> Error {
    damaged("pixels are missing")
}
