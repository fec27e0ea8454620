//! JPEG: what its decoder does not look after.

use image::codecs::jpeg::JpegDecoder;

use super::bitmap::Bitmap;
use super::format::Format;
use super::{broken, exif, failed, read_with};
use crate::budget::Budget;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// A scan of no bytes still costs a pass over all pixels. No encoder writes nearly as many as 100,
/// and a picture at the limit of size may have 20.
const MAX_SCANS: u64 = 100;
const MAX_PASSES: u64 = 20;

pub(super) fn read(bytes: &[u8], budget: &Budget<'_>) -> Result<Bitmap> {
    let (outline, limits) = (Outline::of(bytes), budget.limits());
    let mut decoder =
        JpegDecoder::new(budget.reader(bytes)).map_err(|error| failed(Format::Jpeg, error))?;
    limits.check_size(outline.width.into(), outline.height.into())?;
    outline.check_work(limits)?;
    // The decoder fills what is missing with grey; Pillow refuses, and so a torn upload is noticed.
    if !outline.complete {
        return Err(broken(Format::Jpeg, "its end is missing"));
    }
    let orientation = exif(&mut decoder);
    read_with(Format::Jpeg, decoder, orientation, outline.scratch(), budget)
}

/// What a walk from marker to marker finds.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) width: u16,
    pub(super) height: u16,
    channels: u8,
    progressive: bool,
    scans: u64,
    complete: bool,
}

impl Outline {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut outline = Self::default();
        let mut at = 2;
        while let Some((marker, payload)) = next_marker(bytes, at) {
            match marker {
                0xd9 => {
                    outline.complete = true;
                    break;
                }
                0xc0..=0xc3 => {
                    outline.progressive = marker == 0xc2;
                    outline.measure(&bytes[payload..]);
                }
                0xda => outline.scans += 1,
                _ => {}
            }
            let length = bytes.get(payload..).and_then(|rest| rest.first_chunk::<2>());
            at = payload + length.map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
        }
        outline
    }

    /// Takes what a frame header says: length, depth, height, width, channels.
    fn measure(&mut self, header: &[u8]) {
        if let [_, _, _, a, b, c, d, channels, ..] = *header {
            self.channels = channels;
            self.height = u16::from_be_bytes([a, b]);
            self.width = u16::from_be_bytes([c, d]);
        }
    }

    /// What the decoder holds beside the pixels, in bytes a pixel: 16 bits for each channel until
    /// the last scan, if there are several.
    pub(super) fn scratch(&self) -> u64 {
        if self.progressive || self.scans > 1 { 2 * u64::from(self.channels) } else { 0 }
    }

    /// Pixels times passes over them.
    fn work(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * self.scans
    }

    /// Refuses a picture whose scans would keep the decoder busy for long.
    pub(super) fn check_work(&self, limits: &Limits) -> Result<()> {
        let most = limits.max_pixels.saturating_mul(MAX_PASSES);
        if self.scans <= MAX_SCANS && self.work() <= most {
            return Ok(());
        }
        let message = format!(
            "JPEG picture of {} x {} pixels has {} scans, the limits are {MAX_SCANS} scans and \
            {most} pixels in all of them; save it as a baseline JPEG",
            self.width, self.height, self.scans
        );
        Err(Error::new(ErrorKind::ImageTooLarge, message))
    }
}

/// The next marker with a meaning of its own, and where its payload begins: stuffed zeros, fill
/// bytes and restart markers belong to the pixels.
fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == 0xff)? + 1;
        match *bytes.get(at)? {
            0x00 | 0x01 | 0xd0..=0xd7 => at += 1,
            0xff => {}
            marker => return Some((marker, at + 1)),
        }
    }
}
