//! The frame header of a JPEG, and what follows from it: the memory and the time of decoding.

/// One channel, possibly at a lower resolution.
#[derive(Debug, Clone, Copy)]
struct Component {
    id: u8,
    /// Blocks side by side and one above the other in a unit of interleaved scans.
    across: u8,
    down: u8,
}

#[derive(Debug, Clone)]
pub(super) struct Frame {
    process: u8,
    pub(super) bits: u8,
    pub(super) width: u16,
    pub(super) height: u16,
    components: Vec<Component>,
}

/// What a scan consists of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    /// What restart intervals count.
    pub(super) units: u64,
    /// The time that it may take, whatever its bytes are.
    pub(super) nanos: u64,
}

impl Frame {
    /// `process` is the marker. `None` where the payload is too short.
    pub(super) fn parse(process: u8, payload: &[u8]) -> Option<Self> {
        let (&[bits, a, b, c, d, count], rest) = payload.split_first_chunk()?;
        let components = rest.as_chunks::<3>().0.get(..count.into())?;
        let components = components
            .iter()
            .map(|&[id, sampling, _]| Component { id, across: sampling >> 4, down: sampling & 15 })
            .collect();
        let (height, width) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Self { process, bits, width, height, components })
    }

    pub(super) fn channels(&self) -> usize {
        self.components.len()
    }

    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    fn arithmetic(&self) -> bool {
        self.process > 0xc8
    }

    fn progressive(&self) -> bool {
        self.process & 3 == 2
    }

    fn lossless(&self) -> bool {
        self.process & 3 == 3
    }

    /// One scan holds all of a channel.
    pub(super) fn sequential(&self) -> bool {
        !self.progressive() && !self.lossless()
    }

    /// Side of a block, in samples.
    fn block(&self) -> u64 {
        if self.lossless() { 1 } else { 8 }
    }

    /// Units of an interleaved scan: width and height.
    fn units(&self) -> (u64, u64) {
        let (across, down) = self.most();
        let [width, height] = [self.width, self.height].map(u64::from);
        (width.div_ceil(self.block() * across), height.div_ceil(self.block() * down))
    }

    /// Width of a unit of interleaved scans, in pixels.
    pub(super) fn unit_width(&self) -> u32 {
        (self.block() * self.most().0) as u32
    }

    fn most(&self) -> (u64, u64) {
        let most = |side: fn(&Component) -> u8| {
            u64::from(self.components.iter().map(side).max().unwrap_or(1).max(1))
        };
        (most(|part| part.across), most(|part| part.down))
    }

    /// Blocks of a component in a scan of its own: without what pads the units.
    fn blocks(&self, part: Component) -> u64 {
        let (across, down) = self.most();
        let side = |size: u16, own: u8, most: u64| {
            (u64::from(size) * u64::from(own)).div_ceil(most * self.block())
        };
        side(self.width, part.across, across) * side(self.height, part.down, down)
    }

    /// Reads a scan's header. `None` where it makes no sense.
    pub(super) fn scan(&self, header: &[u8]) -> Option<Scan> {
        let (count, rest) = header.split_first()?;
        let (selected, rest) = rest.split_at_checked(2 * usize::from(*count))?;
        let &[first, last, approximation, ..] = rest else { return None };
        let parts: Vec<Component> = selected
            .as_chunks::<2>()
            .0
            .iter()
            .filter_map(|[id, _]| self.components.iter().find(|part| part.id == *id).copied())
            .collect();
        let (units, blocks) = match *parts {
            [part] => (self.blocks(part), self.blocks(part)),
            _ => {
                let units = self.units().0 * self.units().1;
                (units, units * parts.iter().map(|part| unit_blocks(*part)).sum::<u64>())
            }
        };
        let coefficients = u64::from(last.saturating_sub(first)) + 1;
        let nanos = blocks * self.block_nanos(coefficients, approximation >> 4 > 0);
        Some(Scan { units, nanos })
    }

    /// The time that a block of a scan may take, in nanoseconds: measured on an AMD EPYC with AVX2,
    /// on the worst blocks that could be made, and rounded up.
    ///
    /// A Huffman code takes a bit of the file at least, which is counted by length. Arithmetic
    /// coding can put thousands of decisions in a bit.
    fn block_nanos(&self, coefficients: u64, refining: bool) -> u64 {
        match (self.lossless(), self.arithmetic(), refining) {
            (true, ..) => 5,
            (_, false, _) => 60,
            (_, true, false) => 60 + 95 * coefficients,
            (_, true, true) => 60 + 25 * coefficients,
        }
    }

    /// What the library holds beside the pixels, in bytes: all coefficients if the file has several
    /// scans, and rows of samples.
    pub(super) fn scratch(&self, scans: u64) -> u64 {
        let (across, down) = self.units();
        let blocks: u64 = self.components.iter().map(|part| unit_blocks(*part)).sum();
        let samples = across * down * blocks * self.block() * self.block();
        let kept = if self.progressive() || scans > 1 { 2 * samples } else { 0 };
        let rows = ROWS * self.most().1 * (u64::from(self.width) + PADDING);
        let wide = if self.lossless() { 4 } else { 1 };
        kept + rows * wide * self.components.len() as u64 + TABLES
    }
}

fn unit_blocks(part: Component) -> u64 {
    u64::from(part.across) * u64::from(part.down)
}

/// Rows that the library holds of each component, for each of its blocks one above the other.
const ROWS: u64 = 24;

/// Samples by which rows may be longer than the picture is wide.
const PADDING: u64 = 64;

/// Tables and structures of the library, in bytes.
const TABLES: u64 = 1 << 18;
