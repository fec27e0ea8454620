//! How long labels and pictures take in every precision of this machine, and how near they are to f32.
//!
//! ```text
//! cargo run --release -p clip_torch --example speed -- MODEL_DIRECTORY [ROUNDS [THREADS]]
//! ```
//!
//! Medians over the rounds, of which each runs every task once in every precision: what else the
//! machine does then falls on all of them.

use std::path::Path;
use std::time::Instant;

use clip_torch::{DeviceRequest, LoadOptions, Model, Precision, PrecisionRequest, Result, score};

const TASKS: [&str; 6] =
    ["5 labels", "5 labels, a call each", "1,000 labels", "a picture", "2 pictures", "32 pictures"];

const ADJECTIVES: [&str; 10] =
    ["red", "old", "small", "wooden", "striped", "wild", "electric", "great", "paper", "sea"];
const NOUNS: [&str; 20] = [
    "dog", "cat", "shark", "car", "cup", "rocket", "house", "balloon", "bird", "tree", "boat",
    "clock", "hammer", "spider", "train", "piano", "mushroom", "bridge", "lamp", "snake",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(directory) = arguments.first() else {
        eprintln!("usage: speed MODEL_DIRECTORY [ROUNDS [THREADS]]");
        std::process::exit(2);
    };
    let number = |i: usize| arguments.get(i).and_then(|number| number.parse().ok());
    let rounds = number(1).unwrap_or(5);
    let load = |precision| {
        let cache = std::env::temp_dir().join("clip-speed");
        let mut options = LoadOptions::new(DeviceRequest::Cpu, cache);
        options.precision = PrecisionRequest::Exactly(precision);
        options.threads = number(2).unwrap_or(options.threads);
        Model::load(Path::new(directory), &options).ok().map(|model| (precision, model))
    };
    let all = [Precision::F32, Precision::Bf16, Precision::Int8];
    let models: Vec<_> = all.into_iter().filter_map(load).collect();

    let mut times = vec![vec![Vec::new(); TASKS.len()]; models.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for (task, name) in TASKS.iter().enumerate() {
            for ((_, model), times) in models.iter().zip(&mut times) {
                let time = measure(model, name, round)?;
                times[task].extend((round > 0).then_some(time));
            }
        }
    }
    print!("{:24}", "ms");
    models.iter().for_each(|(precision, _)| print!("{:>10}", precision.name()));
    for (task, name) in TASKS.iter().enumerate() {
        print!("\n{name:24}");
        for times in &mut times {
            times[task].sort_by(f64::total_cmp);
            print!("{:10.1}", times[task][times[task].len() / 2]);
        }
    }
    println!();
    for (precision, model) in &models[1..] {
        let cosines = cosines(&models[0].1, model)?;
        println!(
            "{}: least and median cosine to f32: {:.6} {:.6}",
            precision.name(),
            cosines[0],
            cosines[cosines.len() / 2]
        );
    }
    Ok(())
}

/// Of the embeddings of 1,000 prompts by two models, in ascending order.
fn cosines(one: &Model, other: &Model) -> Result<Vec<f64>> {
    let prompts: Vec<String> = (0..1000).map(|i| format!("a photo of {}", label(i))).collect();
    let (a, b) = (one.encode_texts(&prompts)?.rows, other.encode_texts(&prompts)?.rows);
    let rows = a.chunks(one.info().dim).zip(b.chunks(one.info().dim));
    let mut cosines = rows.map(|(a, b)| Ok(score::cosine(a, b)?)).collect::<Result<Vec<f64>>>()?;
    cosines.sort_by(f64::total_cmp);
    Ok(cosines)
}

/// Milliseconds of a task.
fn measure(model: &Model, task: &str, round: usize) -> Result<f64> {
    let prompts: Vec<String> = (0..1000).map(|i| format!("a photo of {}", label(i))).collect();
    // Of one to three words: numbers far apart.
    let few = [0, 200, 401, 602, 803].map(|i| &prompts[(i + round) % 1000]);
    let picture = vec![128u8; 3 * model.info().image_size.pow(2)];
    let pictures = |count| vec![picture.as_slice(); count];
    match task {
        "5 labels" => time(|| model.encode_texts(&few).map(drop)),
        "5 labels, a call each" => {
            time(|| few.iter().try_for_each(|prompt| model.encode_texts(&[prompt]).map(drop)))
        }
        "1,000 labels" => time(|| model.encode_texts(&prompts).map(drop)),
        "a picture" => time(|| model.encode_images(&pictures(1)).map(drop)),
        "2 pictures" => time(|| model.encode_images(&pictures(2)).map(drop)),
        _ => time(|| model.encode_images(&pictures(32)).map(drop)),
    }
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
