//! How long a start takes: from the start of the process to the first answer.
//!
//! ```text
//! cargo build --release -p clip_torch --example first_answer
//! time target/release/examples/first_answer MODEL_DIRECTORY [PICTURE]
//! ```
//!
//! Twice, and the second counts: the first exports the encoders. What this prints begins with
//! `main`; `time` has the loading of libtorch too. `PRECISION=int8` computes in that.

use std::path::Path;
use std::time::Instant;

use clip_torch::score::{self, Kind, Scoring};
use clip_torch::{DeviceRequest, LoadOptions, Model, Result};

const LABELS: [&str; 5] = ["a dog", "a cat", "a car", "a cup of coffee", "a rocket"];

fn main() -> std::process::ExitCode {
    match answer() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("first_answer: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<()> {
    let start = Instant::now();
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: first_answer MODEL_DIRECTORY [PICTURE]");
        std::process::exit(2);
    };
    let cache = std::env::temp_dir().join("clip-first-answer");
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache);
    if let Ok(precision) = std::env::var("PRECISION") {
        options.precision = precision.parse()?;
    }
    let model = Model::load(Path::new(&directory), &options)?;
    let loaded = start.elapsed();
    let pixels = pixels(&model)?;
    let prepared = start.elapsed();
    let prompts = LABELS.map(|label| format!("a photo of {label}"));
    let texts = model.encode_texts(&prompts)?.rows;
    let image = model.encode_images(&[&pixels])?;
    let scoring = Scoring {
        kind: Kind::Softmax,
        logit_scale: model.info().logit_scale,
        logit_bias: None,
        threshold: None,
        top: None,
        least: None,
    };
    let scores = score::rank(&image, &texts, &[], &scoring)?;
    let answered = start.elapsed();
    println!("loaded {loaded:?}, picture {prepared:?}, answer {answered:?}: {scores:.3?}");
    Ok(())
}

/// The picture that was named, or a grey one.
fn pixels(model: &Model) -> Result<Vec<u8>> {
    let Some(path) = std::env::args().nth(2) else {
        return Ok(vec![128; 3 * model.info().image_size.pow(2)]);
    };
    let bytes = std::fs::read(&path).map_err(|e| {
        clip_torch::Error::new(clip_torch::ErrorKind::Io, format!("cannot read {path}: {e}"))
    })?;
    let picture = clip_torch::image::decode(&bytes, &Default::default(), &Default::default())?;
    Ok(model.info().preprocessing.apply(&picture)?)
}
