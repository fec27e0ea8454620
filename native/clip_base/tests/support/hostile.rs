//! Files made to do harm.

/// Bits of a deflate stream, first bit lowest.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
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

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
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

fn riff(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
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
