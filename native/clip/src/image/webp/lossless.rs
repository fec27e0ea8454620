//! What the tables of a lossless WebP take, before its decoder builds them.
//!
//! A file of 14 MB can name 65,536 groups of prefix codes, each of which the decoder turns into up
//! to 100 KB of tables, whether a pixel uses it or not. How many there are stands in an image inside
//! the file, and how large they are in the codes themselves: so both are read here as the decoder
//! reads them (WebP Lossless Bitstream Specification, sections 4 to 6), up to the pixels.

mod bits;
mod prefix;

use self::bits::{Bits, Damaged};
use self::prefix::Code;
use crate::budget::Budget;
use crate::error::Result;
use crate::image::broken;
use crate::image::format::Format;
use crate::image::zeroed;

/// Symbols of green and of lengths, of red, of blue, of alpha, and of distances.
const ALPHABETS: [usize; 5] = [256 + LENGTHS, 256, 256, 256, 40];
const LENGTHS: usize = 24;

/// What the decoder holds for a group beside its tables, twice while its list grows, in bytes.
const GROUP: u64 = 3 * 5 * 64;

/// Groups between two looks at the clock.
const GROUPS: u32 = 64;

/// Bytes of memory that the decoder's tables take for the stream of a picture of this size, as far
/// as `max_decode_bytes` lets them: whoever reserves them finds out.
///
/// # Errors
/// `InvalidImage` for a stream that no decoder reads, and what the budget says.
pub(super) fn table_bytes(
    stream: &[u8],
    (width, height): (u32, u32),
    budget: &Budget<'_>,
) -> Result<u64> {
    let mut reader = Reader { bits: Bits::new(stream), budget };
    reader.tables(width, height).map_err(|stopped| match stopped {
        Stopped::Damaged => broken(Format::Webp, "its codes make no sense"),
        Stopped::Refused(error) => error,
    })
}

enum Stopped {
    Damaged,
    Refused(crate::error::Error),
}

impl From<Damaged> for Stopped {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

type Read<T> = std::result::Result<T, Stopped>;

struct Reader<'a> {
    bits: Bits<'a>,
    budget: &'a Budget<'a>,
}

/// A colour: red, green, blue, alpha.
type Pixel = [u8; 4];

impl Reader<'_> {
    fn tables(&mut self, width: u32, height: u32) -> Read<u64> {
        let width = self.transforms(width, height)?;
        let cache = self.cache_bits()?;
        let groups = if self.bits.read(1)? == 1 { self.groups(width, height)? } else { 1 };
        let mut bytes = 0;
        for group in 0..groups {
            if group % GROUPS == 0 {
                self.check()?;
            }
            let (_, size) = self.group(cache)?;
            bytes += size + GROUP;
            if bytes > self.budget.limits().max_decode_bytes {
                break;
            }
        }
        Ok(bytes)
    }

    fn check(&self) -> Read<()> {
        self.budget.check().map_err(Stopped::Refused)
    }

    /// Reads past the transforms, and says how wide the image is that they are made for.
    fn transforms(&mut self, mut width: u32, height: u32) -> Read<u32> {
        let mut seen = [false; 4];
        while self.bits.read(1)? == 1 {
            let kind = self.bits.read(2)? as usize;
            if std::mem::replace(&mut seen[kind], true) {
                return Err(Stopped::Damaged);
            }
            match kind {
                // Predictors and colour factors, one for each block.
                0 | 1 => {
                    let block = self.bits.read(3)? + 2;
                    self.image(blocks(width, block), blocks(height, block))?;
                }
                // Subtracting green.
                2 => {}
                _ => {
                    let colors = self.bits.read(8)? + 1;
                    self.image(colors, 1)?;
                    let packed = [2, 4, 16].iter().filter(|most| colors <= **most).count();
                    width = blocks(width, packed as u32);
                }
            }
        }
        Ok(width)
    }

    /// The number of groups: one more than the highest that a block names, in red and green.
    fn groups(&mut self, width: u32, height: u32) -> Read<u32> {
        let block = self.bits.read(3)? + 2;
        let pixels = self.image(blocks(width, block), blocks(height, block))?;
        let pixels = pixels.as_chunks::<4>().0.iter();
        let named = pixels.map(|[red, green, ..]| u32::from(u16::from_be_bytes([*red, *green])));
        Ok(named.max().unwrap_or(0) + 1)
    }

    fn cache_bits(&mut self) -> Read<Option<u32>> {
        if self.bits.read(1)? == 0 {
            return Ok(None);
        }
        match self.bits.read(4)? {
            bits @ 1..=11 => Ok(Some(bits)),
            _ => Err(Stopped::Damaged),
        }
    }

    /// One group of codes, and what the decoder's tables for it take.
    fn group(&mut self, cache: Option<u32>) -> Read<([Code; 5], u64)> {
        let mut bytes = 0;
        let mut codes = [(); 5].map(|()| Code::default());
        for (code, alphabet) in codes.iter_mut().zip(ALPHABETS) {
            let cached =
                if alphabet == ALPHABETS[0] { cache.map_or(0, |bits| 1 << bits) } else { 0 };
            *code = Code::read(&mut self.bits, alphabet + cached)?;
            bytes += code.table_bytes();
        }
        Ok((codes, bytes))
    }

    /// An image of one group, as all but the picture itself are.
    fn image(&mut self, width: u32, height: u32) -> Read<Vec<u8>> {
        let cache = self.cache_bits()?;
        let (codes, _) = self.group(cache)?;
        let mut cache = Cache::new(cache);
        let count = width as usize * height as usize;
        let mut data = zeroed(4 * count).map_err(Stopped::Refused)?;
        let pixels = data.as_chunks_mut::<4>().0;
        let mut at = 0;
        let mut checked = 0;
        while at < count {
            if at >= checked {
                self.check()?;
                checked = at + (1 << 16);
            }
            let symbol = codes[0].next(&mut self.bits)?;
            if symbol < 256 {
                let red = codes[1].next(&mut self.bits)? as u8;
                let blue = codes[2].next(&mut self.bits)? as u8;
                let alpha = codes[3].next(&mut self.bits)? as u8;
                pixels[at] = [red, symbol as u8, blue, alpha];
                cache.insert(pixels[at]);
                at += 1;
            } else if symbol < 256 + LENGTHS {
                let length = self.copied(symbol - 256)?;
                let distance = codes[4].next(&mut self.bits)?;
                let distance = back(self.copied(distance)?, width);
                if distance > at || length > count - at {
                    return Err(Stopped::Damaged);
                }
                for to in at..at + length {
                    pixels[to] = pixels[to - distance];
                    // The decoder does not keep a colour again that is repeated.
                    if distance > 1 {
                        cache.insert(pixels[to]);
                    }
                }
                at += length;
            } else {
                pixels[at] = cache.get(symbol - 256 - LENGTHS)?;
                at += 1;
            }
        }
        Ok(data)
    }

    /// A length or a distance: its prefix, and the bits that follow.
    fn copied(&mut self, prefix: usize) -> Read<usize> {
        if prefix < 4 {
            return Ok(prefix + 1);
        }
        let extra = (prefix - 2) >> 1;
        let offset = (2 + (prefix & 1)) << extra;
        Ok(offset + self.bits.read(extra as u32)? as usize + 1)
    }
}

/// How many blocks of `1 << bits` pixels a side takes.
fn blocks(side: u32, bits: u32) -> u32 {
    side.div_ceil(1 << bits)
}

/// Pixels that came before, found by a hash.
struct Cache {
    shift: u32,
    pixels: Vec<Pixel>,
}

impl Cache {
    fn new(bits: Option<u32>) -> Self {
        let pixels = bits.map_or_else(Vec::new, |bits| vec![[0; 4]; 1 << bits]);
        Self { shift: 32 - bits.unwrap_or(0), pixels }
    }

    fn insert(&mut self, [red, green, blue, alpha]: Pixel) {
        if !self.pixels.is_empty() {
            let argb = u32::from_be_bytes([alpha, red, green, blue]);
            let hash = argb.wrapping_mul(0x1e35_a7bd) >> self.shift;
            self.pixels[hash as usize] = [red, green, blue, alpha];
        }
    }

    fn get(&self, index: usize) -> std::result::Result<Pixel, Damaged> {
        self.pixels.get(index).copied().ok_or(Damaged)
    }
}

/// The distance that a code means: up to 120 it is one of the pixels around, row by row else.
fn back(code: usize, width: u32) -> usize {
    let Some((x, y)) = NEAR.get(code - 1) else { return code - NEAR.len() };
    let distance = i64::from(*x) + i64::from(*y) * i64::from(width);
    usize::try_from(distance).unwrap_or(0).max(1)
}

/// Columns to the left and rows up.
#[rustfmt::skip]
const NEAR: [(i8, i8); 120] = [
 (0, 1), (1, 0), (1, 1), (-1, 1), (0, 2), (2, 0), (1, 2), (-1, 2),
    (2, 1), (-2, 1), (2, 2), (-2, 2), (0, 3), (3, 0), (1, 3), (-1, 3),
    (3, 1), (-3, 1), (2, 3), (-2, 3), (3, 2), (-3, 2), (0, 4), (4, 0),
    (1, 4), (-1, 4), (4, 1), (-4, 1), (3, 3), (-3, 3), (2, 4), (-2, 4),
    (4, 2), (-4, 2), (0, 5), (3, 4), (-3, 4), (4, 3), (-4, 3), (5, 0),
    (1, 5), (-1, 5), (5, 1), (-5, 1), (2, 5), (-2, 5), (5, 2), (-5, 2),
    (4, 4), (-4, 4), (3, 5), (-3, 5), (5, 3), (-5, 3), (0, 6), (6, 0),
    (1, 6), (-1, 6), (6, 1), (-6, 1), (2, 6), (-2, 6), (6, 2), (-6, 2),
    (4, 5), (-4, 5), (5, 4), (-5, 4), (3, 6), (-3, 6), (6, 3), (-6, 3),
    (0, 7), (7, 0), (1, 7), (-1, 7), (5, 5), (-5, 5), (7, 1), (-7, 1),
    (4, 6), (-4, 6), (6, 4), (-6, 4), (2, 7), (-2, 7), (7, 2), (-7, 2),
    (3, 7), (-3, 7), (7, 3), (-7, 3), (5, 6), (-5, 6), (6, 5), (-6, 5),
    (8, 0), (4, 7), (-4, 7), (7, 4), (-7, 4), (8, 1), (8, 2), (6, 6),
    (-6, 6), (8, 3), (5, 7), (-5, 7), (7, 5), (-7, 5), (8, 4), (6, 7),
    (-6, 7), (7, 6), (-7, 6), (8, 5), (7, 7), (-7, 7), (8, 6), (8, 7)
];
