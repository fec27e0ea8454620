//! The two towers as TorchScript files, made once and loaded ever after.
//!
//! The graph holds the weights as constants, fused and folded, so that loading is reading. What is
//! written here is read back here and nowhere else: TorchScript is a program, and one from another
//! place would run with the rights of this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use clip::checkpoint::config::Config;
use clip::checkpoint::family::{TextAttention, TokenTable};
use clip::error::Remedy;
use tch::{CModule, Device, Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::encoders::cache::{Checksums, Slot, unfinished};
use crate::encoders::encoder::{Contract, Encoders};
use crate::encoders::parts::PartsEncoder;
use crate::encoders::table::{self, Table};
use crate::encoders::{dense, trie};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::threads::STACK;
use crate::towers::matmul::Matmul;
use crate::towers::text::TextTower;
use crate::towers::vision::VisionTower;
use crate::weights::Weights;

/// Raise it whenever the towers' code changes what is exported.
const FORMAT: u32 = 4;

/// Release of libtorch whose files these are.
const LIBTORCH: &str = "2.11.0";

const PRECISION: &str = "f32";

/// Sizes of products that come upon all kinds of kernels, from a label to some pictures.
const WARM_UP_WIDTH: i64 = 512;
const WARM_UP_ROWS: [i64; 4] = [1, 7, 50, 400];

pub(crate) const IMAGE: &str = "image.pt";
pub(crate) const TEXT: &str = "text.pt";

/// Loads the encoders from the cache, exporting them first where they are missing or damaged.
///
/// Returns their folder, or the reason why they could not be kept.
pub(crate) fn encoders(
    checkpoint: &Checkpoint,
    cache: Option<&Path>,
    device: Device,
) -> Result<(Encoders, Result<PathBuf>)> {
    let matmul = Matmul::fastest(device);
    let Some(cache) = cache else {
        return Ok((make_unkept(checkpoint, matmul, device)?, Err(no_cache())));
    };
    let slot = slot(checkpoint, cache, matmul)?;
    // Those of another maker's processor, in a container's image say, do on this one too.
    if device == Device::Cpu && !slot.folder().exists() {
        let other = self::slot(checkpoint, cache, matmul.other())?;
        if let Ok(encoders) = load_checked(&other, &checkpoint.config, device) {
            return Ok((encoders, Ok(other.folder().to_owned())));
        }
    }
    match load_or_make(checkpoint, matmul, &slot, device) {
        Ok(encoders) => Ok((encoders, Ok(slot.folder().to_owned()))),
        // If it is the cache's fault, and not the checkpoint's, it works without one.
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::Torch) => {
            Ok((make_unkept(checkpoint, matmul, device)?, Err(error)))
        }
        Err(error) => Err(error),
    }
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

fn open_table(config: &Config, folder: &Path) -> Result<Option<Table>> {
    match config.text.family.table {
        TokenTable::InEncoder => Ok(None),
        TokenTable::OnDisk => Table::open(folder, &config.text).map(Some),
    }
}

/// Encoders whose files are gone when they are loaded.
fn make_unkept(checkpoint: &Checkpoint, matmul: Matmul, device: Device) -> Result<Encoders> {
    let folder = unfinished(&std::env::temp_dir(), "clip-export")?;
    export(checkpoint, matmul, folder.path())?;
    load(folder.path(), &checkpoint.config, device)
}

fn slot(checkpoint: &Checkpoint, cache: &Path, matmul: Matmul) -> Result<Slot> {
    Ok(Slot::new(&cache.join("encoders"), key(checkpoint, matmul)?))
}

fn load_or_make(
    checkpoint: &Checkpoint,
    matmul: Matmul,
    slot: &Slot,
    device: Device,
) -> Result<Encoders> {
    match load_checked(slot, &checkpoint.config, device) {
        // Made anew, they would be as large.
        Err(error) if error.kind() != ErrorKind::OutOfMemory => {}
        loaded => return loaded,
    }
    let lock = slot.lock()?;
    // Another process may have made them while this one waited.
    if let Ok(encoders) = load_checked(slot, &checkpoint.config, device) {
        return Ok(encoders);
    }
    slot.fill(&lock, |folder| export(checkpoint, matmul, folder))?;
    load(slot.folder(), &checkpoint.config, device)
}

/// Loads files that are what was written. Nothing else reaches libtorch, which trusts them.
fn load_checked(slot: &Slot, config: &Config, device: Device) -> Result<Encoders> {
    let checksums = Checksums::read(slot.folder())?;
    let load = |name| {
        let path = slot.folder().join(name);
        checksums.check(&path)?;
        Ok(CModule::load_on_device(path, device)?)
    };
    // Side by side: most of the time goes into copying and into memory's first touch.
    std::thread::scope(|scope| {
        let text = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || load(TEXT))
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot start a thread: {e}")))?;
        let image = load(IMAGE);
        let panicked = || Err(Error::new(ErrorKind::Internal, "loading an encoder panicked"));
        let text = text.join().unwrap_or_else(|_| panicked());
        let (image, text) = (image?, text?);
        Ok(Encoders {
            image,
            text,
            table: open_table(config, slot.folder())?,
            parts: PartsEncoder::none(),
            device,
            contract: contract(config),
            bytes: bytes(slot.folder())?,
        })
    })
}

fn load(folder: &Path, config: &Config, device: Device) -> Result<Encoders> {
    Ok(Encoders {
        image: CModule::load_on_device(folder.join(IMAGE), device)?,
        text: CModule::load_on_device(folder.join(TEXT), device)?,
        table: open_table(config, folder)?,
        parts: PartsEncoder::none(),
        device,
        contract: contract(config),
        bytes: bytes(folder)?,
    })
}

/// Length of both files.
pub(crate) fn bytes(folder: &Path) -> Result<u64> {
    let length = |name| {
        let path = folder.join(name);
        fs::metadata(&path).map(|metadata| metadata.len()).map_err(|e| unreadable(&path, e))
    };
    Ok(length(IMAGE)? + length(TEXT)?)
}

/// Writes both encoders into a folder, one tower after the other to halve the peak of memory.
fn export(checkpoint: &Checkpoint, matmul: Matmul, folder: &Path) -> Result<()> {
    let config = &checkpoint.config;
    let weights = Weights::open(checkpoint.weights()?, config.family.prefix)?;

    let vision = VisionTower::load(&weights, config, &checkpoint.preprocessing, matmul)?;
    let side = config.vision.image_size;
    let pixels = Tensor::f_zeros([2, 3, side, side], (Kind::Uint8, Device::Cpu))?;
    trace("ImageEncoder", &[pixels], |x| vision.forward(&x[0]))?.save(folder.join(IMAGE))?;
    drop(vision);
    matmul.apply(&folder.join(IMAGE))?;
    crate::runtime::exit::prepare();

    let text = TextTower::load(&weights, config, matmul)?;
    trace("TextEncoder", &example(config)?, |x| text.forward(x))?.save(folder.join(TEXT))?;
    drop(text);
    matmul.apply(&folder.join(TEXT))?;
    match config.text.family.table {
        TokenTable::InEncoder => Ok(()),
        TokenTable::OnDisk => table::write(&weights, &config.text, folder),
    }
}

/// Inputs of the text encoder to trace it with.
fn example(config: &Config) -> Result<Vec<Tensor>> {
    let on_cpu = |shape: &[i64], kind| Tensor::f_zeros(shape, (kind, Device::Cpu));
    let (text, integers) = (&config.text, Kind::Int64);
    let mut inputs = match text.family.attention {
        TextAttention::Full => vec![on_cpu(&[2, text.max_positions], integers)?],
        TextAttention::Causal => {
            let ids = on_cpu(&[2, text.max_positions.min(5)], integers)?;
            let ends = ids.f_ones_like()?.f_cumsum(1, integers)?;
            vec![ids, ends, on_cpu(&[2, 3], integers)?]
        }
    };
    if text.family.table == TokenTable::OnDisk {
        inputs.push(on_cpu(&[3, text.transformer.width], Kind::Float)?);
    }
    Ok(inputs)
}

/// Makes, writes, reads and runs a module of next to nothing, so that what libtorch sets up for
/// that is set up before [`prepare`](crate::runtime::exit::prepare) is called: with a model it takes longer.
///
/// Nothing depends on it but how a process ends that ends while it loads or runs its first model.
pub(crate) fn warm_up() -> Result<()> {
    let folder = unfinished(&std::env::temp_dir(), "clip-warm-up")?;
    let path = folder.path().join(IMAGE);
    let ones = |shape: &[i64]| Tensor::f_ones(shape, (Kind::Float, Device::Cpu));
    let (weight, bias) = (ones(&[WARM_UP_WIDTH; 2])?, ones(&[WARM_UP_WIDTH])?);
    let module = trace("WarmUp", &[ones(&[2, WARM_UP_WIDTH])?], |x| {
        Ok(x[0].f_linear(&weight, Some(&bias))?.f_linear(&weight, None::<&Tensor>)?)
    })?;
    crate::runtime::exit::prepare();
    module.save(&path)?;
    crate::runtime::exit::prepare();
    Matmul::fastest(Device::Cpu).apply(&path)?;
    let module = CModule::load_on_device(&path, Device::Cpu)?;
    crate::runtime::exit::prepare();
    for rows in WARM_UP_ROWS {
        let _ = module.forward_ts(&[ones(&[rows, WARM_UP_WIDTH])?])?;
        crate::runtime::exit::prepare();
    }
    Ok(())
}

/// Records what `forward` does to `examples` as a module with a method of that name.
pub(super) fn trace(
    name: &str,
    examples: &[Tensor],
    forward: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<CModule> {
    let mut failure = None;
    let module = CModule::create_by_tracing(name, "forward", examples, &mut |inputs| {
        // tch's closure cannot fail; tracing must reach its end or it stays on for this thread.
        let output = forward(inputs).unwrap_or_else(|error| {
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
///
/// A commit of a repository says what its files are. Of other files it is their path, length and
/// time: to read 600 MB of them would take as long as the start itself.
pub(super) fn key(checkpoint: &Checkpoint, matmul: Matmul) -> Result<String> {
    let weights = checkpoint.weights()?;
    let (config, preprocessing) = (&checkpoint.config, &checkpoint.preprocessing);
    let mut facts = format!("{FORMAT} {config:?} {preprocessing:?}");
    for path in &weights.files {
        let (real, length, nanoseconds) = facts_of(path)?;
        facts += &match checkpoint.commit() {
            Some(_) => format!("\n{:?} {length}", path.file_name()),
            None => format!("\n{real:?} {length} {nanoseconds}"),
        };
    }
    let source = checkpoint.commit().unwrap_or("local");
    let (hash, matmul) = (fnv1a(facts.as_bytes()), matmul.name());
    Ok(format!("{source}-{hash:016x}-{PRECISION}-{matmul}-libtorch-{LIBTORCH}"))
}

/// Where a file really is, its length, and when it was written.
fn facts_of(path: &Path) -> Result<(PathBuf, u64, u128)> {
    let real = fs::canonicalize(path).map_err(|e| unreadable(path, e))?;
    let metadata = fs::metadata(&real).map_err(|e| unreadable(path, e))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok((real, metadata.len(), modified.unwrap_or_default().as_nanos()))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot read {}: {error}", path.display())).with_source(error)
}

/// A hash that is the same in every build, unlike the standard library's: a cache outlives them.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::runtime::workers::Workers;

    fn embedded() -> Checkpoint {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../priv/models/emoji-clip");
        Checkpoint::open(&directory).unwrap()
    }

    /// What a way to multiply makes of pictures of noise and of prompts, by the embedded model.
    fn embeddings(matmul: Matmul) -> [Vec<f32>; 2] {
        let checkpoint = embedded();
        let folder = unfinished(&std::env::temp_dir(), "clip-matmul").unwrap();
        export(&checkpoint, matmul, folder.path()).unwrap();
        let encoders = load(folder.path(), &checkpoint.config, Device::Cpu).unwrap();
        let side = checkpoint.config.vision.image_size;
        let pixels = (0..3 * 3 * side * side).map(|i| (i * i % 251) as u8).collect::<Vec<_>>();
        let pictures: Vec<&[u8]> = pixels.chunks((3 * side * side) as usize).collect();
        let rows = [vec![1, 5, 9, 2], vec![1, 2], vec![1, 5, 7, 7, 2]];
        let workers = Workers::new(1);
        let texts = encoders.texts(&workers, &rows).unwrap();
        [encoders.images(&workers, &pictures, side).unwrap(), texts]
    }

    #[test]
    fn exported_code_names_no_device() {
        let folder = unfinished(&std::env::temp_dir(), "clip-export").unwrap();
        export(&embedded(), Matmul::Linear, folder.path()).unwrap();
        for name in [IMAGE, TEXT] {
            let code = crate::towers::matmul::code(&folder.path().join(name));
            assert!(code.contains("scaled_dot_product_attention"));
            assert!(!code.contains("device"), "{code}");
        }
    }

    #[test]
    #[cfg_attr(target_os = "macos", ignore = "libtorch has no oneDNN there")]
    fn encoders_of_another_processor_are_not_made_anew() {
        let checkpoint = embedded();
        let cache = unfinished(&std::env::temp_dir(), "clip-matmul").unwrap();
        let matmul = Matmul::fastest(Device::Cpu);
        let [own, other] =
            [matmul, matmul.other()].map(|way| slot(&checkpoint, cache.path(), way).unwrap());
        let lock = other.lock().unwrap();
        other.fill(&lock, |folder| export(&checkpoint, matmul.other(), folder)).unwrap();
        let (_, folder) = encoders(&checkpoint, Some(cache.path()), Device::Cpu).unwrap();
        assert_eq!(folder.unwrap(), other.folder());
        assert!(!own.folder().exists());

        // Damaged ones are no reason to fail.
        fs::write(other.folder().join(IMAGE), "damaged").unwrap();
        let (_, folder) = encoders(&checkpoint, Some(cache.path()), Device::Cpu).unwrap();
        assert_eq!(folder.unwrap(), own.folder());
    }

    #[test]
    #[cfg_attr(target_os = "macos", ignore = "libtorch has no oneDNN there")]
    fn both_ways_to_multiply_give_the_same() {
        let [linear, onednn] = [Matmul::Linear, Matmul::OneDnn].map(embeddings);
        for (linear, onednn) in linear.iter().zip(&onednn) {
            assert_eq!(linear.len(), onednn.len());
            assert!(linear.iter().zip(onednn).all(|(a, b)| (a - b).abs() <= 1e-6));
            assert!(linear.iter().any(|value| *value != 0.0));
        }
    }
}
