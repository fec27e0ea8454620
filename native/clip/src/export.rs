//! The two towers as TorchScript files, made once and loaded ever after.
//!
//! The graph holds the weights as constants, fused and folded, so that loading is reading. What is
//! written here is read back here and nowhere else: TorchScript is a program, and one from another
//! place would run with the rights of this process.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tch::{CModule, Device, Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::encoder::Encoders;
use crate::error::{Error, ErrorKind, Result};
use crate::text::TextTower;
use crate::vision::VisionTower;
use crate::weights::Weights;

/// Raise it whenever the towers' code changes what is exported.
const FORMAT: u32 = 1;

/// Release of libtorch whose files these are.
const LIBTORCH: &str = "2.11.0";

const IMAGE: &str = "image.pt";
const TEXT: &str = "text.pt";

/// Loads the encoders from the cache, exporting them first where they are missing or damaged.
///
/// Returns their folder, or the reason why they could not be kept.
pub(crate) fn encoders(
    checkpoint: &Checkpoint,
    cache: &Path,
    device: Device,
) -> Result<(Encoders, Result<PathBuf, String>)> {
    let kept = cache.join("encoders").join(key(checkpoint)?);
    if let Ok(encoders) = load(&kept, device) {
        return Ok((encoders, Ok(kept)));
    }
    let fresh = Unfinished::create(cache).or_else(|error| {
        Unfinished::create(&std::env::temp_dir()).map(|mut folder| {
            folder.why_not_kept = Some(error.to_string());
            folder
        })
    })?;
    export(checkpoint, &fresh.path)?;
    match fresh.why_not_kept.clone() {
        // The folder goes with `fresh`, when its files have been read.
        Some(why) => Ok((load(&fresh.path, device)?, Err(why))),
        None => {
            fresh.keep_as(&kept)?;
            Ok((load(&kept, device)?, Ok(kept)))
        }
    }
}

fn load(folder: &Path, device: Device) -> Result<Encoders> {
    Ok(Encoders {
        image: CModule::load_on_device(folder.join(IMAGE), device)?,
        text: CModule::load_on_device(folder.join(TEXT), device)?,
        device,
    })
}

/// Writes both encoders into a folder, one tower after the other to halve the peak of memory.
fn export(checkpoint: &Checkpoint, folder: &Path) -> Result<()> {
    let mut weights = Weights::open(&checkpoint.weights())?;
    let config = &checkpoint.config;
    let on_cpu = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, Device::Cpu));

    let vision = VisionTower::load(&mut weights, config, &checkpoint.preprocessing)?;
    let side = config.vision.image_size;
    let pixels = on_cpu(&[2, 3, side, side], Kind::Uint8)?;
    trace("ImageEncoder", pixels, |x| vision.forward(x))?.save(folder.join(IMAGE))?;
    drop(vision);

    let text = TextTower::load(&mut weights, config)?;
    let ids = on_cpu(&[2, config.text.max_positions.min(5)], Kind::Int64)?;
    trace("TextEncoder", ids, |x| text.forward(x))?.save(folder.join(TEXT))?;
    Ok(())
}

/// Records what `forward` does to `example` as a module with a method of that name.
fn trace(
    name: &str,
    example: Tensor,
    forward: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<CModule> {
    let mut failure = None;
    let module = CModule::create_by_tracing(name, "forward", &[example], &mut |inputs| {
        // tch's closure cannot fail; tracing must reach its end or it stays on for this thread.
        let output = forward(&inputs[0]).unwrap_or_else(|error| {
            failure = Some(error);
            inputs[0].shallow_clone()
        });
        vec![output]
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(module?),
    }
}

/// Name of a checkpoint's folder in the cache: other files or another exporter, another name.
fn key(checkpoint: &Checkpoint) -> Result<String> {
    let weights = checkpoint.weights();
    let unreadable = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Error::new(kind, format!("cannot read {}: {e}", weights.display())).with_source(e)
    };
    let path = fs::canonicalize(&weights).map_err(unreadable)?;
    let metadata = fs::metadata(&path).map_err(unreadable)?;
    // Not the content: reading 600 MB would take longer than the whole start.
    let mut hasher = DefaultHasher::new();
    (FORMAT, &path, metadata.len(), metadata.modified().ok()).hash(&mut hasher);
    format!("{:?} {:?}", checkpoint.config, checkpoint.preprocessing).hash(&mut hasher);
    Ok(format!("{:016x}-f32-libtorch-{LIBTORCH}", hasher.finish()))
}

/// A folder that goes away again unless it is kept: an export is whole or absent.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    why_not_kept: Option<String>,
}

impl Unfinished {
    fn create(parent: &Path) -> Result<Self> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = parent.join(format!("export-{}-{nanos}.part", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| unwritable(&path, e))?;
        Ok(Self { path, why_not_kept: None })
    }

    fn keep_as(&self, kept: &Path) -> Result<()> {
        let parent = kept.parent().unwrap_or(kept);
        fs::create_dir_all(parent).map_err(|e| unwritable(parent, e))?;
        // What stands there did not load: it is damaged, or another process is just writing it,
        // whose files are as good as these.
        let _ = fs::remove_dir_all(kept);
        match fs::rename(&self.path, kept) {
            Err(_) if kept.join(TEXT).exists() => Ok(()),
            renamed => renamed.map_err(|e| unwritable(kept, e)),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot write {}: {error}", path.display()))
        .with_source(error)
}
