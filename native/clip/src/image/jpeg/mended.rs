//! A JPEG without what libjpeg-turbo warns of though no pixel suffers.
//!
//! The library tells of its first warning only. One that does no harm would hide that pixels are
//! missing further on, so its causes are removed before decoding. The result is the same: the
//! library passes over these bytes or takes these values for what is put here.

use std::borrow::Cow;
use std::ops::Range;

use super::SCAN;
use super::frame::Frame;
use super::outline::Outline;
use super::segments::Segments;
use crate::budget::Budget;
use crate::error::Result;

const JFIF: u8 = 0xe0;
const ADOBE: u8 = 0xee;
const END: u8 = 0xd9;

/// Lengths from which the library takes the payloads of these for what they are.
const JFIF_LENGTH: usize = 14;
const ADOBE_LENGTH: usize = 12;

/// Bytes before the payload of a segment: its marker and its length.
const HEAD: usize = 4;

/// `bytes` as they are where there is nothing to mend, which costs a look at its headers.
///
/// # Errors
/// What the budget says of the memory that a copy takes.
pub(super) fn mended<'a>(
    bytes: &'a [u8],
    outline: &Outline,
    budget: &Budget<'_>,
) -> Result<Cow<'a, [u8]>> {
    let mut mending = Mending { bytes, budget, done: 0, file: Vec::new() };
    if let Some(frame) = &outline.frame {
        mending.walk(frame, outline.scans)?;
    }
    Ok(mending.finish())
}

struct Mending<'a, 'b> {
    bytes: &'a [u8],
    budget: &'b Budget<'b>,
    /// How many bytes were copied or replaced.
    done: usize,
    file: Vec<u8>,
}

impl<'a> Mending<'a, '_> {
    /// Goes through the file up to the coded pixels of the last scan.
    fn walk(&mut self, frame: &Frame, scans: u64) -> Result<()> {
        let bytes = self.bytes;
        let mut segments = Segments::of(bytes);
        let (mut scans_left, mut after_scan) = (scans, false);
        while scans_left > 0 {
            let start = bytes.len() - segments.rest().len();
            let Some((marker, payload)) = segments.next().filter(|(marker, _)| *marker != END)
            else {
                break;
            };
            let payload_at = bytes.len() - segments.rest().len() - payload.len();
            // Behind the header of a scan are coded pixels.
            let between = bytes.get(start..payload_at.saturating_sub(HEAD)).unwrap_or_default();
            if !after_scan && between.iter().any(|byte| *byte != 0xff) {
                self.replace(start..start + between.len(), &markers(between))?;
            }
            if let Some((at, instead)) = segment(marker, payload, frame) {
                let at = payload_at + at;
                self.replace(at..at + instead.len(), instead)?;
            }
            after_scan = marker == SCAN;
            scans_left -= u64::from(after_scan);
        }
        Ok(())
    }

    /// Replaces a range by at most as many bytes. Ranges come in the order of the file.
    fn replace(&mut self, range: Range<usize>, instead: &[u8]) -> Result<()> {
        if self.done == 0 {
            self.budget.reserve(self.bytes.len() as u64)?;
            self.file.reserve_exact(self.bytes.len());
        }
        self.file.extend_from_slice(&self.bytes[self.done..range.start]);
        self.file.extend_from_slice(instead);
        self.done = range.end;
        Ok(())
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        if self.done == 0 {
            return Cow::Borrowed(self.bytes);
        }
        self.file.extend_from_slice(&self.bytes[self.done..]);
        Cow::Owned(self.file)
    }
}

/// The markers among bytes that belong to no segment: the library does not pass over those.
fn markers(between: &[u8]) -> Vec<u8> {
    let pairs = between.windows(2).filter(|pair| pair[0] == 0xff && ![0, 0xff].contains(&pair[1]));
    pairs.flatten().copied().collect()
}

/// What to put into the payload of a segment, and where.
fn segment(marker: u8, payload: &[u8], frame: &Frame) -> Option<(usize, &'static [u8])> {
    match marker {
        JFIF if payload.starts_with(b"JFIF\0") && payload.len() >= JFIF_LENGTH => {
            (payload[5] != 1).then_some((5, &[1]))
        }
        ADOBE if payload.starts_with(b"Adobe") && payload.len() >= ADOBE_LENGTH => {
            match (frame.channels(), payload[11]) {
                (3, 2..) => Some((11, &[1])),
                (4, 1 | 3..) => Some((11, &[2])),
                _ => None,
            }
        }
        // These fields mean something in the other kinds of JPEG only.
        SCAN if frame.sequential() => {
            let at = 1 + 2 * usize::from(*payload.first()?);
            let fields = payload.get(at..at + 3)?;
            (fields != [0, 63, 0]).then_some((at, &[0, 63, 0]))
        }
        _ => None,
    }
}
