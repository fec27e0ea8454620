//! An index as a file.
//!
//! ```text
//! "image_zero_shot index 1\n"
//! sections: length (u32), bytes, CRC-32 of the file up to here (u32)
//!   the first one: storage (u8), dim (u32), count (u32), name and commit of the model
//!   the others: rows, each of id and components
//! ```
//!
//! Numbers are little-endian, and texts and ids follow their length (u32). Rows are in the order in which
//! their ids were first put. A section is verified before it is used, so a damaged file costs
//! little. Sections are short, so a file with wrong lengths costs little too.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::block::Vector;
use super::index::{Index, Settings, check_vectors};
use super::model::Model;
use super::state::Rows;
use super::{Id, MAX_DIM, MAX_ID, Storage};
use crate::checkpoint::files;
use crate::error::{Error, ErrorKind, Result};

const MAGIC: &[u8; 24] = b"image_zero_shot index 1\n";
/// A section ends once it has this many bytes.
const SECTION: usize = 1 << 20;
/// The longest section: its last row adds at most an id, two lengths and four bytes a component.
const MAX_SECTION: usize = SECTION + MAX_ID + 4 * MAX_DIM + 16;
/// Longest name of a model, and longest commit.
const MAX_NAME: usize = 4096;

impl Index {
    /// Writes the index as it is now. The file is whole at any time: it is written beside its place, and
    /// renamed once it is on the disk.
    ///
    /// # Errors
    /// `Busy` if another process or thread saves to the same place, `DiskFull`, `NotFound` if the
    /// directory is missing, otherwise `Io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        // If the place is a link, its target is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // Renaming would put a file in the place of a device or a pipe.
        let before = fs::metadata(&path).ok();
        if before.as_ref().is_some_and(|before| !before.is_file()) {
            return Err(not_written(&path, io::Error::other("it is not a file")));
        }
        let mut beside = path.clone().into_os_string();
        beside.push(".saving");
        let beside = PathBuf::from(beside);
        let file = claim(&beside, &path)?;
        // The new file keeps the permissions of the old one.
        if let Some(before) = before {
            let _ = file.set_permissions(before.permissions());
        }
        let written = self.write(BufWriter::new(&file)).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&beside, &path)).map_err(|error| {
            let _ = fs::remove_file(&beside);
            not_written(&path, error)
        })?;
        // Makes the new name survive a power cut. Not every file system can.
        if let Some(directory) = path.parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }

    /// Reads a file that [`Index::save`] wrote.
    ///
    /// # Errors
    /// `InvalidIndexFile`, `IndexFull`, `NotFound`, `Io`.
    pub fn load(path: &Path, max_size: u32) -> Result<Self> {
        let place = format!("{:?}", path.display().to_string());
        let not_read = |error: io::Error| {
            let (kind, message) = match error.kind() {
                io::ErrorKind::NotFound => (ErrorKind::NotFound, format!("{place}: no such file")),
                _ => (ErrorKind::Io, format!("{place} cannot be read: {error}")),
            };
            Error::new(kind, message).with_source(error)
        };
        let file = files::open(path).map_err(not_read)?;
        let len = file.metadata().map_err(not_read)?.len();
        Self::read(io::BufReader::new(file), len, max_size).map_err(|error| error.at(place))
    }

    /// Reads `len` bytes that [`Index::save`] wrote, from any source.
    ///
    /// # Errors
    /// `InvalidIndexFile`, `IndexFull`, `Io`.
    pub fn read(source: impl Read, len: u64, max_size: u32) -> Result<Self> {
        let mut sections = Sections::new(source)?;
        let header = sections.next()?;
        let (storage, count, model) = header_of(&header)?;
        let index = Self::new(Settings { storage, max_size });
        index.check_size(count)?;
        let least = (4 + vector_bytes(storage, model.dim)) as u64;
        if count as u64 * least > len {
            return Err(damaged("it announces more entries than it has bytes for"));
        }
        let mut left = count;
        while left > 0 {
            let rows = sections.next()?;
            left = index.read_rows(&rows, &model, left)?;
        }
        sections.end()?;
        Ok(index)
    }

    /// Puts the rows of a section in, and returns how many are left after them.
    fn read_rows(&self, section: &[u8], model: &Model, left: usize) -> Result<usize> {
        let mut rows = Bytes(section);
        let (mut ids, mut vectors) = (Vec::new(), Vec::new());
        while !rows.0.is_empty() {
            let id = rows.text(MAX_ID)?;
            let vector = read_vector(self.settings().storage, model.dim, &mut rows)?;
            check_vectors(model, 1, &vector.values(model.dim))
                .map_err(|_| damaged("an entry is not a unit vector"))?;
            ids.push(Id::from(id));
            vectors.push(vector);
        }
        let read = ids.len();
        if read == 0 || read > left {
            return Err(damaged("it has another number of entries than it announces"));
        }
        let before = self.size();
        self.store(model, ids, vectors)?;
        if self.size() != before + read {
            return Err(damaged("an id occurs twice"));
        }
        Ok(left - read)
    }

    /// Writes the index for [`Index::read`].
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut out = Writer { out, crc: crc32fast::Hasher::new() };
        out.bytes(MAGIC)?;
        let rows = self.rows();
        let none = Model { name: String::new(), commit: None, dim: 1 };
        let model = self.model().unwrap_or(&none);
        let count = rows.as_ref().map_or(0, |rows| rows.size);
        out.section(&header(self.settings().storage, count, model))?;
        let Some(rows) = rows else { return out.out.flush() };
        let mut section = Vec::with_capacity(MAX_SECTION);
        for slot in in_order(&rows) {
            let (block, at) = rows.at(slot);
            put_text(&mut section, &block.ids[at]);
            put_vector(&mut section, &block.vector(at), model.dim);
            if section.len() >= SECTION {
                out.section(&section)?;
                section.clear();
            }
        }
        if !section.is_empty() {
            out.section(&section)?;
        }
        out.out.flush()
    }
}

/// The slots in the order in which their ids were first put.
fn in_order(rows: &Rows) -> impl Iterator<Item = u32> {
    let numbers = rows.blocks.iter().flat_map(|block| block.numbers.iter().copied());
    let mut slots: Vec<(u64, u32)> = numbers.zip(0u32..).collect();
    slots.sort_unstable();
    slots.into_iter().map(|(_, slot)| slot)
}

/// Opens the file beside the place, and locks it. The leftovers of a killed process are overwritten.
fn claim(beside: &Path, path: &Path) -> Result<File> {
    // Names both: a user has given only one of them.
    let not_written = |error: io::Error| {
        let place = beside.display().to_string();
        not_written(path, io::Error::new(error.kind(), format!("{place:?}: {error}")))
    };
    // Its last owner may have renamed it just now. Then another file, or none, is beside the place.
    for _ in 0..10 {
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = options.custom_flags(flags.bits().cast_signed()).open(beside);
        let file = file.map_err(not_written)?;
        match file.try_lock() {
            // The bytes have another name too: they are somebody's file, not ours to overwrite.
            Ok(()) if is_at(&file, beside) && !is_alone(&file) => {
                fs::remove_file(beside).map_err(not_written)?;
            }
            Ok(()) if is_at(&file, beside) => {
                file.set_len(0).map_err(not_written)?;
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) => return Err(not_written(error)),
        }
    }
    let message = format!(
        "the index is being saved to the same place, as {:?}; try again later",
        beside.display().to_string()
    );
    Err(Error::new(ErrorKind::Busy, message))
}

/// Whether the file that we locked is still the one that others would open.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => {
            ours.is_file() && ours.ino() == theirs.ino() && ours.dev() == theirs.dev()
        }
        _ => false,
    }
}

fn is_alone(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 1)
}

fn not_written(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    let message = format!("{:?} cannot be written: {error}", path.display().to_string());
    Error::new(kind, message).with_source(error)
}

fn damaged(why: &str) -> Error {
    let message = format!("the file is not an index, or it is damaged: {why}; build it again");
    Error::new(ErrorKind::InvalidIndexFile, message)
}

struct Writer<W> {
    out: W,
    crc: crc32fast::Hasher,
}

impl<W: Write> Writer<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.out.write_all(bytes)
    }

    fn section(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.bytes(&len.to_le_bytes())?;
        self.bytes(bytes)?;
        let crc = self.crc.clone().finalize();
        self.bytes(&crc.to_le_bytes())
    }
}

struct Sections<R> {
    source: R,
    crc: crc32fast::Hasher,
}

impl<R: Read> Sections<R> {
    fn new(source: R) -> Result<Self> {
        let mut sections = Self { source, crc: crc32fast::Hasher::new() };
        if sections.bytes(MAGIC.len())? != MAGIC {
            return Err(damaged("it begins otherwise"));
        }
        Ok(sections)
    }

    fn bytes(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(len as u64).read_to_end(&mut bytes);
        read.map_err(|error| {
            Error::new(ErrorKind::Io, format!("cannot be read: {error}")).with_source(error)
        })?;
        if bytes.len() < len {
            return Err(damaged("it is cut short"));
        }
        self.crc.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32> {
        Bytes(&self.bytes(4)?).number()
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        let len = self.number()? as usize;
        if len > MAX_SECTION {
            return Err(damaged("a section is too long"));
        }
        let bytes = self.bytes(len)?;
        let crc = self.crc.clone().finalize();
        if self.number()? == crc { Ok(bytes) } else { Err(damaged("a checksum is wrong")) }
    }

    fn end(mut self) -> Result<()> {
        match self.bytes(1) {
            Ok(_) => Err(damaged("there is more behind its end")),
            Err(_) => Ok(()),
        }
    }
}

/// The rest of a section.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| damaged("a section is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.first_chunk().copied().ok_or_else(|| damaged("a section is cut short"))
    }

    fn number(&mut self) -> Result<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn text(&mut self, most: usize) -> Result<&'a [u8]> {
        let len = self.number()? as usize;
        if len > most { Err(damaged("a text is too long")) } else { self.take(len) }
    }
}

fn put_text(section: &mut Vec<u8>, text: &[u8]) {
    // Ids and names are short.
    #[allow(clippy::cast_possible_truncation)]
    section.extend((text.len() as u32).to_le_bytes());
    section.extend(text);
}

fn header(storage: Storage, count: usize, model: &Model) -> Vec<u8> {
    let storage = match storage {
        Storage::F32 => 0,
        Storage::F16 => 1,
        Storage::I8 => 2,
    };
    let mut header = vec![storage];
    // Both are limited to less.
    #[allow(clippy::cast_possible_truncation)]
    header.extend([model.dim, count].into_iter().flat_map(|number| (number as u32).to_le_bytes()));
    put_text(&mut header, model.name.as_bytes());
    header.push(model.commit.is_some().into());
    put_text(&mut header, model.commit.as_deref().unwrap_or_default().as_bytes());
    header
}

fn header_of(section: &[u8]) -> Result<(Storage, usize, Model)> {
    let mut header = Bytes(section);
    let storage = match header.chunk()? {
        [0] => Storage::F32,
        [1] => Storage::F16,
        [2] => Storage::I8,
        _ => return Err(damaged("its storage is unknown")),
    };
    let (dim, count) = (header.number()? as usize, header.number()? as usize);
    if dim == 0 || dim > MAX_DIM {
        return Err(damaged("its vectors have no such length"));
    }
    let name = text(header.text(MAX_NAME)?)?;
    let is_commit = header.chunk()? == [1];
    let commit = text(header.text(MAX_NAME)?)?;
    let commit = is_commit.then_some(commit);
    Ok((storage, count, Model { name, commit, dim }))
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| damaged("a name is not text"))
}

fn vector_bytes(storage: Storage, dim: usize) -> usize {
    match storage {
        Storage::F32 => 4 * dim,
        Storage::F16 => 2 * dim,
        Storage::I8 => 4 + 2 * dim,
    }
}

fn put_vector(section: &mut Vec<u8>, vector: &Vector, dim: usize) {
    match vector {
        Vector::F32(lines) => {
            let values = lines.iter().flat_map(|line| line.0).take(dim);
            section.extend(values.flat_map(f32::to_le_bytes));
        }
        Vector::F16(lines) => {
            let values = lines.iter().flat_map(|line| line.0).take(dim);
            section.extend(values.flat_map(u16::to_le_bytes));
        }
        Vector::I8 { high, low, scale } => {
            section.extend(scale.to_le_bytes());
            section.extend(high.iter().flat_map(|line| line.0).take(dim));
            section.extend(low.iter().flat_map(|line| line.0).take(dim));
        }
    }
}

fn read_vector(storage: Storage, dim: usize, bytes: &mut Bytes<'_>) -> Result<Vector> {
    Ok(match storage {
        Storage::F32 => {
            let (chunks, _) = bytes.take(4 * dim)?.as_chunks();
            Vector::singles(&chunks.iter().copied().map(f32::from_le_bytes).collect::<Vec<_>>())
        }
        Storage::F16 => {
            let (chunks, _) = bytes.take(2 * dim)?.as_chunks();
            Vector::halves(&chunks.iter().copied().map(u16::from_le_bytes).collect::<Vec<_>>())
        }
        Storage::I8 => {
            let scale = f32::from_le_bytes(bytes.chunk()?);
            Vector::bytes(bytes.take(dim)?, bytes.take(dim)?, scale)
        }
    })
}
