//! Files made to do harm.

#![allow(dead_code)]

#[path = "tiff.rs"]
mod tiff;

use tiff::Tiff;

/// A zlib stream that stores what it is given.
pub(crate) fn stored(data: &[u8]) -> Vec<u8> {
    tiff::stored(data)
}

/// Bits of a deflate stream, first bit lowest.
#[derive(Default)]
pub(crate) struct Bits {
    pub(crate) bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    pub(crate) fn push(&mut self, value: u32, count: u32) {
        for bit in (0..count).map(|at| (value >> at & 1) as u8) {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= bit << (self.used % 8);
            self.used += 1;
        }
    }
}

/// A zlib stream of at least `len` zeros, 160 times smaller.
pub(crate) fn zlib_zeros(len: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(0b011, 3); // last block, fixed codes
    bits.push(0b0000_1100, 8); // literal 0
    for _ in 0..len.div_ceil(258) {
        bits.push(0b1010_0011, 8); // length 258
        bits.push(0, 5); // distance 1
    }
    bits.push(0, 7); // end
    let total = 1 + len.div_ceil(258) * 258;
    let adler = ((total % 65_521) as u32) << 16 | 1;
    [&[0x78, 0x01][..], &bits.bytes, &adler.to_be_bytes()].concat()
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// A chunk of a PNG, with its checksum.
pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes(), &body[..], &crc32(&body).to_be_bytes()].concat()
}

/// An 8-bit RGB PNG with this zlib stream for pixels and these chunks before it.
pub(crate) fn png(
    width: u32,
    height: u32,
    chunks: &[(&[u8; 4], Vec<u8>)],
    pixels: &[u8],
) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &header));
    for (kind, data) in chunks {
        file.extend(chunk(kind, data));
    }
    file.extend(chunk(b"IDAT", pixels));
    file.extend(chunk(b"IEND", b""));
    file
}

/// The header of a JPEG of this size, with a scan of nothing.
pub(crate) fn jpeg(width: u16, height: u16, progressive: bool) -> Vec<u8> {
    let mut file = b"\xff\xd8".to_vec();
    file.extend([&b"\xff\xdb\0\x43\0"[..], &[1; 64]].concat());
    file.extend([0xff, if progressive { 0xc2 } else { 0xc0 }, 0, 17, 8]);
    file.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
    file.extend(b"\x03\x01\x11\0\x02\x11\0\x03\x11\0");
    // One code of one bit in each table: no change of brightness, end of block.
    for table in [0x00, 0x10] {
        file.extend([&b"\xff\xc4\0\x14"[..], &[table, 1], &[0; 16]].concat());
    }
    file.extend(scan());
    file
}

/// One more scan of the three channels.
pub(crate) fn scan() -> &'static [u8] {
    b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\0\0\0"
}

/// A whole grey JPEG: black where its scan is empty.
pub(crate) fn grey_jpeg(width: u16, height: u16, scans: usize) -> Vec<u8> {
    let mut file = b"\xff\xd8".to_vec();
    file.extend([&b"\xff\xdb\0\x43\0"[..], &[1; 64]].concat());
    file.extend(b"\xff\xc0\0\x0b\x08");
    file.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
    file.extend(b"\x01\x01\x11\0");
    for table in [0x00, 0x10] {
        file.extend([&b"\xff\xc4\0\x14"[..], &[table, 1], &[0; 16]].concat());
    }
    file.extend(b"\xff\xda\0\x08\x01\x01\0\0\x3f\0".repeat(scans));
    file.extend(b"\0\0\xff\xd9");
    file
}

pub(crate) fn gif(width: u16, height: u16) -> Vec<u8> {
    let size = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let frame = [&b"\x2c\0\0\0\0"[..], &size, b"\0\x02\x02\x44\x01\0\x3b"].concat();
    [&b"GIF89a"[..], &size, b"\x80\0\0\0\0\0\xff\xff\xff", &frame].concat()
}

pub(crate) fn bmp(width: i32, height: i32) -> Vec<u8> {
    let mut file = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend(b"\x01\0\x18\0");
    file.extend([0; 24]);
    file
}

/// A TIFF of one strip of 8-bit grey, uncompressed (1) or JPEG (7).
pub(crate) fn tiff(width: u32, height: u32, compression: u32, strip: &[u8]) -> Vec<u8> {
    let entries = [
        (256, width),
        (257, height),
        (258, 8),
        (259, compression),
        (262, 1),
        (273, 8 + 2 + 9 * 12 + 4),
        (277, 1),
        (278, height),
        (279, strip.len() as u32),
    ];
    let mut file = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, value) in entries {
        file.extend(
            [&(tag as u16).to_le_bytes()[..], b"\x04\0\x01\0\0\0", &value.to_le_bytes()].concat(),
        );
    }
    file.extend([0; 4]);
    file.extend(strip);
    file
}

pub(crate) fn riff(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    [kind, &(data.len() as u32).to_le_bytes()[..], data, &[0][..data.len() % 2]].concat()
}

/// A lossy WebP: a canvas, and a frame that need not agree with it.
pub(crate) fn webp(canvas: (u32, u32), frame: (u16, u16), extra: &[u8]) -> Vec<u8> {
    let side = |side: u32| (side - 1).to_le_bytes()[..3].to_vec();
    let vp8x = [vec![0; 4], side(canvas.0), side(canvas.1)].concat();
    let size = [frame.0.to_le_bytes(), frame.1.to_le_bytes()].concat();
    let vp8 = [&b"\x10\0\0\x9d\x01\x2a"[..], &size, &[0; 64]].concat();
    let body =
        [b"WEBP".to_vec(), riff(b"VP8X", &vp8x), riff(b"VP8 ", &vp8), extra.to_vec()].concat();
    riff(b"RIFF", &body)
}

/// Codings of TIFF, each with bytes that it makes nothing of, or next to nothing: its number, the bits
/// of a sample that it takes, and as many bytes as asked for.
pub(crate) fn idle_chunks(len: usize) -> Vec<(&'static str, u64, u64, Vec<u8>)> {
    let repeated = |unit: &[u8]| unit.iter().copied().cycle().take(len).collect::<Vec<u8>>();
    // A code of 9 bits that clears, eight times; an empty block of 10 bits, four times.
    let clear = tiff::pack([256; 8], 9);
    let empty = (0..5)
        .map(|byte| (0..8).fold(0, |bits, bit| bits | u8::from((8 * byte + bit) % 10 == 1) << bit));
    let empty: Vec<u8> = empty.collect();
    // Both runs follow, white and black ones of 0, eight times.
    let no_runs = ["001", "00110101", "0000110111"].concat().repeat(8);
    let no_runs = tiff::pack(no_runs.bytes().map(|bit| u16::from(bit - b'0')), 1);
    let zlib = |blocks: Vec<u8>| [&[0x78, 0x9c][..], &blocks].concat();
    vec![
        ("LZW that clears", 5, 8, repeated(&clear)),
        ("PackBits of nothing", 32_773, 8, repeated(&[0x80])),
        ("Deflate of stored nothing", 8, 8, zlib(repeated(b"\0\0\0\xff\xff"))),
        ("Deflate of coded nothing", 32_946, 8, zlib(repeated(&empty))),
        ("fax rows of no runs", 2, 1, repeated(&[0])),
        ("fax that fills up", 3, 1, repeated(&[0])),
        ("fax of runs of 0", 4, 1, repeated(&no_runs)),
        ("JPEG of rubbish", 7, 8, [grey_jpeg(16, 16, 1), repeated(&[0])].concat()),
    ]
}

/// A TIFF of one strip of this coding.
pub(crate) fn strip(coding: u64, bits: u64, side: u32, chunk: Vec<u8>) -> Vec<u8> {
    let tiff = Tiff::new(side, side, 1, 1).with(258, [bits]).with(259, [coding]);
    tiff.with(278, [side.into()]).chunks(vec![chunk]).bytes()
}

/// A TIFF whose tiles all name the same bytes, or, from one to the next, the same but one.
pub(crate) fn shared_tiles(coding: u64, bits: u64, chunk: Vec<u8>, step: u64) -> Vec<u8> {
    let (side, count) = (4096, 256 * 256);
    let length = chunk.len() as u64 - step * count;
    let tiff = Tiff::new(side, side, 1, 1).with(258, [bits]).with(259, [coding]).tiled(16, 16);
    let tiff = tiff.chunks(vec![chunk]);
    let [places, lengths] = tiff.places();
    let offsets: Vec<_> = (0..count).map(|at| 8 + step * at).collect();
    tiff.with(places, offsets).with(lengths, vec![length; count as usize]).bytes()
}

/// A TIFF that names a million coded strips more than it has.
pub(crate) fn strips_without_end() -> Vec<u8> {
    let strip = [&[0x81, 0][..]; 32].concat();
    let tiff = Tiff::new(64, 64, 1, 1).with(259, [32_773]).chunks(vec![strip]);
    tiff.with(273, vec![8; 1 << 20]).bytes()
}

/// TIFFs whose tiles are much larger than they are.
pub(crate) fn large_tiles() -> Vec<(String, Vec<u8>)> {
    let tiff = |side| Tiff::new(side, 4096, 1, 1).with(259, [32_773]);
    [(4096, 65_535, 65_535), (4096, u32::MAX, u32::MAX), (1, 16_385, 1)]
        .into_iter()
        .map(|(side, width, height)| {
            let tiff = tiff(side).tiled(width, height).chunks(vec![vec![0; 8]; 4096]);
            (format!("tiles of {width} x {height} of {side} columns"), tiff.bytes())
        })
        .collect()
}

/// TIFFs that lie about how they are laid out.
pub(crate) fn lying_tiffs() -> Vec<(String, Vec<u8>)> {
    let small = || Tiff::new(64, 64, 1, 1).chunks(vec![vec![0; 4096]]);
    let mut files = Vec::new();
    for (width, height) in [(1, 1), (1, 4096), (0, 16)] {
        let tiff = Tiff::new(4096, 4096, 1, 1).with(259, [32_773]).tiled(width, height);
        files.push((
            format!("tiles of {width} x {height}"),
            tiff.chunks(vec![vec![0; 64]; 8]).bytes(),
        ));
    }
    let count = 1 << 20;
    let tiff = Tiff::new(1024, 1024, 1, 1).tiled(1, 1).chunks(vec![vec![0]; count]);
    files.push(("a million tiles of a pixel".into(), tiff.bytes()));
    files.push(("strips of no rows".into(), small().with(278, [0]).bytes()));
    files.push(("strips without end".into(), small().with(273, vec![8; 1 << 20]).bytes()));
    let tables = small().with(259, [7]).with(347, vec![0xff; 1 << 20]);
    files.push(("large tables of a JPEG".into(), tables.bytes()));
    // Where the directory's first entry says how many values it has.
    let bytes = small().bytes();
    let directory = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
    for entry in 0..6 {
        let mut bytes = bytes.clone();
        bytes[directory + 2 + 12 * entry + 4..][..4].copy_from_slice(&[0xff; 4]);
        files.push((format!("2^32 - 1 values of entry {entry}"), bytes));
    }
    let entries = [b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0", &[0xff; 8][..], &[0; 4000]].concat();
    files.push(("2^64 - 1 entries".into(), entries));
    files.push(("a directory in the header".into(), [b"II*\0\0\0\0\0", &[0; 64][..]].concat()));
    files
}
