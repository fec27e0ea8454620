//! libjpeg-turbo, a C library, through its TurboJPEG 3 interface: what is unsafe about it stays
//! here. It returns its errors; it jumps only within its own functions.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ops::Range;
use std::ptr::NonNull;

use turbojpeg_sys as tj;

/// The library tells of its first warning only, so one may be forgiven only where none that matters
/// can follow.
///
/// Stray bytes before the marker of the end: all scans are decoded.
pub(super) const AFTER_THE_PIXELS: [&str; 1] = ["extraneous bytes before marker 0xd9"];

/// Stray bytes, restart markers that are missing or too many, scans in an unusual order, and pixels
/// that are missing or made up until the next restart marker.
pub(super) const HEALS: [&str; 6] = [
    "extraneous bytes before marker",
    "Corrupt JPEG data: found marker 0x",
    "Inconsistent progression sequence",
    "bad Huffman code",
    "bad arithmetic code",
    "premature end of data segment",
];

/// What a pixel consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pixel {
    Grey,
    Rgb,
    Cmyk,
}

impl Pixel {
    pub(super) fn channels(self) -> u8 {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Cmyk => 4,
        }
    }

    fn code(self) -> c_int {
        match self {
            Self::Grey => tj::TJPF_TJPF_GRAY,
            Self::Rgb => tj::TJPF_TJPF_RGB,
            Self::Cmyk => tj::TJPF_TJPF_CMYK,
        }
    }
}

/// What the header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) lossless: bool,
    /// Its sampling is one of those of which the library decodes some columns only.
    pub(super) croppable: bool,
    /// The file has no colours, whatever it is decoded to.
    pub(super) grey: bool,
    /// What the file's colours can be decoded to.
    pub(super) pixel: Pixel,
}

/// What to decode to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) pixel: Pixel,
    /// Pixels of eight along each side, 1 to 8, computed from as many frequencies.
    pub(super) eighths: u8,
}

impl Target {
    /// Width and height of the result.
    pub(super) fn size(self, header: &Header) -> (u32, u32) {
        let kept = |side: u32| (side * u32::from(self.eighths)).div_ceil(8);
        (kept(header.width), kept(header.height))
    }

    /// In lowest terms, as the library has it.
    fn factor(self) -> tj::tjscalingfactor {
        let shift = self.eighths.trailing_zeros().min(3);
        tj::tjscalingfactor { num: (self.eighths >> shift).into(), denom: 8 >> shift }
    }
}

/// Decodes one file.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    handle: NonNull<c_void>,
    bytes: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Takes at most so many scans and pixels, and so many bytes of memory beside them.
    ///
    /// # Errors
    /// The library's own message, here and below.
    pub(super) fn new(
        bytes: &'a [u8],
        scans: u64,
        pixels: u64,
        memory: u64,
    ) -> Result<Self, String> {
        // SAFETY: takes no pointer. What it returns is freed by `drop` alone.
        let handle = NonNull::new(unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) });
        let handle = handle.ok_or("Insufficient memory")?;
        let decoder = Self { handle, bytes };
        decoder.set(tj::TJPARAM_TJPARAM_SCANLIMIT, scans)?;
        decoder.set(tj::TJPARAM_TJPARAM_MAXPIXELS, pixels)?;
        decoder.set(tj::TJPARAM_TJPARAM_MAXMEMORY, memory.div_ceil(1 << 20))?;
        // No copy of the colour profile. Before 3.1 there is no such parameter, and no copy either.
        let _ = decoder.set(tj::TJPARAM_TJPARAM_SAVEMARKERS, 0);
        Ok(decoder)
    }

    fn set(&self, parameter: c_uint, value: u64) -> Result<(), String> {
        let value = c_int::try_from(value).unwrap_or(c_int::MAX);
        // SAFETY: the handle is valid until `drop`.
        match unsafe { tj::tj3Set(self.handle.as_ptr(), parameter as c_int, value) } {
            0 => Ok(()),
            _ => Err(self.message()),
        }
    }

    fn get(&self, parameter: c_uint) -> c_int {
        // SAFETY: the handle is valid until `drop`.
        unsafe { tj::tj3Get(self.handle.as_ptr(), parameter as c_int) }
    }

    /// The message of the error, or of the first warning if there was no error.
    fn message(&self) -> String {
        // SAFETY: the handle is valid until `drop`; the string belongs to it or to this thread, is
        // terminated, and is copied before anything else is called.
        let message = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle.as_ptr())) };
        message.to_string_lossy().into_owned()
    }

    pub(super) fn header(&self) -> Result<Header, String> {
        let (bytes, len) = (self.bytes.as_ptr(), self.bytes.len());
        // SAFETY: the handle is valid until `drop`; it reads the bytes and does not keep them.
        let failed =
            unsafe { tj::tj3DecompressHeader(self.handle.as_ptr(), bytes, len as tj::size_t) };
        if failed != 0 {
            return Err(self.message());
        }
        let side = |parameter| u32::try_from(self.get(parameter)).unwrap_or(0);
        let lossless = self.get(tj::TJPARAM_TJPARAM_LOSSLESS) != 0;
        let colors = self.get(tj::TJPARAM_TJPARAM_COLORSPACE) as c_uint;
        let pixel = match colors {
            // It repeats grey while it decodes, but not the grey of a lossless file.
            tj::TJCS_TJCS_GRAY if lossless => Pixel::Grey,
            tj::TJCS_TJCS_CMYK | tj::TJCS_TJCS_YCCK => Pixel::Cmyk,
            _ => Pixel::Rgb,
        };
        Ok(Header {
            width: side(tj::TJPARAM_TJPARAM_JPEGWIDTH),
            height: side(tj::TJPARAM_TJPARAM_JPEGHEIGHT),
            lossless,
            croppable: self.get(tj::TJPARAM_TJPARAM_SUBSAMP) >= 0,
            grey: colors == tj::TJCS_TJCS_GRAY,
            pixel,
        })
    }

    /// Decodes these columns to `rows`, which have to be as many bytes as they and `target` say. A warning
    /// is an error unless it is one of those that are `forgiven`. The codes of all columns are read, so
    /// damage is found beside these too.
    ///
    /// Pixels near the ends of the columns are not those of the whole picture unless they are at its own
    /// edge: there is nothing beside them to interpolate with.
    pub(super) fn decode(
        &self,
        header: &Header,
        target: Target,
        columns: Range<u32>,
        forgiven: &[&str],
        rows: &mut [u8],
    ) -> Result<(), String> {
        let (width, height) = target.size(header);
        let pitch = columns.len() * usize::from(target.pixel.channels());
        if Some(rows.len()) != pitch.checked_mul(height as usize) {
            return Err(format!("{} bytes are not {height} rows of {pitch}", rows.len()));
        }
        // SAFETY: the handle is valid until `drop`.
        if unsafe { tj::tj3SetScalingFactor(self.handle.as_ptr(), target.factor()) } != 0 {
            return Err(self.message());
        }
        if columns != (0..width) {
            self.crop(&columns, height)?;
        }
        // The header was read from the same bytes, so its size is the one that is decoded to.
        // SAFETY: the handle is valid until `drop`; it reads the bytes and writes `height` rows of
        // `pitch` bytes.
        let failed = unsafe {
            tj::tj3Decompress8(
                self.handle.as_ptr(),
                self.bytes.as_ptr(),
                self.bytes.len() as tj::size_t,
                rows.as_mut_ptr(),
                c_int::try_from(pitch).map_err(|_| "Image too wide")?,
                target.pixel.code(),
            )
        };
        if failed == 0 {
            return Ok(());
        }
        let message = self.message();
        if forgiven.iter().any(|warning| message.contains(warning)) { Ok(()) } else { Err(message) }
    }
}

impl Decoder<'_> {
    /// Of all rows: those that the library passes over are not checked.
    fn crop(&self, columns: &Range<u32>, height: u32) -> Result<(), String> {
        let [x, w, h] = [columns.start, columns.end.saturating_sub(columns.start), height]
            .map(|side| c_int::try_from(side).unwrap_or(c_int::MAX));
        // SAFETY: the handle is valid until `drop`.
        let failed = unsafe {
            tj::tj3SetCroppingRegion(self.handle.as_ptr(), tj::tjregion { x, y: 0, w, h })
        };
        if failed == 0 { Ok(()) } else { Err(self.message()) }
    }
}

impl Drop for Decoder<'_> {
    fn drop(&mut self) {
        // SAFETY: nothing uses the handle after this.
        unsafe { tj::tj3Destroy(self.handle.as_ptr()) }
    }
}
