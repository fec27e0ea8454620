//! What the markers of a JPEG say of it and of its cost, before anything is decoded.

use super::frame::Frame;
use super::segments::Segments;
use super::turbo;

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;
const LATE_HEIGHT: u8 = 0xdc;
const JPEG_LS: u8 = 0xf7;
const RESTART_INTERVAL: u8 = 0xdd;

/// Whether a marker is that of a frame: not of tables (c4, cc), not the one that is reserved (c8).
pub(super) fn begins_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && ![0xc4, 0xc8, 0xcc].contains(&marker)
}

/// What a walk from marker to marker finds.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) frame: Option<Frame>,
    pub(super) scans: u64,
    /// A height follows the pixels.
    pub(super) late_height: bool,
    /// The end of the picture is there.
    pub(super) complete: bool,
    /// Restart markers that belong between the intervals of all scans, and those that are there.
    pub(super) restarts_due: u64,
    pub(super) restarts: u64,
    /// The frame is one of JPEG-LS, another format under the same first bytes.
    pub(super) jpeg_ls: bool,
    /// A scan ends before its last interval.
    ends_early: bool,
    /// The last restart marker of the present scan, as it should be.
    last_due: Option<u8>,
    interval: u64,
    /// Time that the scans may take, in nanoseconds.
    scan_nanos: u64,
    len: u64,
}

impl Outline {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut outline = Self { len: bytes.len() as u64, ..Self::default() };
        let mut segments = Segments::of(bytes);
        while let Some((marker, payload)) = segments.next() {
            match marker {
                END => outline.complete = true,
                SCAN => {
                    outline.end_scan(&mut segments);
                    outline.begin_scan(payload);
                }
                LATE_HEIGHT => outline.late_height = true,
                JPEG_LS => outline.jpeg_ls = true,
                RESTART_INTERVAL => {
                    let interval = payload.first_chunk().map_or(0, |two| u16::from_be_bytes(*two));
                    outline.interval = interval.into();
                }
                marker if begins_frame(marker) => {
                    outline.frame = outline.frame.or_else(|| Frame::parse(marker, payload));
                }
                _ => {}
            }
        }
        outline.end_scan(&mut segments);
        outline
    }

    fn begin_scan(&mut self, header: &[u8]) {
        self.scans += 1;
        let Some(scan) = self.frame.as_ref().and_then(|frame| frame.scan(header)) else { return };
        self.scan_nanos = self.scan_nanos.saturating_add(scan.nanos);
        let due = scan.units.saturating_sub(1).checked_div(self.interval).unwrap_or(0);
        self.restarts_due += due;
        self.last_due = due.checked_sub(1).map(|last| (last % 8) as u8);
    }

    fn end_scan(&mut self, segments: &mut Segments<'_>) {
        let (count, last) = segments.take_restarts();
        self.restarts += count;
        self.ends_early |= self.last_due.take().is_some_and(|due| last != Some(due));
    }

    /// The time that decoding takes at most, in nanoseconds.
    pub(super) fn nanos(&self) -> u64 {
        let pixels = self.frame.as_ref().map_or(0, Frame::pixels);
        self.scan_nanos.saturating_add(START_NANOS + pixels * PIXEL_NANOS + self.len * BYTE_NANOS)
    }

    /// The warnings of the library that do not justify refusing the picture.
    pub(super) fn forgiven(&self) -> &'static [&'static str] {
        match self.restarts_due {
            0 => &turbo::AFTER_THE_PIXELS,
            1..4 => &[],
            // Damage ends at the next restart marker, and that is not far.
            _ => &turbo::HEALS,
        }
    }

    /// The last interval of a scan is missing, or more than a quarter of all.
    pub(super) fn is_torn(&self) -> bool {
        self.ends_early || self.restarts * 4 < self.restarts_due * 3
    }
}

/// Measured on an AMD EPYC with AVX2, rounded up: setting the library up; transform, interpolation
/// and colours of a pixel of four channels; a byte of the densest code.
const START_NANOS: u64 = 40_000;
const PIXEL_NANOS: u64 = 8;
const BYTE_NANOS: u64 = 20;
