//! Checks and measures a model on a device.
//!
//! ```text
//! cargo run --release -p clip_torch --example device_check -- priv/models/emoji-clip cuda
//! ```
//!
//! compares the embeddings with those of the CPU in f32, in every precision of the device, and prints
//! pictures per second. `bin/check-gpu` calls the other tasks, a third argument:
//!
//! - `serve PRECISION` reads `images COUNT`, `texts FILE` (a prompt a line) and `files DIRECTORY COUNT`
//!   from stdin and answers each with the milliseconds that such a batch takes; `files` decodes and
//!   prepares pictures on all cores while others are encoded;
//! - `memory` fills the GPU's memory and checks that a large batch fails, and only that;
//! - `exit MILLISECONDS` ends the process with status 7 while batches are running.
//!
//! Pictures are noise: this compares arithmetic, not understanding. Times are of
//! `Model::encode_images`, u8 pixels in and embeddings out, copies included.

use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::thread::{available_parallelism, scope, sleep, spawn};
use std::time::{Duration, Instant};

use clip::Budget;
use clip::image::{DecodeOptions, decode};
use clip_torch::{
    DeviceRequest, Error, ErrorKind, LoadOptions, Model, Preprocessing, Result, score,
};
use tch::{Device, Kind, Tensor};

const USAGE: &str = "usage: device_check MODEL_DIRECTORY auto|cpu|cuda|cuda:1|mps [serve PRECISION|memory|exit MILLISECONDS]";
const BATCHES: [usize; 4] = [1, 8, 64, 256];
const LARGE_BATCH: usize = 256;
/// Of pictures out of files.
const FILE_BATCH: usize = 128;
/// Pictures that are compared, and how often the device has each: in several passes.
const DIFFERENT: usize = 5;
const REPEATS: usize = 60;
/// Of embeddings that are to be the same, and of those in 16 and 8 bits to those in f32.
const LEAST_COSINE: f64 = 0.999_99;
const LEAST_COSINE_16: f64 = 0.999_5;
const LEAST_COSINE_8: f64 = 0.99;
/// How long a batch size is run, at least.
const MEASURED: Duration = Duration::from_secs(1);
/// The status of a process that ends while batches are running.
const EXIT_STATUS: i32 = 7;
/// The GPU's memory is filled in blocks of this size, and one is given back. It is enough for a
/// picture, and not for a large batch nor for another ViT-B/32.
const BLOCK: i64 = 256 << 20;

/// Preprocessed pictures.
type Pictures = Arc<Vec<Vec<u8>>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        [directory, device] => check(directory, device),
        [directory, device, "serve", precision] => serve(directory, device, precision),
        [directory, device, "memory"] => memory(directory, device),
        [directory, device, "exit", time] => exit(directory, device, time),
        _ => Err(invalid(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device_check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(directory: &str, device: &str) -> Result<()> {
    // The CPU first: it must not keep libtorch from finding the GPU afterwards.
    let cpu = load(directory, "cpu")?;
    let mut expected = embeddings(&cpu, 1)?;
    expected[0] = expected[0].repeat(REPEATS);
    println!("devices here: {}", clip_torch::device::available().join(", "));
    check_precision(&load(directory, device)?, "f32", &expected)?;
    for precision in ["f16", "bf16", "int8"] {
        match load_with(directory, device, precision) {
            Ok(model) => check_precision(&model, precision, &expected)?,
            Err(error) if error.kind() == ErrorKind::DeviceUnavailable => println!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn check_precision(model: &Model, precision: &str, expected: &[Vec<f32>; 2]) -> Result<()> {
    let info = model.info();
    let note = info.device_note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    println!("{precision}, {} dimensions, on {}{note}", info.dim, info.device);
    let least = match precision {
        "f32" => LEAST_COSINE,
        "int8" => LEAST_COSINE_8,
        _ => LEAST_COSINE_16,
    };
    for ((name, a), b) in ["image", "text"].iter().zip(expected).zip(&embeddings(model, REPEATS)?) {
        let lowest = lowest(a, b, info.dim)?;
        println!("{name} embeddings: lowest cosine to the CPU's in f32 {lowest:.9}");
        if lowest.is_nan() || lowest < least {
            return Err(unexpected(&format!("expected at least {least}")));
        }
    }
    for batch in BATCHES {
        println!("batch {batch:>3}: {:>9.1} pictures/s", pictures_per_second(model, batch)?);
    }
    Ok(())
}

fn load(directory: &str, device: &str) -> Result<Model> {
    load_with(directory, device, "f32")
}

fn load_with(directory: &str, device: &str, precision: &str) -> Result<Model> {
    let device: DeviceRequest = device.parse()?;
    let cache = std::env::temp_dir().join("clip-device-check");
    let mut options = LoadOptions::new(device, cache);
    options.precision = precision.parse()?;
    // One batch is copied and begun while another is computed.
    options.concurrency = 2;
    Model::load(Path::new(directory), &options)
}

/// Of some pictures, so many times in one batch, and of prompts, a few and many: a GPU has other
/// kernels for other sizes.
fn embeddings(model: &Model, repeats: usize) -> Result<[Vec<f32>; 2]> {
    let prompts: Vec<String> = (0..300).map(|i| format!("a photo of {i} dogs, or {i}")).collect();
    let pictures = noise(model, DIFFERENT);
    let many = (0..DIFFERENT * repeats).map(|i| pictures[i % DIFFERENT].clone()).collect();
    let images = encode(model, &Arc::new(many))?;
    let mut texts = model.encode_texts(&prompts)?.rows;
    for few in [&prompts[..1], &prompts[..7], &[String::new()]] {
        texts.extend(model.encode_texts(few)?.rows);
    }
    Ok([images, texts])
}

fn lowest(a: &[f32], b: &[f32], dim: usize) -> Result<f64> {
    let cosines = a.chunks(dim).zip(b.chunks(dim)).map(|(a, b)| Ok(score::cosine(a, b)?));
    cosines.collect::<Result<Vec<_>>>().map(|all| all.into_iter().fold(1.0, f64::min))
}

fn pictures_per_second(model: &Model, batch: usize) -> Result<f64> {
    let pictures = noise(model, batch);
    for _ in 0..3 {
        encode(model, &pictures)?;
    }
    let (start, mut runs) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        encode(model, &pictures)?;
        runs += 1;
    }
    Ok((runs * batch) as f64 / start.elapsed().as_secs_f64())
}

fn serve(directory: &str, device: &str, precision: &str) -> Result<()> {
    let model = load_with(directory, device, precision)?;
    println!("ready in {precision} on {}", model.info().device);
    let mut pictures = noise(&model, 0);
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| invalid(&e.to_string()))?;
        let start;
        match line.split_once(' ') {
            Some(("images", count)) => {
                let count = count.parse().map_err(|_| invalid(&line))?;
                if pictures.len() != count {
                    pictures = noise(&model, count);
                }
                start = Instant::now();
                encode(&model, &pictures)?;
            }
            Some(("texts", file)) => {
                let prompts = std::fs::read_to_string(file).map_err(|e| invalid(&e.to_string()))?;
                let prompts: Vec<&str> = prompts.lines().collect();
                start = Instant::now();
                model.encode_texts(&prompts)?;
            }
            Some(("files", arguments)) => {
                let (directory, count) =
                    arguments.rsplit_once(' ').ok_or_else(|| invalid(&line))?;
                let count = count.parse().map_err(|_| invalid(&line))?;
                let files = read_files(Path::new(directory))?;
                start = Instant::now();
                encode_files(&model, &files, count)?;
            }
            _ => return Err(invalid(&line)),
        }
        println!("{:.3}", start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

fn read_files(directory: &Path) -> Result<Vec<Vec<u8>>> {
    let unreadable = |e: std::io::Error| invalid(&e.to_string());
    let entries = std::fs::read_dir(directory).map_err(unreadable)?;
    let read = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read(entry?.path());
    entries.map(|entry| read(entry).map_err(unreadable)).collect()
}

/// Decodes and prepares so many pictures on all cores, and encodes batches of them meanwhile.
fn encode_files(model: &Model, files: &[Vec<u8>], count: usize) -> Result<()> {
    let threads = available_parallelism().map_or(1, usize::from);
    let (next, info) = (AtomicUsize::new(0), model.info());
    let (prepared, pictures) = sync_channel(2 * FILE_BATCH);
    let (reply, answers) = channel();
    scope(|scope| {
        for _ in 0..threads {
            let (prepared, next) = (prepared.clone(), &next);
            scope.spawn(move || {
                while let Some(file) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < count)
                {
                    let picture = prepare(&files[file % files.len()], &info.preprocessing);
                    if prepared.send(picture).is_err() {
                        break;
                    }
                }
            });
        }
        drop(prepared);
        let mut batches = 0;
        loop {
            let batch: Vec<Vec<u8>> = pictures.iter().take(FILE_BATCH).collect::<Result<_>>()?;
            if batch.is_empty() {
                break;
            }
            let reply = reply.clone();
            model.submit(move |inference| {
                let pictures: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
                let embeddings = inference.encode_images(&pictures);
                move || drop(reply.send(embeddings))
            })?;
            batches += 1;
        }
        answers.iter().take(batches).try_for_each(|answer| answer.map(drop))
    })
}

fn prepare(bytes: &[u8], preprocessing: &Preprocessing) -> Result<Vec<u8>> {
    let picture = decode(bytes, &DecodeOptions::default(), &Budget::default())?;
    Ok(preprocessing.apply(&picture)?)
}

fn memory(directory: &str, device: &str) -> Result<()> {
    let DeviceRequest::Cuda(index) = device.parse()? else {
        return Err(invalid("memory can be filled on cuda only"));
    };
    let model = load(directory, device)?;
    let (small, large) = (noise(&model, 1), noise(&model, LARGE_BATCH));
    let expected = encode(&model, &small)?;
    let block = || Tensor::f_empty([BLOCK], (Kind::Uint8, Device::Cuda(index)));
    let mut filled: Vec<Tensor> = std::iter::from_fn(|| block().ok()).collect();
    filled.pop();
    println!("filled {} blocks of {} MiB", filled.len(), BLOCK >> 20);

    expect_out_of_memory("a batch of 256", encode(&model, &large))?;
    expect_same("a picture after it", &encode(&model, &small)?, &expected)?;
    expect_out_of_memory("another load", load(directory, device))?;
    expect_same("a picture after it", &encode(&model, &small)?, &expected)?;
    drop(filled);
    encode(&model, &large)?;
    println!("with memory given back the batch of 256 works");
    Ok(())
}

fn expect_out_of_memory<T>(what: &str, result: Result<T>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::OutOfMemory => {
            println!("{what}: {error}");
            Ok(())
        }
        Err(error) => Err(unexpected(&format!("{what}: {:?}: {error}", error.kind()))),
        Ok(_) => Err(unexpected(&format!("{what} found memory"))),
    }
}

fn expect_same(what: &str, embedding: &[f32], expected: &[f32]) -> Result<()> {
    let cosine = score::cosine(embedding, expected)?;
    if cosine < LEAST_COSINE {
        return Err(unexpected(&format!("{what}: cosine {cosine}")));
    }
    println!("{what}: the same embedding");
    Ok(())
}

fn exit(directory: &str, device: &str, time: &str) -> Result<()> {
    let time = Duration::from_millis(time.parse().map_err(|_| invalid(USAGE))?);
    let model = load(directory, device)?;
    let pictures = noise(&model, LARGE_BATCH);
    encode(&model, &pictures)?;
    spawn(move || while encode(&model, &pictures).is_ok() {});
    sleep(time);
    println!("exit after {} ms", time.as_millis());
    std::process::exit(EXIT_STATUS)
}

/// As the bridge does it: without copying the pictures first.
fn encode(model: &Model, pictures: &Pictures) -> Result<Vec<f32>> {
    let (reply, answer) = channel();
    let pictures = Arc::clone(pictures);
    model.submit(move |inference| {
        let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let embeddings = inference.encode_images(&pictures);
        move || drop(reply.send(embeddings))
    })?;
    answer.recv().map_err(|_| unexpected("the model dropped the batch"))?
}

/// Pictures of one repeatable noise.
fn noise(model: &Model, count: usize) -> Pictures {
    let size = 3 * model.info().image_size.pow(2);
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Arc::new((0..count).map(|_| (0..size).map(|_| byte()).collect()).collect())
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn unexpected(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}
