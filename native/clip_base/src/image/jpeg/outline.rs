//! What the markers of a JPEG say, before anything is decoded.

use memchr::memchr;

/// A component of the frame: how many of its blocks lie side by side and one above the other in the
/// smallest coded unit.
#[derive(Debug, Clone, Copy)]
struct Component {
    across: u8,
    down: u8,
}

/// The frame header.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// The marker, which names the process.
    pub(super) process: u8,
    pub(super) bits: u8,
    pub(super) width: u16,
    pub(super) height: u16,
    components: Vec<Component>,
}

const BLOCK: u64 = 8;

impl Frame {
    fn parse(process: u8, payload: &[u8]) -> Option<Self> {
        let (&[bits, a, b, c, d, count], rest) = payload.split_first_chunk()?;
        let components = rest.as_chunks::<3>().0.iter().take(count.into());
        let components = components
            .map(|[_, sampling, _]| Component { across: sampling >> 4, down: sampling & 15 })
            .collect();
        let (height, width) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Self { process, bits, width, height, components })
    }

    pub(super) fn channels(&self) -> usize {
        self.components.len()
    }

    pub(super) fn progressive(&self) -> bool {
        self.process & 3 == 2
    }

    fn lossless(&self) -> bool {
        self.process & 3 == 3
    }

    fn most(&self, side: impl Fn(&Component) -> u8) -> u64 {
        self.components.iter().map(side).max().unwrap_or(1).max(1).into()
    }

    /// Samples of all components, each padded to whole units.
    pub(super) fn samples(&self) -> u64 {
        let across = u64::from(self.width).div_ceil(BLOCK * self.most(|part| part.across));
        let down = u64::from(self.height).div_ceil(BLOCK * self.most(|part| part.down));
        let unit: u64 = self
            .components
            .iter()
            .map(|part| BLOCK * BLOCK * u64::from(part.across) * u64::from(part.down))
            .sum();
        across * down * unit
    }

    /// What the library holds beside the pixels, in bytes: all coefficients if the file has several
    /// scans, and rows of samples.
    pub(super) fn scratch(&self, scans: u64) -> u64 {
        let kept = if self.progressive() || scans > 1 { 2 * self.samples() } else { 0 };
        let rows = ROWS * self.most(|part| part.down) * (u64::from(self.width) + 64);
        let wide = if self.lossless() { 4 } else { 1 };
        kept + rows * wide * self.components.len() as u64 + TABLES
    }
}

/// Rows of each component that the library keeps for each of its blocks one above the other.
const ROWS: u64 = 24;

/// Tables and structures of the library, in bytes.
const TABLES: u64 = 1 << 18;

/// What a walk from marker to marker finds.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) frame: Option<Frame>,
    pub(super) scans: u64,
    /// The height may follow the pixels.
    pub(super) height_follows: bool,
    pub(super) complete: bool,
}

impl Outline {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut outline = Self::default();
        for (marker, payload) in Segments::of(bytes) {
            match marker {
                0xd9 => outline.complete = true,
                0xda => outline.scans += 1,
                0xdc => outline.height_follows = true,
                // All that begin a frame: not tables (c4, cc), not the one that is reserved (c8).
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    outline.frame = outline.frame.or_else(|| Frame::parse(marker, payload));
                }
                _ => {}
            }
        }
        outline
    }
}

/// Markers up to the end of the picture, each with its payload. What lies between two segments,
/// the coded pixels for one, is passed over.
#[derive(Debug, Clone)]
pub(super) struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.get(2..).unwrap_or_default() }
    }

    /// What was not walked yet.
    #[allow(dead_code)]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (marker, rest) = next_marker(self.rest)?;
        // The end of the picture has no payload, and nothing counts after it.
        if marker == 0xd9 {
            self.rest = &[];
            return Some((marker, &[]));
        }
        let length = rest.first_chunk::<2>().map_or(0, |length| u16::from_be_bytes(*length));
        let length = usize::from(length).min(rest.len());
        self.rest = &rest[length..];
        Some((marker, rest.get(2..length).unwrap_or_default()))
    }
}

/// The next marker with a meaning of its own, and what follows it: stuffed zeros, fill bytes,
/// restart markers and reserved ones, which have no length, belong to the pixels.
fn next_marker(mut bytes: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        bytes = &bytes[memchr(0xff, bytes)? + 1..];
        match *bytes.first()? {
            0x00..=0xbf | 0xd0..=0xd7 => bytes = &bytes[1..],
            0xff => {}
            marker => return Some((marker, &bytes[1..])),
        }
    }
}
