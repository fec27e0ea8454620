//! The two towers as TorchScript files, made once and loaded ever after.
//!
//! A file holds what is computed and no weights: they are arguments, see `towers/loader.rs`. So one
//! file serves every device and precision. What is written here is read back here and nowhere else:
//! TorchScript is a program, and one from another place would run with the rights of this process.

use std::path::{Path, PathBuf};

use clip::checkpoint::config::Config;
use clip::checkpoint::family::{ImagePooling, TextAttention};
use clip::error::Remedy;
use tch::{CModule, Device, Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::encoders::cache::{Checksums, Slot, unfinished};
use crate::encoders::encoder::{Contract, Encoder, Encoders, Parameters};
use crate::encoders::key::key;
use crate::encoders::parts::Parts;
use crate::encoders::table::Table;
use crate::encoders::{dense, trie};
use crate::error::{Error, ErrorKind, Result};
use crate::towers::loader::Loader;
use crate::towers::matmul::Storage;
use crate::towers::text::TextTower;
use crate::towers::vision::VisionTower;
use crate::weights::Weights;

pub(crate) const IMAGE: &str = "image.pt";
pub(crate) const TEXT: &str = "text.pt";
const PARTS: &str = "parts.pt";

/// Loads the weights, and the encoders from the cache, exporting them first where they are missing or
/// damaged.
///
/// Returns their folder, or the reason why they could not be kept.
pub(crate) fn encoders(
    checkpoint: &Checkpoint,
    cache: Option<&Path>,
    storage: Storage,
    threads: usize,
) -> Result<(Encoders, Result<PathBuf>)> {
    let towers = Towers::load(checkpoint, storage, threads)?;
    let kept = match cache {
        None => Err(no_cache()),
        Some(cache) => {
            let slot = Slot::new(&cache.join("encoders"), key(checkpoint)?);
            load_or_make(checkpoint, &towers, &slot)
                .map(|modules| (modules, slot.folder().to_owned()))
        }
    };
    let (modules, folder) = match kept {
        Ok((modules, folder)) => (modules, Ok(folder)),
        // If it is the cache's fault, and not the checkpoint's, it works without one.
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Torch) => {
            (make_unkept(checkpoint, &towers)?, Err(error))
        }
        Err(error) => return Err(error),
    };
    Ok((towers.encoders(&checkpoint.config, modules)?, folder))
}

/// What stands in [`Info::encoders`](crate::Info) where there is no cache.
fn no_cache() -> Error {
    let message = "there is no directory to keep them in;";
    Error::new(ErrorKind::Io, message).with_remedy(Remedy::NameEncoderCache)
}

/// Our towers take tries, or rows of one length, and give unit embeddings as they are.
fn contract(config: &Config) -> Contract {
    let finish = |output: Tensor, _: i64, _: i64| Ok(output);
    let passes = match config.text.family.attention {
        TextAttention::Causal => trie::passes,
        TextAttention::Full => dense::passes,
    };
    Contract { passes, finish, dim: config.projection_dim }
}

/// Both towers with their tensors.
struct Towers {
    vision: (VisionTower, Parameters),
    text: (TextTower, Parameters),
    table: Table,
    storage: Storage,
}

impl Towers {
    fn load(checkpoint: &Checkpoint, storage: Storage, threads: usize) -> Result<Self> {
        let config = &checkpoint.config;
        let weights = Weights::open(checkpoint.weights()?, config.family.prefix)?;
        let loader = Loader::new(&weights, storage, threads)?;
        let vision = VisionTower::load(&loader, config, &checkpoint.preprocessing)?;
        let vision = (vision, Parameters::new(loader.into_parameters()));
        let loader = Loader::new(&weights, storage, threads)?;
        let text = TextTower::load(&loader, config)?;
        let text = (text, Parameters::new(loader.into_parameters()));
        let table = Table::new(weights, &config.text)?;
        Ok(Self { vision, text, table, storage })
    }

    fn encoders(self, config: &Config, modules: Modules) -> Result<Encoders> {
        let (image, text) = (self.vision.1, self.text.1);
        Ok(Encoders {
            bytes: image.bytes()? + text.bytes()?,
            image: Encoder { module: modules.image, parameters: image },
            text: Encoder { module: modules.text, parameters: text },
            table: Some(self.table),
            parts: modules.parts,
            device: self.storage.device,
            side: config.vision.image_size,
            contract: contract(config),
        })
    }
}

/// Whether the image tower's embedding is a sum over the picture's patches.
fn has_parts(config: &Config) -> bool {
    config.family.vision.pooling == ImagePooling::ClassToken
}

/// What the files of a folder become.
struct Modules {
    image: CModule,
    text: CModule,
    parts: Parts,
}

impl Modules {
    fn load(folder: &Path, config: &Config) -> Result<Self> {
        // They hold no tensors, so that the device is that of the arguments.
        let load = |name| CModule::load_on_device(folder.join(name), Device::Cpu);
        let parts = match has_parts(config) {
            true => Parts::Module(load(PARTS)?),
            false => Parts::without_class_token(config),
        };
        Ok(Self { image: load(IMAGE)?, text: load(TEXT)?, parts })
    }

    /// Loads files that are what was written. Nothing else reaches libtorch, which trusts them.
    fn load_checked(slot: &Slot, config: &Config) -> Result<Self> {
        let checksums = Checksums::read(slot.folder())?;
        let parts = has_parts(config).then_some(PARTS);
        for name in [IMAGE, TEXT].into_iter().chain(parts) {
            checksums.check(&slot.folder().join(name))?;
        }
        Self::load(slot.folder(), config)
    }
}

/// Modules whose files are gone when they are loaded.
fn make_unkept(checkpoint: &Checkpoint, towers: &Towers) -> Result<Modules> {
    let folder = unfinished(&std::env::temp_dir(), "clip-export")?;
    export(checkpoint, towers, folder.path())?;
    Modules::load(folder.path(), &checkpoint.config)
}

fn load_or_make(checkpoint: &Checkpoint, towers: &Towers, slot: &Slot) -> Result<Modules> {
    let config = &checkpoint.config;
    if let Ok(modules) = Modules::load_checked(slot, config) {
        return Ok(modules);
    }
    let lock = slot.lock()?;
    // Another process may have made them while this one waited.
    if let Ok(modules) = Modules::load_checked(slot, config) {
        return Ok(modules);
    }
    slot.fill(&lock, |folder| export(checkpoint, towers, folder))?;
    Modules::load(slot.folder(), config)
}

/// Writes the encoders into a folder.
///
/// It is the first run of the towers.
fn export(checkpoint: &Checkpoint, towers: &Towers, folder: &Path) -> Result<()> {
    crate::runtime::exit::prepare_during(|| trace_towers(checkpoint, towers, folder))
}

fn trace_towers(checkpoint: &Checkpoint, towers: &Towers, folder: &Path) -> Result<()> {
    let (config, device) = (&checkpoint.config, towers.storage.device);
    let (vision, parameters) = &towers.vision;
    let side = config.vision.image_size;
    let pixels = [Tensor::f_zeros([2, 3, side, side], (Kind::Uint8, device))?];
    trace("ImageEncoder", &pixels, parameters, |x| vision.forward(&x[0]))?
        .save(folder.join(IMAGE))?;
    if has_parts(config) {
        trace("PartsEncoder", &pixels, parameters, |x| vision.parts(&x[0]))?
            .save(folder.join(PARTS))?;
    }

    let (text, parameters) = &towers.text;
    trace("TextEncoder", &example(config, device)?, parameters, |x| text.forward(x))?
        .save(folder.join(TEXT))?;
    Ok(())
}

/// Inputs of the text encoder to trace it with.
fn example(config: &Config, device: Device) -> Result<Vec<Tensor>> {
    let zeros = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, device));
    let (text, integers) = (&config.text, Kind::Int64);
    let mut inputs = match text.family.attention {
        TextAttention::Full => vec![zeros(&[2, text.max_positions], integers)?],
        TextAttention::Causal => {
            let ids = zeros(&[2, text.max_positions.min(5)], integers)?;
            let ends = ids.f_ones_like()?.f_cumsum(1, integers)?;
            vec![ids, ends, zeros(&[2, 3], integers)?]
        }
    };
    inputs.push(zeros(&[3, text.transformer.width], Kind::Float)?);
    Ok(inputs)
}

/// Records what `forward` does to `examples` as a module with a method of that name, which takes the
/// parameters after them.
///
/// libtorch recognises the parameters that `forward` uses, and makes them arguments. Any other tensor would
/// become a constant of the module, on the device that it was made on.
pub(super) fn trace(
    name: &str,
    examples: &[Tensor],
    parameters: &Parameters,
    forward: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<CModule> {
    let mut failure = None;
    let all: Vec<Tensor> =
        examples.iter().chain(parameters.tensors()).map(Tensor::shallow_clone).collect();
    let module = CModule::create_by_tracing(name, "forward", &all, &mut |inputs| {
        // tch's closure cannot fail; tracing must reach its end or it stays on for this thread.
        let output = forward(&inputs[..examples.len()]).unwrap_or_else(|error| {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::io::Read;

    use tempfile::TempDir;

    use super::*;
    use crate::encoders::key::{FORMAT, fnv1a};
    use crate::runtime::precision::{Precision, PrecisionRequest, choose};

    fn embedded() -> Checkpoint {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../priv/models/emoji-clip");
        Checkpoint::open(&directory).unwrap()
    }

    fn towers(precision: Precision) -> Towers {
        Towers::load(&embedded(), Storage { device: Device::Cpu, precision, fine: false }, 2)
            .unwrap()
    }

    fn exported(precision: Precision) -> (TempDir, [String; 3]) {
        let folder = unfinished(&std::env::temp_dir(), "clip-export").unwrap();
        export(&embedded(), &towers(precision), folder.path()).unwrap();
        let code = [IMAGE, TEXT, PARTS].map(|name| code(&folder.path().join(name)));
        (folder, code)
    }

    /// The code in an archive of TorchScript.
    fn code(path: &Path) -> String {
        let mut archive = zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
        let is_code = |name: &&str| name.ends_with("code/__torch__.py");
        let name = archive.file_names().find(is_code).unwrap().to_owned();
        let mut code = String::new();
        archive.by_name(&name).unwrap().read_to_string(&mut code).unwrap();
        code
    }

    #[test]
    fn exported_code_names_no_device_and_holds_no_weights() {
        let (folder, code) = exported(Precision::F32);
        for code in code {
            assert!(code.contains("scaled_dot_product_attention"));
            assert!(code.contains("image_zero_shot.linear_2"));
            assert!(!code.contains("device"), "{code}");
            assert!(!code.contains("CONSTANTS"), "{code}");
        }
        assert!(fs::metadata(folder.path().join(IMAGE)).unwrap().len() < 100_000);
    }

    /// If the exported code changes and `FORMAT` does not, an old cache is taken for a new one. This sees
    /// the towers of the embedded model.
    #[test]
    fn other_code_has_another_format() {
        let (_, code) = exported(Precision::F32);
        let hash = fnv1a(code.concat().as_bytes());
        assert_eq!(
            (FORMAT, hash),
            (6, 0xf0d6_b7b5_8940_0b20),
            "raise FORMAT, and put both numbers here: {hash:#x}"
        );
    }

    #[test]
    fn one_export_serves_every_precision() {
        let (_, expected) = exported(Precision::F32);
        for request in [Precision::Bf16, Precision::Int8] {
            if choose(PrecisionRequest::Exactly(request), Device::Cpu, true).is_ok() {
                assert_eq!(exported(request).1, expected, "{request:?}");
            }
        }
    }
}
