//! How long new labels take, and a picture beside them.
//!
//! ```text
//! cargo run --release -p clip_torch --example text_speed -- MODEL_DIRECTORY [ROUNDS]
//! ```
//!
//! Medians over the rounds, of which each runs every task once: what else the machine does then
//! falls on all of them.

use std::path::Path;
use std::time::Instant;

use clip_torch::{DeviceRequest, LoadOptions, Model, Result};

const ADJECTIVES: [&str; 10] =
    ["red", "old", "small", "wooden", "striped", "wild", "electric", "great", "paper", "sea"];
const NOUNS: [&str; 20] = [
    "dog", "cat", "shark", "car", "cup", "rocket", "house", "balloon", "bird", "tree", "boat",
    "clock", "hammer", "spider", "train", "piano", "mushroom", "bridge", "lamp", "snake",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = arguments.first() else {
        eprintln!("usage: text_speed MODEL_DIRECTORY [ROUNDS]");
        std::process::exit(2);
    };
    let rounds: usize = arguments.get(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let cache = std::env::temp_dir().join("clip-text-speed");
    let model = Model::load(Path::new(directory), &LoadOptions::new(DeviceRequest::Cpu, cache))?;

    let mut times: [Vec<f64>; 4] = Default::default();
    // The first round warms up.
    for round in 0..=rounds {
        for (time, times) in measure(&model, round)?.into_iter().zip(&mut times) {
            times.extend((round > 0).then_some(time));
        }
    }
    let names = ["5 labels", "5 labels, a call each", "1,000 labels", "a picture"];
    for (name, times) in names.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!("{name}: {:.1} ms (fastest {:.1})", times[times.len() / 2], times[0]);
    }
    Ok(())
}

/// Milliseconds of each task.
fn measure(model: &Model, round: usize) -> Result<[f64; 4]> {
    let prompts: Vec<String> = (0..1000).map(|i| format!("a photo of {}", label(i))).collect();
    // Of one to three words: numbers far apart.
    let few = [0, 200, 401, 602, 803].map(|i| &prompts[(i + round) % 1000]);
    let picture = vec![128u8; 3 * model.info().image_size.pow(2)];
    Ok([
        time(|| model.encode_texts(&few).map(drop))?,
        time(|| few.iter().try_for_each(|prompt| model.encode_texts(&[prompt]).map(drop)))?,
        time(|| model.encode_texts(&prompts).map(drop))?,
        time(|| model.encode_images(&[&picture]).map(drop))?,
    ])
}

fn time(task: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    task()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

/// One to three words, another for each of 1,000 numbers.
fn label(i: usize) -> String {
    let noun = NOUNS[i % 20];
    match i / 20 {
        0 => noun.to_owned(),
        i @ 1..=10 => format!("{} {noun}", ADJECTIVES[i - 1]),
        i => format!("{} {} {noun}", ADJECTIVES[i % 10], NOUNS[i / 10 + i % 5]),
    }
}
