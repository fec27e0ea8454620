//! Prepares pictures for CLIP while `bench/pictures.py` takes the time.
//!
//! Reads lines `exact PATH`, `fast PATH` or `srgb PATH`, and answers each with the milliseconds from the file's
//! bytes to 3 x 224 x 224 bytes.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::time::Instant;

use clip::image::{ColorProfile, DecodeOptions};
use clip::{Budget, Preprocessing};

fn main() -> Result<(), Box<dyn Error>> {
    let clip = Preprocessing::clip(224);
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (mode, path) = line.split_once(' ').ok_or("expected a mode and a path")?;
        let bytes = std::fs::read(path)?;
        let least_side = (mode == "fast").then(|| clip.least_side());
        let color_profile = if mode == "srgb" { ColorProfile::Srgb } else { ColorProfile::Ignore };
        let options = DecodeOptions { least_side, color_profile, ..DecodeOptions::default() };
        let start = Instant::now();
        let budget = Budget::default();
        let pixels = clip.read(&bytes, &options, &budget)?.pixels;
        let time = start.elapsed();
        assert_eq!(pixels.len(), 3 * 224 * 224);
        println!("{}", time.as_secs_f64() * 1000.0);
        io::stdout().flush()?;
    }
    Ok(())
}
