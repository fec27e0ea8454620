//! Decodes pictures for a program in another language, `test/oracle/corpus.py` for one.
//!
//! Reads one path a line from standard input. Answers each with a line, `WIDTH HEIGHT` and the upright
//! RGB pixels behind it, or `error KIND MESSAGE`. With the argument `srgb`, colours are converted by the
//! embedded profile.

use std::io::{self, BufRead, Write};

use clip::Budget;
use clip::image::{ColorProfile, DecodeOptions, decode};

fn main() -> io::Result<()> {
    let srgb = std::env::args().any(|argument| argument == "srgb");
    let color_profile = if srgb { ColorProfile::Srgb } else { ColorProfile::Ignore };
    let options = DecodeOptions { color_profile, ..DecodeOptions::default() };
    let mut out = io::stdout().lock();
    for path in io::stdin().lock().lines() {
        let bytes = std::fs::read(path?)?;
        match decode(&bytes, &options, &Budget::default()) {
            Ok(rgb) => {
                writeln!(out, "{} {}", rgb.width(), rgb.height())?;
                out.write_all(&rgb.pixels())?;
            }
            Err(error) => writeln!(out, "error {} {error}", error.kind().as_str())?,
        }
        out.flush()?;
    }
    Ok(())
}
