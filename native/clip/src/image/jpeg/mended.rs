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

const JFIF: u8 = 0xe0;
const ADOBE: u8 = 0xee;
const END: u8 = 0xd9;

/// Lengths from which the library takes the payloads of these for what they are.
const JFIF_LENGTH: usize = 14;
const ADOBE_LENGTH: usize = 12;

/// Bytes before the payload of a segment: its marker and its length.
const HEAD: usize = 4;

/// A part of the file and what replaces it.
type Edit = (Range<usize>, Vec<u8>);

/// `bytes` as they are where there is nothing to mend.
pub(super) fn mended<'a>(bytes: &'a [u8], outline: &Outline) -> Cow<'a, [u8]> {
    let Some(frame) = &outline.frame else { return Cow::Borrowed(bytes) };
    let edits = edits(bytes, frame, outline.scans);
    if edits.is_empty() {
        return Cow::Borrowed(bytes);
    }
    let mut file = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for (range, instead) in edits {
        file.extend([&bytes[at..range.start], &instead].concat());
        at = range.end;
    }
    file.extend(&bytes[at..]);
    Cow::Owned(file)
}

/// What to change up to the coded pixels of the last scan, in the order of the file.
fn edits(bytes: &[u8], frame: &Frame, scans: u64) -> Vec<Edit> {
    let (mut edits, mut scans_left) = (Vec::new(), scans);
    let mut segments = Segments::of(bytes);
    let mut after_scan = false;
    while scans_left > 0 {
        let start = bytes.len() - segments.rest().len();
        let Some((marker, payload)) = segments.next().filter(|(marker, _)| *marker != END) else {
            break;
        };
        let payload_at = bytes.len() - segments.rest().len() - payload.len();
        // Behind the header of a scan are coded pixels.
        let between = bytes.get(start..payload_at.saturating_sub(HEAD)).unwrap_or_default();
        if !after_scan && between.iter().any(|byte| *byte != 0xff) {
            edits.push((start..start + between.len(), markers(between)));
        }
        if let Some((range, instead)) = segment(marker, payload, frame) {
            edits.push((payload_at + range.start..payload_at + range.end, instead));
        }
        after_scan = marker == SCAN;
        scans_left -= u64::from(after_scan);
    }
    edits
}

/// The markers among bytes that belong to no segment: those are not the library's to pass over in
/// silence.
fn markers(between: &[u8]) -> Vec<u8> {
    let pairs = between.windows(2).filter(|pair| pair[0] == 0xff && ![0, 0xff].contains(&pair[1]));
    pairs.flatten().copied().collect()
}

/// What to change in the payload of a segment.
fn segment(marker: u8, payload: &[u8], frame: &Frame) -> Option<Edit> {
    match marker {
        JFIF if payload.starts_with(b"JFIF\0") && payload.len() >= JFIF_LENGTH => {
            (payload[5] != 1).then(|| (5..6, vec![1]))
        }
        ADOBE if payload.starts_with(b"Adobe") && payload.len() >= ADOBE_LENGTH => {
            let assumed = match frame.channels() {
                3 => 1,
                4 => 2,
                _ => return None,
            };
            let known = [0, assumed].contains(&payload[11]);
            (!known).then(|| (11..12, vec![assumed]))
        }
        // The last fields mean something in the other kinds of JPEG only.
        SCAN if frame.sequential() => {
            let at = 1 + 2 * usize::from(*payload.first()?);
            let fields = payload.get(at..at + 3)?;
            (fields != [0, 63, 0]).then(|| (at..at + 3, vec![0, 63, 0]))
        }
        _ => None,
    }
}
