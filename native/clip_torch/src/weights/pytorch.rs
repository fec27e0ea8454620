//! Tensors of a file that `torch.save` wrote.
//!
//! It is a zip archive: `NAME/data.pkl` is a pickle of a dictionary of tensors, which say in which
//! of `NAME/data/0`, `NAME/data/1`, … their numbers lie.

use std::collections::HashMap;
use std::fs::File;

use clip::checkpoint::layout::shown;
use tch::Kind;

use super::names::{Name, StorageType};
use super::pickle::{Id, Object, Pickle};
use super::zip::{self, Entry};
use super::{Stored, Wrong};

/// Largest pickle that is read. Real ones take some 60 KB.
const MAX_PICKLE: u64 = 10 * 1024 * 1024;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

const CONVERT: &str = "convert it with Python: `torch.save(torch.load(path, weights_only=True), \
                       path)`, or save the model as safetensors";

/// Reads what the pickle says of the tensors, and checks it against the archive.
pub(super) fn tensors(file: &mut File, number: usize) -> Result<HashMap<String, Stored>, Wrong> {
    check_magic(file)?;
    let archive = Archive::open(file)?;
    let pickle = zip::read(file, archive.pickle.start, archive.pickle.size as usize)?;
    let pickle = Pickle::read(&pickle)?;
    let Object::Dict(items) = pickle.get(pickle.root) else {
        return Err(Wrong::Content("its pickle is not a dictionary of tensors".to_owned()));
    };
    let mut tensors = HashMap::new();
    for (key, value) in items {
        // What else is in the dictionary is not asked for.
        if let (Object::Text(name), Object::Tensor(arguments)) =
            (pickle.get(*key), pickle.get(*value))
        {
            let stored = archive.tensor(&pickle, *arguments, number);
            tensors.insert(
                (*name).to_owned(),
                stored.map_err(|why| format!("tensor \"{}\" {why}", shown(name)))?,
            );
        }
    }
    Ok(tensors)
}

/// Says what a file is instead of a zip archive.
fn check_magic(file: &mut File) -> Result<(), Wrong> {
    let length = file.metadata()?.len();
    let head = zip::read(file, 0, length.min(512) as usize)?;
    if head.starts_with(b"PK\x03\x04") {
        return Ok(());
    }
    let what = if head.starts_with(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46") {
        "it was saved in the format that PyTorch had before 1.6"
    } else if head.get(257..262) == Some(b"ustar") {
        "it was saved in the tar format of the first PyTorch"
    } else if head.first() == Some(&0x80) {
        "it is a bare pickle, not a file of torch.save"
    } else {
        return Err(Wrong::Content("it is not a file of torch.save".to_owned()));
    };
    Err(Wrong::Content(format!("{what}; {CONVERT}")))
}

/// The parts of the archive.
struct Archive {
    pickle: Entry,
    /// `data/KEY` by its key.
    storages: HashMap<String, Entry>,
}

impl Archive {
    fn open(file: &mut File) -> Result<Self, Wrong> {
        let entries = zip::entries(file)?;
        let root = entries.iter().find_map(|entry| entry.name.strip_suffix("/data.pkl"));
        let root = root.ok_or("it has no data.pkl: it is not a file of torch.save".to_owned())?;
        let root = format!("{root}/");
        check_kind(&root, &entries)?;
        let (mut pickle, mut storages) = (None, HashMap::new());
        for entry in &entries {
            let name = entry.name.strip_prefix(&root).unwrap_or_default();
            match name.strip_prefix("data/") {
                Some(key) => {
                    storages.insert(key.to_owned(), entry.clone());
                }
                None if name == "data.pkl" => pickle = Some(entry.clone()),
                None if name == "byteorder" => check_byte_order(file, entry)?,
                None => {}
            }
        }
        match pickle {
            Some(pickle) if pickle.size <= MAX_PICKLE => Ok(Self { pickle, storages }),
            _ => Err(Wrong::Content(format!("its data.pkl has more than {MAX_PICKLE} bytes"))),
        }
    }

    /// A tensor from the arguments of `_rebuild_tensor_v2`.
    fn tensor(&self, pickle: &Pickle<'_>, arguments: Id, file: usize) -> Result<Stored, String> {
        let Object::Tuple(arguments) = pickle.get(arguments) else { return Err(garbled()) };
        let [storage, offset, shape, strides, ..] = arguments.as_slice() else {
            return Err(garbled());
        };
        let (storage_type, entry, count) = self.storage(pickle, *storage)?;
        let Object::Int(offset) = pickle.get(*offset) else { return Err(garbled()) };
        let (shape, strides) = (sizes(pickle, *shape)?, sizes(pickle, *strides)?);
        check_bounds(count, *offset, &shape, &strides)?;
        let (kind, size) = kind(storage_type);
        let strides = (strides != row_after_row(&shape)).then_some(strides);
        Ok(Stored { file, start: entry.start + *offset as u64 * size, kind, shape, strides })
    }

    /// A storage from the argument of `persistent_load`: its type, where it is, and how many
    /// numbers it has.
    fn storage(&self, pickle: &Pickle<'_>, id: Id) -> Result<(StorageType, &Entry, u64), String> {
        let Object::Storage(tuple) = pickle.get(id) else { return Err(garbled()) };
        let Object::Tuple(tuple) = pickle.get(*tuple) else { return Err(garbled()) };
        let parts: Vec<_> = tuple.iter().map(|part| pickle.get(*part)).collect();
        let [
            Object::Text("storage"),
            Object::Name(Name::Storage(storage_type)),
            Object::Text(key),
            Object::Text(_),
            Object::Int(count),
        ] = parts.as_slice()
        else {
            return Err(garbled());
        };
        let entry = self.storages.get(*key);
        let entry =
            entry.ok_or_else(|| format!("lies in data/{}, which is not there", shown(key)))?;
        let bytes = u64::try_from(*count).ok().and_then(|n| n.checked_mul(kind(*storage_type).1));
        if bytes != Some(entry.size) {
            let found = entry.size;
            let key = shown(key);
            return Err(format!("lies in data/{key}, {count} numbers that take {found} bytes"));
        }
        Ok((*storage_type, entry, *count as u64))
    }
}

/// A TorchScript program is an archive of nearly the same kind.
fn check_kind(root: &str, entries: &[Entry]) -> Result<(), String> {
    if entries.iter().any(|entry| entry.name == format!("{root}constants.pkl")) {
        return Err("it is a TorchScript program, which is never run; a checkpoint has a \
                    dictionary of tensors"
            .to_owned());
    }
    match entries.iter().find(|entry| !entry.is_stored) {
        None => Ok(()),
        Some(entry) => {
            Err(format!("its zip entry \"{}\" is compressed or encrypted", shown(&entry.name)))
        }
    }
}

fn check_byte_order(file: &mut File, entry: &Entry) -> Result<(), Wrong> {
    match zip::read(file, entry.start, entry.size.min(16) as usize)?.as_slice() {
        b"little" => Ok(()),
        other => {
            let other = String::from_utf8_lossy(other);
            Err(Wrong::Content(format!(
                "its byte order is {other:?}, expected \"little\"; {CONVERT}"
            )))
        }
    }
}

/// Type of the numbers as libtorch names it, and their size in bytes.
fn kind(storage: StorageType) -> (Result<Kind, String>, u64) {
    match storage {
        StorageType::Float => (Ok(Kind::Float), 4),
        StorageType::Half => (Ok(Kind::Half), 2),
        StorageType::BFloat16 => (Ok(Kind::BFloat16), 2),
        StorageType::Double => (Ok(Kind::Double), 8),
        StorageType::Other(name, size) => (Err(name.to_owned()), size),
    }
}

/// A tuple of numbers that are not negative.
fn sizes(pickle: &Pickle<'_>, id: Id) -> Result<Vec<i64>, String> {
    let Object::Tuple(items) = pickle.get(id) else { return Err(garbled()) };
    if items.len() > MAX_DIMENSIONS {
        return Err(format!("has {} dimensions, the limit is {MAX_DIMENSIONS}", items.len()));
    }
    let size = |item: &Id| match pickle.get(*item) {
        Object::Int(size) if *size >= 0 => Ok(*size),
        other => Err(format!("has {} among its sizes", shown(&format!("{other:?}")))),
    };
    items.iter().map(size).collect()
}

/// Steps between the elements of a tensor that lies row after row.
fn row_after_row(shape: &[i64]) -> Vec<i64> {
    let mut strides: Vec<i64> = shape
        .iter()
        .rev()
        .scan(1, |step: &mut i64, side| {
            let this = *step;
            *step = step.saturating_mul((*side).max(1));
            Some(this)
        })
        .collect();
    strides.reverse();
    strides
}

/// Every element must lie in its storage, and no number stand for two of them: a tensor that
/// repeats one number could claim any size.
fn check_bounds(count: u64, offset: i64, shape: &[i64], strides: &[i64]) -> Result<(), String> {
    let outside = || {
        format!("of shape {shape:?}, steps {strides:?} from {offset} leaves its {count} numbers")
    };
    let elements = shape.iter().try_fold(1i64, |n, side| n.checked_mul(*side));
    let last = shape.iter().zip(strides).try_fold(offset, |last, (side, step)| {
        last.checked_add((side - 1).max(0).checked_mul(*step)?)
    });
    let (elements, last) = elements.zip(last).ok_or_else(outside)?;
    let fits = |number: i64, limit: u64| u64::try_from(number).is_ok_and(|n| n < limit);
    let inside = elements == 0 || (fits(last, count) && fits(elements - 1, count));
    // An empty tensor too starts within its storage, or at its end.
    let starts = u64::try_from(offset).is_ok_and(|offset| offset <= count);
    if shape.len() != strides.len() || !starts || !inside {
        return Err(outside());
    }
    Ok(())
}

fn garbled() -> String {
    "is not described as torch.save does".to_owned()
}
