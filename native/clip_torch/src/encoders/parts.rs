//! The image tower a second time, as one that tells parts from parts: see [`VisionTower::parts`].
//!
//! Most models are never asked for it. So it is exported, and loaded, by the first call that needs it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use clip::checkpoint::family::ImagePooling;
use tch::{CModule, Device, Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::encoders::cache::{Checksums, Slot, unfinished};
use crate::encoders::export::{key, trace};
use crate::error::{Error, ErrorKind, Result};
use crate::towers::matmul::Matmul;
use crate::towers::vision::VisionTower;
use crate::weights::Weights;

const PARTS: &str = "parts.pt";

/// Where the encoder comes from, and the encoder itself once it was needed.
#[derive(Debug)]
pub(crate) struct PartsEncoder {
    source: Source,
    module: OnceLock<CModule>,
    /// Held by the one thread that loads it.
    loading: Mutex<()>,
}

#[derive(Debug)]
enum Source {
    Checkpoint {
        checkpoint: Box<Checkpoint>,
        cache: Option<PathBuf>,
        device: Device,
    },
    /// Nowhere: TorchScript of the user's gives embeddings, and nothing is known of what is inside.
    None,
}

impl PartsEncoder {
    pub(crate) fn of_checkpoint(
        checkpoint: &Checkpoint,
        cache: Option<&Path>,
        device: Device,
    ) -> Self {
        let (checkpoint, cache) = (Box::new(checkpoint.clone()), cache.map(Path::to_owned));
        Self::new(Source::Checkpoint { checkpoint, cache, device })
    }

    pub(crate) fn none() -> Self {
        Self::new(Source::None)
    }

    fn new(source: Source) -> Self {
        Self { source, module: OnceLock::new(), loading: Mutex::new(()) }
    }

    /// The encoder, after it was exported and loaded if this is the first call.
    pub(crate) fn module(&self) -> Result<&CModule> {
        if let Some(module) = self.module.get() {
            return Ok(module);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = self.module.get() {
            return Ok(module);
        }
        let module = self.load()?;
        Ok(self.module.get_or_init(|| module))
    }

    fn load(&self) -> Result<CModule> {
        let Source::Checkpoint { checkpoint, cache, device } = &self.source else {
            return Err(refused(
                "the encoders of this model were exported by its user, and only give embeddings; \
                 load the model without them",
            ));
        };
        if checkpoint.config.family.vision.pooling != ImagePooling::ClassToken {
            return Err(refused(format!(
                "{} models cannot be explained: the head behind their patches is not linear, so the \
                 parts of the patches would not sum to the score; use a CLIP model",
                checkpoint.config.family.model_type
            )));
        }
        let matmul = Matmul::fastest(*device);
        let Some(cache) = cache else { return make_unkept(checkpoint, matmul, *device) };
        match load_or_make(checkpoint, matmul, cache, *device) {
            // Perhaps the cache's fault. If it is not, it fails again.
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Torch) => {
                make_unkept(checkpoint, matmul, *device)
            }
            result => result,
        }
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::UnsupportedModel, message)
}

fn load_or_make(
    checkpoint: &Checkpoint,
    matmul: Matmul,
    cache: &Path,
    device: Device,
) -> Result<CModule> {
    let slot = Slot::new(&cache.join("encoders"), key(checkpoint, matmul)? + "-parts");
    match load_checked(&slot, device) {
        // Made anew, it would be as large.
        Err(error) if error.kind() != ErrorKind::OutOfMemory => {}
        loaded => return loaded,
    }
    let lock = slot.lock()?;
    // Another process may have made it while this one waited.
    if let Ok(module) = load_checked(&slot, device) {
        return Ok(module);
    }
    slot.fill(&lock, |folder| export(checkpoint, matmul, folder))?;
    load(slot.folder(), device)
}

/// Loads a file that is what was written, see `encoders/export.rs`.
fn load_checked(slot: &Slot, device: Device) -> Result<CModule> {
    Checksums::read(slot.folder())?.check(&slot.folder().join(PARTS))?;
    load(slot.folder(), device)
}

fn load(folder: &Path, device: Device) -> Result<CModule> {
    Ok(CModule::load_on_device(folder.join(PARTS), device)?)
}

fn make_unkept(checkpoint: &Checkpoint, matmul: Matmul, device: Device) -> Result<CModule> {
    let folder = unfinished(&std::env::temp_dir(), "clip-export")?;
    export(checkpoint, matmul, folder.path())?;
    load(folder.path(), device)
}

fn export(checkpoint: &Checkpoint, matmul: Matmul, folder: &Path) -> Result<()> {
    let config = &checkpoint.config;
    let weights = Weights::open(checkpoint.weights()?, config.family.prefix)?;
    let vision = VisionTower::load(&weights, config, &checkpoint.preprocessing, matmul)?;
    let side = config.vision.image_size;
    let pixels = Tensor::f_zeros([2, 3, side, side], (Kind::Uint8, Device::Cpu))?;
    trace("PartsEncoder", &[pixels], |x| vision.parts(&x[0]))?.save(folder.join(PARTS))?;
    matmul.apply(&folder.join(PARTS))
}
