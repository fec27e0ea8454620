//! The first directory of a TIFF: tags, and values that are read where they lie.

use super::damaged;
use crate::error::{Error, Result};

/// A directory of a classic TIFF has no room for more.
const MAX_ENTRIES: u64 = 65_535;

/// The order of the bytes of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// A number of at most eight bytes.
    fn number(self, bytes: &[u8]) -> u64 {
        let push = |number, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, push),
            Self::Big => bytes.iter().fold(0, push),
        }
    }
}

/// Values of one tag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    bytes: &'a [u8],
    kind: u64,
    order: Order,
}

impl<'a> Values<'a> {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() / size(self.kind).max(1) as usize
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A whole number, without its sign.
    pub(super) fn get(&self, at: usize) -> Option<u64> {
        if matches!(self.kind, 5 | 10 | 11 | 12) {
            return None;
        }
        Some(self.order.number(self.item(at)?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + use<'a> {
        let values = *self;
        (0..values.len()).filter_map(move |at| values.get(at))
    }

    /// Whether the type is one of numbers, and not of bytes and text.
    pub(super) fn are_numbers(&self) -> bool {
        !matches!(self.kind, 1 | 2 | 7)
    }

    /// A fraction or a number with a point.
    pub(super) fn float(&self, at: usize) -> Option<f32> {
        let item = self.item(at)?;
        let number = self.order.number(&item[..item.len().min(8)]);
        match self.kind {
            5 | 10 => {
                let [above, below] = [&item[..4], &item[4..]].map(|half| {
                    let half = self.order.number(half) as u32;
                    if self.kind == 5 { f64::from(half) } else { f64::from(half as i32) }
                });
                Some(if below == 0.0 { 0.0 } else { (above / below) as f32 })
            }
            11 => Some(f32::from_bits(number as u32)),
            12 => Some(f64::from_bits(number) as f32),
            _ => Some(number as f32),
        }
    }

    fn item(&self, at: usize) -> Option<&'a [u8]> {
        let size = size(self.kind) as usize;
        self.bytes.get(at.checked_mul(size)?..)?.get(..size)
    }
}

/// Length of a value of this type in bytes; 0 for a type that does not exist.
fn size(kind: u64) -> u64 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 | 17 | 18 => 8,
        _ => 0,
    }
}

/// The first directory.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    order: Order,
    /// BigTIFF: lengths and offsets have eight bytes.
    big: bool,
    entries: &'a [u8],
}

impl<'a> Directory<'a> {
    /// Finds the directory. `bytes` is the whole file and begins with the mark of a TIFF.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        let order = if bytes.starts_with(b"II") { Order::Little } else { Order::Big };
        let big = bytes.get(2..4).is_some_and(|version| version.contains(&43));
        let mut directory = Self { bytes, order, big, entries: &[] };
        let cut_short = || damaged("its directory is missing");
        let first = if big { 8 } else { 4 };
        let at = directory.number(first, directory.word()).ok_or_else(cut_short)?;
        let head = if big { 8 } else { 2 };
        let count = directory.number(at, head).ok_or_else(cut_short)?;
        if count > MAX_ENTRIES {
            return Err(damaged(&format!("its directory has {count} entries")));
        }
        let start = at.saturating_add(head);
        let entries = slice(bytes, start, count * directory.entry_size());
        directory.entries = entries.ok_or_else(cut_short)?;
        Ok(directory)
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// The values of a tag, of its first entry if it has several.
    ///
    /// # Errors
    /// `InvalidImage` for values that the file does not hold.
    pub(super) fn find(&self, tag: u16) -> Result<Option<Values<'a>>> {
        let mut entries = self.entries.chunks_exact(self.entry_size() as usize);
        let Some(entry) = entries.find(|entry| self.order.number(&entry[..2]) == u64::from(tag))
        else {
            return Ok(None);
        };
        let word = self.word() as usize;
        let kind = self.order.number(&entry[2..4]);
        let count = self.order.number(&entry[4..4 + word]);
        let value = &entry[4 + word..];
        let Some(length) = count.checked_mul(size(kind)) else { return Err(outside(tag)) };
        let bytes = if length <= word as u64 {
            value.get(..length as usize)
        } else {
            slice(self.bytes, self.order.number(value), length)
        };
        let bytes = bytes.ok_or_else(|| outside(tag))?;
        Ok((!bytes.is_empty()).then_some(Values { bytes, kind, order: self.order }))
    }

    /// The first value of a tag.
    ///
    /// # Errors
    /// As [`find`](Self::find), and for values that are not whole numbers.
    pub(super) fn number_of(&self, tag: u16) -> Result<Option<u64>> {
        let Some(values) = self.find(tag)? else { return Ok(None) };
        let number = values.get(0);
        number.map(Some).ok_or_else(|| damaged(&format!("tag {tag} is not a whole number")))
    }

    /// Length of an offset in bytes.
    fn word(&self) -> u64 {
        if self.big { 8 } else { 4 }
    }

    fn entry_size(&self) -> u64 {
        4 + 2 * self.word()
    }

    fn number(&self, at: u64, length: u64) -> Option<u64> {
        slice(self.bytes, at, length).map(|bytes| self.order.number(bytes))
    }
}

fn slice(bytes: &[u8], at: u64, length: u64) -> Option<&[u8]> {
    let end = usize::try_from(at.checked_add(length)?).ok()?;
    bytes.get(usize::try_from(at).ok()?..end)
}

fn outside(tag: u16) -> Error {
    damaged(&format!("values of tag {tag} lie outside the file"))
}
