//! The table of contents of a zip archive, as far as `torch.save` uses zip.
//!
//! That is little: entries are stored, never compressed, so each one is a range of the file. No general crate, because one would keep every entry of a hostile
//! table in memory before it can be asked anything.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::Wrong;

/// Most entries. A checkpoint has one for each tensor, a few hundred to 2,000.
const MAX_ENTRIES: u64 = 20_000;
/// Largest table of contents.
const MAX_DIRECTORY: u64 = 8 * 1024 * 1024;

const END: u32 = 0x0605_4b50;
const END_LENGTH: usize = 22;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END64_LOCATOR_LENGTH: u64 = 20;
const END64: u32 = 0x0606_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// Stands in a 32-bit field whose value is in the zip64 extra field.
const IN_ZIP64: u64 = u32::MAX as u64;

/// A file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// First byte of its content.
    pub(super) start: u64,
    pub(super) size: u64,
    /// Neither compressed nor encrypted.
    pub(super) is_stored: bool,
}

/// Reads where every entry lies, and checks that none shares bytes with another.
pub(super) fn entries(file: &mut File) -> Result<Vec<Entry>, Wrong> {
    let length = file.metadata()?.len();
    let (count, size, start) = find_directory(file, length)?;
    let end = start.checked_add(size).filter(|end| *end <= length);
    if end.is_none() || count > MAX_ENTRIES || size > MAX_DIRECTORY {
        Err(format!("its zip table of {count} entries and {size} bytes is out of bounds"))?;
    }
    let table = read(file, start, size as usize)?;
    let mut fields = Fields(&table);
    let mut entries = (0..count)
        .map(|_| locate(file, central_entry(&mut fields)?, start))
        .collect::<Result<Vec<_>, Wrong>>()?;
    entries.sort_by_key(|entry| entry.start);
    match entries.windows(2).find(|pair| pair[0].start + pair[0].size > pair[1].start) {
        Some(pair) => {
            Err(format!("its zip entries {:?} and {:?} overlap", pair[0].name, pair[1].name))?
        }
        None => Ok(entries),
    }
}

/// Number of entries, size and start of the table of contents.
fn find_directory(file: &mut File, length: u64) -> Result<(u64, u64, u64), Wrong> {
    // The end record is the last thing but for a comment of at most 65,535 bytes.
    let tail_length = length.min(END_LENGTH as u64 + 0xffff);
    let tail_start = length - tail_length;
    let tail = read(file, tail_start, tail_length as usize)?;
    let at = (0..=tail.len().saturating_sub(END_LENGTH)).rev().find(|at| {
        let record = &tail[*at..];
        record.starts_with(&END.to_le_bytes())
            && record.len() >= END_LENGTH
            && END_LENGTH + usize::from(u16::from_le_bytes([record[20], record[21]]))
                == record.len()
    });
    let at = at.ok_or("its zip archive has no end: is it cut short?".to_owned())?;
    let mut fields = Fields(&tail[at + 10..]);
    let (count, size, start) = (fields.u16()?, fields.u32()?, fields.u32()?);
    if count != 0xffff && size != IN_ZIP64 && start != IN_ZIP64 {
        return Ok((count, size, start));
    }
    find_directory64(file, tail_start + at as u64)
}

/// The same from the records that large archives have before the end record.
fn find_directory64(file: &mut File, end: u64) -> Result<(u64, u64, u64), Wrong> {
    let broken = || Wrong::Content("its zip64 end record is broken".to_owned());
    let locator = end.checked_sub(END64_LOCATOR_LENGTH).ok_or_else(broken)?;
    let record = read(file, locator, END64_LOCATOR_LENGTH as usize)?;
    let mut fields = Fields(&record);
    if fields.u32()? != u64::from(END64_LOCATOR) {
        return Err(broken());
    }
    fields.skip(4)?;
    let start = fields.u64()?;
    if start.checked_add(56).is_none_or(|end| end > locator) {
        return Err(broken());
    }
    let record = read(file, start, 56)?;
    let mut fields = Fields(&record);
    if fields.u32()? != u64::from(END64) {
        return Err(broken());
    }
    fields.skip(28)?;
    Ok((fields.u64()?, fields.u64()?, fields.u64()?))
}

/// An entry of the table: its name, its size, and where its local header is.
fn central_entry(fields: &mut Fields<'_>) -> Result<Entry, Wrong> {
    if fields.u32()? != u64::from(CENTRAL) {
        Err("its zip table is broken".to_owned())?;
    }
    fields.skip(4)?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.skip(8)?;
    let (mut compressed, mut size) = (fields.u32()?, fields.u32()?);
    let [name, extra, comment] = [fields.u16()?, fields.u16()?, fields.u16()?];
    fields.skip(8)?;
    let mut start = fields.u32()?;
    let name = String::from_utf8_lossy(fields.take(name as usize)?).into_owned();
    let mut extra = Fields(fields.take(extra as usize)?);
    fields.skip(comment as usize)?;
    let mut wide = zip64_extra(&mut extra)?;
    for value in [&mut size, &mut compressed, &mut start] {
        if *value == IN_ZIP64 {
            *value = wide.u64()?;
        }
    }
    let is_stored = method == 0 && compressed == size && flags & 1 == 0;
    // The size of what lies in the file, whatever comes out of it.
    Ok(Entry { name, start, size: compressed, is_stored })
}

/// Content of the zip64 field among the extra fields, or nothing.
fn zip64_extra<'a>(extra: &mut Fields<'a>) -> Result<Fields<'a>, Wrong> {
    while extra.0.len() >= 4 {
        let (id, length) = (extra.u16()?, extra.u16()?);
        let content = extra.take(length as usize)?;
        if id == 1 {
            return Ok(Fields(content));
        }
    }
    Ok(Fields(&[]))
}

/// Moves an entry's start from its local header to its content, which must end before `limit`.
fn locate(file: &mut File, entry: Entry, limit: u64) -> Result<Entry, Wrong> {
    let broken = || Wrong::Content(format!("its zip entry {:?} is out of bounds", entry.name));
    if entry.start.checked_add(30).is_none_or(|end| end > limit) {
        return Err(broken());
    }
    let header = read(file, entry.start, 30)?;
    let mut fields = Fields(&header);
    if fields.u32()? != u64::from(LOCAL) {
        return Err(broken());
    }
    fields.skip(22)?;
    let start = entry.start + 30 + fields.u16()? + fields.u16()?;
    match start.checked_add(entry.size) {
        Some(end) if end <= limit => Ok(Entry { start, ..entry }),
        _ => Err(broken()),
    }
}

/// Reads a range that is known to lie within the file.
pub(super) fn read(file: &mut File, start: u64, length: usize) -> Result<Vec<u8>, Wrong> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Little-endian fields, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Wrong> {
        let cut = || Wrong::Content("its zip table is cut short".to_owned());
        let (head, tail) = self.0.split_at_checked(length).ok_or_else(cut)?;
        self.0 = tail;
        Ok(head)
    }

    fn skip(&mut self, length: usize) -> Result<(), Wrong> {
        self.take(length).map(drop)
    }

    fn number(&mut self, length: usize) -> Result<u64, Wrong> {
        let bytes = self.take(length)?.iter().rev();
        Ok(bytes.fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn u16(&mut self) -> Result<u64, Wrong> {
        self.number(2)
    }

    fn u32(&mut self) -> Result<u64, Wrong> {
        self.number(4)
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        self.number(8)
    }
}
