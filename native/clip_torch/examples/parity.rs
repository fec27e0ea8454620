//! Compares a model directory with the embeddings that another implementation made of it.
//!
//! ```text
//! cargo run --release -p clip_torch --example parity -- MODEL_DIRECTORY [DEVICE [TORCHSCRIPT_DIRECTORY]]
//! ```
//!
//! The directory holds, beside the checkpoint, `prompts.txt` (one a line) and `goldens.safetensors`:
//! u8 `pixels` `[n, 3, side, side]`, and the unit f32 `image_embeddings` and `text_embeddings`.
//! `bin/check-full-size` and `bin/check-gpu` write such directories with Hugging Face transformers and
//! call this.

use std::error::Error;
use std::fs;
use std::path::Path;

use clip_torch::{DeviceRequest, LoadOptions, Model};
use safetensors::SafeTensors;

/// Most that a component of a unit embedding may differ.
const TOLERANCE: f32 = 1e-5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: parity MODEL_DIRECTORY [DEVICE]")?;
    let directory = Path::new(&directory);
    let device = arguments.next().map_or(Ok(DeviceRequest::Cpu), |name| name.parse())?;
    let goldens = fs::read(directory.join("goldens.safetensors"))?;
    let goldens = SafeTensors::deserialize(&goldens)?;
    let mut options = LoadOptions::new(device, directory.join("cache"));
    options.torchscript = arguments.next().map(Into::into);
    let model = Model::load(directory, &options)?;

    let pixels = goldens.tensor("pixels")?;
    let pictures: Vec<&[u8]> = pixels.data().chunks(3 * model.info().image_size.pow(2)).collect();
    let images = difference(&model.encode_images(&pictures)?, &goldens, "image_embeddings")?;
    let prompts = fs::read_to_string(directory.join("prompts.txt"))?;
    let prompts: Vec<&str> = prompts.lines().collect();
    let texts = difference(&model.encode_texts(&prompts)?.rows, &goldens, "text_embeddings")?;
    println!(
        "{} on {}: {} pictures differ by at most {images:.1e}, {} prompts by {texts:.1e}",
        directory.file_name().unwrap_or_default().display(),
        model.info().device,
        pictures.len(),
        prompts.len()
    );
    if images.max(texts) <= TOLERANCE { Ok(()) } else { Err("not equal".into()) }
}

/// Largest difference of a component, every one of them finite.
fn difference(ours: &[f32], goldens: &SafeTensors<'_>, name: &str) -> Result<f32, Box<dyn Error>> {
    let bytes = goldens.tensor(name)?.data();
    let theirs: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect();
    if ours.len() != theirs.len() || ours.iter().any(|value| !value.is_finite()) {
        return Err(format!("{name}: {} values, expected {}", ours.len(), theirs.len()).into());
    }
    Ok(ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
}
