//! TIFF files made to order.

#![allow(dead_code)]

use std::collections::BTreeMap;

/// A TIFF: tags, and strips or tiles.
#[derive(Clone, Default)]
pub(crate) struct Tiff {
    tags: BTreeMap<u16, Vec<u64>>,
    chunks: Vec<Vec<u8>>,
    /// The most significant byte of a number comes first.
    pub(crate) big_endian: bool,
    pub(crate) big: bool,
}

impl Tiff {
    /// A picture of this size whose samples have 8 bits, in one strip of no bytes.
    pub(crate) fn new(width: u32, height: u32, samples: u16, photometric: u16) -> Self {
        let bits = vec![8; samples.into()];
        Self::default()
            .with(256, [width.into()])
            .with(257, [height.into()])
            .with(258, bits)
            .with(262, [photometric.into()])
            .with(277, [samples.into()])
    }

    pub(crate) fn with(mut self, tag: u16, values: impl Into<Vec<u64>>) -> Self {
        self.tags.insert(tag, values.into());
        self
    }

    pub(crate) fn without(mut self, tag: u16) -> Self {
        self.tags.remove(&tag);
        self
    }

    /// Tiles of this size, in place of strips.
    pub(crate) fn tiled(self, width: u32, height: u32) -> Self {
        self.with(322, [width.into()]).with(323, [height.into()])
    }

    /// Puts these strips or tiles one after the other and names them.
    pub(crate) fn chunks(mut self, chunks: Vec<Vec<u8>>) -> Self {
        let lengths: Vec<_> = chunks.iter().map(|chunk| chunk.len() as u64).collect();
        let mut at = if self.big { 16 } else { 8 };
        let offsets = lengths.iter().map(|length| {
            at += length;
            at - length
        });
        let offsets: Vec<_> = offsets.collect();
        self.chunks = chunks;
        let [places, sizes] = self.places();
        self.with(places, offsets).with(sizes, lengths)
    }

    /// The tags of offsets and lengths.
    pub(crate) fn places(&self) -> [u16; 2] {
        if self.tags.contains_key(&322) { [324, 325] } else { [273, 279] }
    }

    fn number(&self, number: u64, length: usize) -> Vec<u8> {
        let mut bytes = number.to_le_bytes()[..length].to_vec();
        if self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (word, head) = if self.big { (8, 16) } else { (4, 8) };
        let data = self.chunks.concat();
        let directory = head + data.len();
        let entries = self.tags.len();
        let behind = directory + if self.big { 8 } else { 2 } + entries * (4 + 2 * word) + word;
        let mut file = if self.big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        if self.big {
            file.extend([self.number(43, 2), self.number(8, 2), self.number(0, 2)].concat());
        } else {
            file.extend(self.number(42, 2));
        }
        file.extend(self.number(directory as u64, word));
        file.extend(data);
        file.extend(self.number(entries as u64, if self.big { 8 } else { 2 }));
        let mut values = Vec::new();
        for (tag, numbers) in &self.tags {
            let (kind, length) = if self.big { (16, 8) } else { (4, 4) };
            let value: Vec<u8> = numbers.iter().flat_map(|n| self.number(*n, length)).collect();
            let head = [(u64::from(*tag), 2), (kind, 2), (numbers.len() as u64, word)];
            file.extend(head.iter().flat_map(|(number, length)| self.number(*number, *length)));
            if value.len() <= word {
                file.extend([&value[..], &vec![0; word - value.len()]].concat());
            } else {
                file.extend(self.number((behind + values.len()) as u64, word));
                values.extend(value);
            }
        }
        file.extend(vec![0; word]);
        file.extend(values);
        file
    }
}

/// Deflate that stores what it is given.
pub(crate) fn stored(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(65_535).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
        out.extend(block);
    }
    let (a, b) = data.iter().fold((1u32, 0u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

/// LZW of codes of 9 bits, which are cleared before they grow.
pub(crate) fn lzw(data: &[u8]) -> Vec<u8> {
    let codes = data
        .chunks(200)
        .flat_map(|part| std::iter::once(256).chain(part.iter().map(|byte| u16::from(*byte))));
    pack(codes.chain([257]), 9)
}

/// PackBits without runs.
pub(crate) fn packbits(data: &[u8]) -> Vec<u8> {
    data.chunks(128).flat_map(|part| [&[part.len() as u8 - 1], part].concat()).collect()
}

/// Numbers of so many bits each, the highest bit first, filled up to whole bytes.
pub(crate) fn pack(numbers: impl IntoIterator<Item = u16>, bits: u32) -> Vec<u8> {
    let (mut out, mut held, mut count) = (Vec::new(), 0u32, 0);
    for number in numbers {
        held = held << bits | u32::from(number);
        count += bits;
        while count >= 8 {
            count -= 8;
            out.push((held >> count) as u8);
        }
    }
    if count > 0 {
        out.push((held << (8 - count)) as u8);
    }
    out
}
