//! Runs a model on a device beside the CPU: cosine of the embeddings, and pictures per second.
//!
//! ```text
//! cargo run --release -p clip --example device_check -- priv/models/emoji-clip cuda
//! ```
//!
//! Pictures are noise: what is compared is arithmetic, not understanding. Rates are of
//! `Model::encode_images`, u8 pixels in and embeddings out, copies included.

use std::path::Path;
use std::time::{Duration, Instant};

use clip::{DeviceRequest, LoadOptions, Model, Result, score};

const BATCHES: [usize; 4] = [1, 8, 64, 256];
/// How long a batch size is run, at least.
const MEASURED: Duration = Duration::from_secs(3);

fn main() -> std::process::ExitCode {
    match check() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device_check: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn check() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, device] = arguments.as_slice() else {
        eprintln!("usage: device_check MODEL_DIRECTORY cpu|cuda|cuda:1|mps");
        std::process::exit(2);
    };
    println!("devices here: {}", clip::device::available().join(", "));
    let cpu = load(directory, DeviceRequest::Cpu)?;
    let other = load(directory, device.parse()?)?;
    println!("model {directory}, {} dimensions, on {}", other.info().dim, other.info().device);
    compare(&cpu, &other)?;
    for batch in BATCHES {
        let rate = pictures_per_second(&other, batch)?;
        println!("batch {batch:>3}: {rate:>9.1} pictures/s");
    }
    Ok(())
}

fn load(directory: &str, device: DeviceRequest) -> Result<Model> {
    let cache = std::env::temp_dir().join("clip-device-check");
    Model::load(Path::new(directory), &LoadOptions::new(device, cache))
}

fn compare(cpu: &Model, other: &Model) -> Result<()> {
    let pictures = noise(cpu, 16);
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    let lowest = lowest_cosine(
        &cpu.encode_images(&pictures)?,
        &other.encode_images(&pictures)?,
        cpu.info().dim,
    )?;
    println!("image embeddings: lowest cosine to the CPU's {lowest:.9}");
    let prompts = ["a photo of a dog", "", "a photo of a cat on a mat", "x"];
    let lowest = lowest_cosine(
        &cpu.encode_texts(&prompts)?.rows,
        &other.encode_texts(&prompts)?.rows,
        cpu.info().dim,
    )?;
    println!("text embeddings:  lowest cosine to the CPU's {lowest:.9}");
    Ok(())
}

fn lowest_cosine(a: &[f32], b: &[f32], dim: usize) -> Result<f64> {
    let cosines = a.chunks(dim).zip(b.chunks(dim)).map(|(a, b)| Ok(score::cosine(a, b)?));
    cosines.collect::<Result<Vec<_>>>().map(|all| all.into_iter().fold(1.0, f64::min))
}

fn pictures_per_second(model: &Model, batch: usize) -> Result<f64> {
    let pictures = noise(model, batch);
    let pictures: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
    for _ in 0..3 {
        model.encode_images(&pictures)?;
    }
    let (start, mut runs) = (Instant::now(), 0);
    while start.elapsed() < MEASURED {
        model.encode_images(&pictures)?;
        runs += 1;
    }
    Ok((runs * batch) as f64 / start.elapsed().as_secs_f64())
}

/// Pictures of one repeatable noise.
fn noise(model: &Model, count: usize) -> Vec<Vec<u8>> {
    let size = 3 * model.info().image_size.pow(2);
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| (0..size).map(|_| byte()).collect()).collect()
}
