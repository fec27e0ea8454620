//! Pixels as a small JPEG file, for pages that show pictures.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{self, NonNull};

use turbojpeg_sys as tj;

use crate::error::{Error, ErrorKind, Result};

/// Artefacts are hard to see at this size, and a file takes 2 to 4 KB.
const QUALITY: c_int = 78;

/// No thumbnail is as large.
const MAX_SIDE: usize = 1024;

/// Writes pixels as a [`Preprocessing`](crate::Preprocessing) makes them, three planes of red, green
/// and blue, as a JPEG file.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] if the bytes are not as many as a square of that side takes.
pub fn jpeg(planes: &[u8], side: usize) -> Result<Vec<u8>> {
    if side == 0 || side > MAX_SIDE || planes.len() != 3 * side * side {
        let message =
            format!("{} bytes are not three planes of {side} x {side} pixels", planes.len());
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    let plane = side * side;
    let rows: Vec<u8> =
        (0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]).collect();
    Encoder::new()?.encode(&rows, side)
}

/// A compressor of libjpeg-turbo.
struct Encoder(NonNull<c_void>);

impl Encoder {
    fn new() -> Result<Self> {
        // SAFETY: takes no pointer. What it returns is freed by `drop` alone.
        let handle = NonNull::new(unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) });
        let encoder =
            Self(handle.ok_or_else(|| Error::new(ErrorKind::OutOfMemory, "no room for a JPEG"))?);
        encoder.set(tj::TJPARAM_TJPARAM_QUALITY as c_int, QUALITY)?;
        encoder.set(tj::TJPARAM_TJPARAM_SUBSAMP as c_int, tj::TJSAMP_TJSAMP_420 as c_int)?;
        Ok(encoder)
    }

    fn set(&self, parameter: c_int, value: c_int) -> Result<()> {
        // SAFETY: the handle is valid until `drop`.
        match unsafe { tj::tj3Set(self.0.as_ptr(), parameter, value) } {
            0 => Ok(()),
            _ => Err(self.error()),
        }
    }

    fn encode(&self, rows: &[u8], side: usize) -> Result<Vec<u8>> {
        let side = side as c_int;
        let mut file: *mut u8 = ptr::null_mut();
        let mut size: tj::size_t = 0;
        // SAFETY: `rows` are `side` rows of `side` RGB pixels, as `jpeg` has checked; the library
        // allocates `file`, and says in `size` how much of it is written.
        let failed = unsafe {
            tj::tj3Compress8(
                self.0.as_ptr(),
                rows.as_ptr(),
                side,
                0,
                side,
                tj::TJPF_TJPF_RGB as c_int,
                &raw mut file,
                &raw mut size,
            )
        };
        let written = match failed {
            // SAFETY: the library has written so many bytes.
            0 => Ok(unsafe { std::slice::from_raw_parts(file, size as usize) }.to_vec()),
            _ => Err(self.error()),
        };
        // SAFETY: the library allocated it, or it is null, and nothing else frees it.
        unsafe { tj::tj3Free(file.cast()) };
        written
    }

    fn error(&self) -> Error {
        // SAFETY: the handle is valid until `drop`; the string is terminated, and copied here.
        let message = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.0.as_ptr())) };
        Error::new(ErrorKind::Internal, format!("no thumbnail: {}", message.to_string_lossy()))
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: nothing uses the handle after this.
        unsafe { tj::tj3Destroy(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::image::{self, DecodeOptions};
    use crate::limits::Limits;

    /// Slopes, of red from left to right and of green from top to bottom, over the middle of blue.
    fn planes(side: usize) -> Vec<u8> {
        let level = |at: usize| (at * 2).min(255) as u8;
        let red = (0..side * side).map(|i| level(i % side));
        let green = (0..side * side).map(|i| level(i / side));
        red.chain(green).chain(std::iter::repeat_n(128, side * side)).collect()
    }

    #[test]
    fn a_thumbnail_decodes_to_nearly_the_same_pixels() {
        for side in [1, 7, 16, 96] {
            let planes = planes(side);
            let file = jpeg(&planes, side).unwrap();
            assert!(file.len() < 8_000, "{} bytes", file.len());
            let budget = Budget::new(Limits::default());
            let decoded = image::decode(&file, &DecodeOptions::default(), &budget).unwrap();
            assert_eq!((decoded.width() as usize, decoded.height() as usize), (side, side));
            let plane = side * side;
            let off: usize = (0..3 * plane)
                .map(|i| {
                    let (pixel, channel) = (i % plane, i / plane);
                    planes[i].abs_diff(decoded.pixels()[pixel * 3 + channel]) as usize
                })
                .sum();
            assert!(off / (3 * plane) < 6, "{off} off in {plane} pixels");
        }
    }

    #[test]
    fn other_numbers_of_bytes_are_refused() {
        for (bytes, side) in [(0, 0), (2, 1), (4, 1), (3 * 1025 * 1025, 1025), (3, usize::MAX)] {
            let error = jpeg(&vec![0; bytes], side).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        }
    }
}
