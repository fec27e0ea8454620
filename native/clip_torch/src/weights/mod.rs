//! Weights out of a checkpoint's files, one tensor at a time.
//!
//! Files are read, not mapped: a mapped file that is cut short ends the process with a signal
//! where a read gives an error. Reading piece by piece keeps the peak of memory at the weights.

mod files;
mod names;
mod open_clip;
mod parts;
mod pickle;
mod pytorch;
mod safetensors;
mod spare;
mod zip;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clip::checkpoint::files::{LFS_POINTER_FOUND, open, starts_as_lfs_pointer};
use clip::checkpoint::layout::{Format, Layout};
use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::tensor::{bytes_of_mut, floats_mut};
pub(crate) use files::WeightsFiles;
pub(crate) use spare::Spare;

/// Largest tensor that [`read_weights`] reads, in elements.
const MAX_TRIED: i64 = 1 << 20;

/// Reads all small tensors of floats in a directory, whatever their names and shapes, and returns how
/// many tensors there are. For trying files: loading asks only for a model's tensors in its shapes.
#[doc(hidden)]
pub fn read_weights(directory: &Path) -> Result<usize> {
    let layout = Layout::Transformers("");
    let files = WeightsFiles::find(directory, layout)?;
    let files = files.ok_or_else(|| WeightsFiles::missing(directory, layout))?;
    let weights = Weights::open(&files, "")?;
    let small = |stored: &&Stored| {
        let elements = stored.shape.iter().try_fold(1i64, |all, side| all.checked_mul(*side));
        stored.kind.is_ok() && elements.is_some_and(|elements| elements <= MAX_TRIED)
    };
    let tried = weights.tensors.iter().filter(|(_, stored)| small(stored));
    let mut tried: Vec<_> =
        tried.map(|(name, stored)| (name.clone(), stored.shape.clone())).collect();
    tried.sort();
    for (name, shape) in &tried {
        weights.tensor(name, shape, &Spare::default()).map(drop)?;
    }
    Ok(weights.tensors.len())
}

/// Bytes that are read at a time.
const PIECE: usize = 8 * 1024 * 1024;
/// Numbers that are read and checked at a time.
const CHECKED: usize = 64 * 1024;

const NOT_FINITE: &str = "has values that are not finite";

/// The open weights of a checkpoint.
#[derive(Debug)]
pub(crate) struct Weights {
    files: Vec<OpenFile>,
    tensors: HashMap<String, Stored>,
    /// What names begin with in a checkpoint that was saved out of a larger model, which has this one
    /// in a field of that name. transformers takes it off where it is there.
    prefix: &'static str,
    /// What the user knows the weights by: the one file, or the index of several.
    path: PathBuf,
}

/// One of the files.
#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    file: File,
    written: Written,
}

/// The length of a file, and when it was written to last.
type Written = (u64, Option<SystemTime>);

fn written(file: &File) -> std::io::Result<Written> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified().ok()))
}

/// Where a tensor lies and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    /// Index of its file.
    file: usize,
    /// First byte.
    start: u64,
    /// Its type, or the name of one that weights do not have.
    kind: Result<Kind, String>,
    shape: Vec<i64>,
    /// Steps between elements, where it is not row after row.
    strides: Option<Vec<i64>>,
}

impl Weights {
    /// Opens the files and reads what they say of their tensors. No tensor is read yet.
    pub(crate) fn open(files: &WeightsFiles, prefix: &'static str) -> Result<Self> {
        let (path, tensors) = (files.path.clone(), HashMap::new());
        let mut weights = Self { files: Vec::new(), tensors, prefix, path };
        for path in &files.files {
            weights.add(path, files)?;
        }
        parts::split(&mut weights.tensors);
        if files.layout == Layout::OpenClip {
            weights.tensors = open_clip::renamed(weights.tensors);
        }
        Ok(weights)
    }

    fn add(&mut self, path: &Path, files: &WeightsFiles) -> Result<()> {
        let mut file = open(path).map_err(|e| unreadable(path, e))?;
        if starts_as_lfs_pointer(&mut file).map_err(|e| unreadable(path, e))? {
            return Err(Wrong::Content(LFS_POINTER_FOUND.to_owned()).of(path));
        }
        let number = self.files.len();
        let mut found = match files.format {
            Format::Safetensors => safetensors::tensors(&mut file, number),
            Format::PyTorch => pytorch::tensors(&mut file, number),
        }
        .map_err(|why| why.of(path))?;
        self.files.push(OpenFile::new(path, file)?);
        let Some(index) = &files.index else {
            self.tensors = found;
            return Ok(());
        };
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        for name in index.tensors_in(&file) {
            let stored = found.remove(name).ok_or_else(|| {
                let index = files.path.file_name().unwrap_or_default().display();
                let why = format!("it has no tensor {name:?}, which {index} says");
                Wrong::Content(why).of(path)
            })?;
            self.tensors.insert(name.to_owned(), stored);
        }
        Ok(())
    }

    /// The one file, or the index of several.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The shape of a tensor, as it is stored.
    pub(crate) fn shape(&self, name: &str) -> Option<&[i64]> {
        Some(&self.find(name)?.shape)
    }

    fn find(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name).or_else(|| self.tensors.get(&format!("{}{name}", self.prefix)))
    }

    /// Reads one tensor as f32 on the CPU.
    ///
    /// The shape must be the expected one and every value finite.
    pub(crate) fn tensor(&self, name: &str, shape: &[i64], spare: &Spare) -> Result<Tensor> {
        let stored = self.stored(name, shape)?;
        let mut flat = spare.take(stored.span())?;
        if stored.kind == Ok(Kind::Float) {
            // Most weights: straight to where they are wanted, as this is a third of a load's time.
            let file = &self.files[stored.file];
            if !file.read_f32(stored.start, floats_mut(&mut flat)?)? {
                return Err(self.wrong(name, stored, NOT_FINITE));
            }
        } else {
            let mut done = 0;
            self.each_piece(name, stored, |piece| {
                let length = piece.size()[0];
                flat.f_narrow(0, done, length)?.f_copy_(piece)?;
                done += length;
                Ok(())
            })?;
        }
        match &stored.strides {
            None => Ok(flat.f_view(shape)?),
            Some(strides) => Ok(flat.f_as_strided(shape, strides, 0)?.f_contiguous()?),
        }
    }

    /// Reads a tensor of one number, whether it was saved as one or as a list of one.
    pub(crate) fn number(&self, name: &str) -> Result<f64> {
        let is_list = self.find(name).is_some_and(|stored| stored.shape == [1]);
        let shape: &[i64] = if is_list { &[1] } else { &[] };
        let number = self.tensor(name, shape, &Spare::default())?;
        Ok(number.f_double_value(&vec![0; shape.len()])?)
    }

    /// Reads some rows of a matrix as f32, `[rows, width]`, for one that is not wanted in memory.
    ///
    /// # Errors
    /// Also if a file was written to since it was opened: the rest of the model is of what it was.
    pub(crate) fn rows(&self, name: &str, shape: [i64; 2], rows: &[i64]) -> Result<Tensor> {
        let stored = self.stored(name, &shape)?;
        let (kind, width) = (self.kind(name, stored)?, shape[1] as usize);
        let file = &self.files[stored.file];
        let size = kind.elt_size_in_bytes();
        let mut bytes = vec![0; rows.len() * width * size];
        // From a row to the next, and from a number to the next.
        let (step, between) = match stored.strides.as_deref() {
            Some([step, between]) => (*step, *between),
            _ => (shape[1], 1),
        };
        // A row is one stretch of the file, unless the matrix was saved transposed.
        let stretch = if between == 1 { width } else { 1 };
        let read = rows.iter().zip(bytes.chunks_mut(width * size)).try_for_each(|(row, bytes)| {
            (0..).zip(bytes.chunks_mut(stretch * size)).try_for_each(|(i, bytes)| {
                let number = row * step + i * between;
                file.read(stored.start + number as u64 * size as u64, bytes)
            })
        });
        // Afterwards, as a write may come between. It also explains why a read failed.
        file.check_unchanged()?;
        read?;
        let rows = crate::tensor::from_bytes(&bytes, &[rows.len() as i64, shape[1]], kind)?;
        let rows = rows.f_to_kind(Kind::Float)?;
        match rows.f_isfinite()?.f_all()?.f_int64_value(&[])? {
            0 => Err(self.wrong(name, stored, NOT_FINITE)),
            _ => Ok(rows),
        }
    }

    fn stored(&self, name: &str, shape: &[i64]) -> Result<&Stored> {
        let stored = self
            .find(name)
            .ok_or_else(|| Wrong::Content(format!("it has no tensor {name:?}")).of(&self.path))?;
        if stored.shape != shape {
            let found = &stored.shape;
            let why = format!("has shape {found:?}, config.json says {shape:?}");
            return Err(self.wrong(name, stored, &why));
        }
        Ok(stored)
    }

    fn kind(&self, name: &str, stored: &Stored) -> Result<Kind> {
        stored.kind.clone().map_err(|other| {
            let why = format!("is of type {other}, expected 16, 32 or 64 bit floating point");
            self.wrong(name, stored, &why)
        })
    }

    /// Reads a tensor's numbers in pieces, as flat tensors of f32.
    fn each_piece(
        &self,
        name: &str,
        stored: &Stored,
        write: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<()> {
        let (kind, file) = (self.kind(name, stored)?, &self.files[stored.file]);
        if file.each_piece(kind, stored.start, stored.span(), write)? {
            return Ok(());
        }
        Err(self.wrong(name, stored, NOT_FINITE))
    }

    fn wrong(&self, name: &str, stored: &Stored, why: &str) -> Error {
        Wrong::Content(format!("tensor {name:?} {why}")).of(&self.files[stored.file].path)
    }
}

impl OpenFile {
    fn new(path: &Path, file: File) -> Result<Self> {
        let written = written(&file).map_err(|e| unreadable(path, e))?;
        Ok(Self { path: path.to_owned(), file, written })
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, at).map_err(|e| unreadable(&self.path, e))
    }

    fn check_unchanged(&self) -> Result<()> {
        if written(&self.file).map_err(|e| unreadable(&self.path, e))? == self.written {
            return Ok(());
        }
        let why =
            "it was written to since the model was loaded; unload the model and load it again";
        Err(Wrong::Content(why.to_owned()).of(&self.path))
    }

    /// Reads numbers of 32 bits, and says whether all are finite.
    fn read_f32(&self, start: u64, floats: &mut [f32]) -> Result<bool> {
        let mut at = start;
        // In pieces, which are in the processor's cache when they are checked.
        for piece in floats.chunks_mut(CHECKED) {
            self.read(at, bytes_of_mut(piece))?;
            at += size_of_val(piece) as u64;
            // Without an early end, so that it takes many numbers at a time.
            if !piece.iter().fold(true, |finite, value| finite & value.is_finite()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads `elements` numbers, some at a time, and says whether all are finite.
    fn each_piece(
        &self,
        kind: Kind,
        start: u64,
        elements: usize,
        mut write: impl FnMut(&Tensor) -> Result<()>,
    ) -> Result<bool> {
        let size = kind.elt_size_in_bytes();
        let most = PIECE / size;
        let mut buffer = vec![0; most.min(elements) * size];
        let mut done = 0;
        while done < elements {
            let count = most.min(elements - done);
            let bytes = &mut buffer[..count * size];
            let at = start + (done * size) as u64;
            self.read(at, bytes)?;
            let piece = crate::tensor::from_bytes(bytes, &[count as i64], kind)?;
            // What is finite in 64 bits may not be in 32.
            let piece = piece.f_to_kind(Kind::Float)?;
            if piece.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
                return Ok(false);
            }
            write(&piece)?;
            done += count;
        }
        Ok(true)
    }
}

impl Stored {
    /// Elements from its first to its last one in the file. The readers have checked that they
    /// lie within the file, so none of this overflows.
    fn span(&self) -> usize {
        match &self.strides {
            None => self.shape.iter().product::<i64>() as usize,
            Some(_) if self.shape.contains(&0) => 0,
            Some(strides) => {
                let steps = self.shape.iter().zip(strides).map(|(side, step)| (side - 1) * step);
                steps.sum::<i64>() as usize + 1
            }
        }
    }
}

/// What a reader finds wrong with a file whose name it does not know.
#[derive(Debug)]
enum Wrong {
    /// Its content.
    Content(String),
    /// Reading it.
    Read(std::io::Error),
}

impl Wrong {
    fn of(self, path: &Path) -> Error {
        match self {
            Self::Read(error) => unreadable(path, error),
            Self::Content(why) => {
                let message = format!("{} cannot be used: {why}", path.display());
                Error::new(ErrorKind::InvalidWeights, message)
            }
        }
    }
}

impl From<std::io::Error> for Wrong {
    fn from(error: std::io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Content(why)
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot read {}: {error}", path.display())).with_source(error)
}
