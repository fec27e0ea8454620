//! Where the entries of a zip archive lie, as far as `torch.save` uses zip.
//!
//! That is little: entries are stored, never compressed, so each one is a range of the file. `rawzip` reads one entry
//! of the table at a time, so that a hostile table never is in memory as a whole. It trusts what the table says of
//! places and sizes, which is checked here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use clip::checkpoint::layout::shown;
use rawzip::{
    CompressionMethod, Error, ErrorKind, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ZipArchive,
    ZipFileHeaderRecord, ZipLocator,
};

use super::Wrong;

/// Most entries. A checkpoint has one for each tensor, a few hundred to 2,000.
const MAX_ENTRIES: u64 = 20_000;
/// Largest table of contents.
const MAX_DIRECTORY: u64 = 8 * 1024 * 1024;
/// The end record is the last thing but for a comment of at most 65,535 bytes.
const MAX_END: u64 = 22 + 0xffff;

/// A file in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// First byte of its content.
    pub(super) start: u64,
    /// Bytes that it takes in the file, whatever comes out of them.
    pub(super) size: u64,
    /// Neither compressed nor encrypted.
    pub(super) is_stored: bool,
}

/// Reads where every entry lies, and checks that none shares bytes with another.
pub(super) fn entries(file: &File) -> Result<Vec<Entry>, Wrong> {
    let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let archive = ZipLocator::new()
        .max_search_space(MAX_END)
        .locate_in_file(file.try_clone()?, &mut buffer)
        .map_err(|(_, error)| error)?;
    let directory = archive.directory_offset();
    let (count, size) = (archive.entries_hint(), archive.eocd_offset().saturating_sub(directory));
    if count > MAX_ENTRIES || size > MAX_DIRECTORY {
        Err(format!("its zip table of {count} entries and {size} bytes is out of bounds"))?;
    }
    let mut table = archive.entries(&mut buffer);
    let mut entries = Vec::new();
    while let Some(record) = table.next_entry()? {
        entries.push(locate(&archive, &record)?);
        if entries.len() as u64 > MAX_ENTRIES {
            Err(format!("its zip table has more than {MAX_ENTRIES} entries"))?;
        }
    }
    entries.sort_by_key(|entry| entry.start);
    check_places(&entries, directory)?;
    Ok(entries)
}

fn locate(
    archive: &ZipArchive<FileReader>,
    record: &ZipFileHeaderRecord<'_>,
) -> Result<Entry, Wrong> {
    let name = String::from_utf8_lossy(record.file_path().as_bytes()).into_owned();
    let entry = archive.get_entry(record.wayfinder()).map_err(|_| out_of_bounds(&name))?;
    let (start, end) = entry.compressed_data_range();
    let is_stored = record.compression_method() == CompressionMethod::STORE
        && record.compressed_size_hint() == record.uncompressed_size_hint()
        && !record.flags().is_encrypted();
    Ok(Entry { name, start, size: end - start, is_stored })
}

/// Checks entries in the order of their starts: each ends before the next one and before `limit`.
fn check_places(entries: &[Entry], limit: u64) -> Result<(), Wrong> {
    if let Some(entry) = entries.iter().find(|entry| entry.start + entry.size > limit) {
        return Err(out_of_bounds(&entry.name));
    }
    match entries.windows(2).find(|pair| pair[0].start + pair[0].size > pair[1].start) {
        Some(pair) => {
            let (one, other) = (shown(&pair[0].name), shown(&pair[1].name));
            Err(format!("its zip entries \"{one}\" and \"{other}\" overlap"))?
        }
        None => Ok(()),
    }
}

fn out_of_bounds(name: &str) -> Wrong {
    Wrong::Content(format!("its zip entry \"{}\" is out of bounds", shown(name)))
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        let what = match error.into_kind() {
            ErrorKind::IO(error) => return Self::Read(error),
            ErrorKind::MissingEndOfCentralDirectory => "archive has no end: is it cut short?",
            ErrorKind::InvalidEndOfCentralDirectory => "table is out of bounds",
            ErrorKind::Eof => "table is cut short",
            _ => "table is broken",
        };
        Self::Content(format!("its zip {what}"))
    }
}

/// Reads a range that is known to lie within the file.
pub(super) fn read(file: &mut File, start: u64, length: usize) -> Result<Vec<u8>, Wrong> {
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
