//! Pictures: of any format from bytes to the model's input, and of each format its decoder.

use clip::Budget;
use clip::image::{Background, ColorProfile, DecodeOptions, Rgb, decode};
use clip::limits::Limits;
use clip::preprocess::Preprocessing;

use crate::{Outcome, Target, files};

pub(crate) const PICTURE: Target = Target {
    name: "picture",
    seeds,
    mend: mend_png,
    run: |bytes| {
        let (options, budget) = (options(bytes), budget(1_000_000));
        outcome(Preprocessing::clip(32).read(bytes, &options, &budget))
    },
    stack: 8 << 20,
    memory: 512 << 20,
};

/// The start of every input is mended, so that none goes to another decoder.
const fn format(name: &'static str, seeds: fn() -> Vec<Vec<u8>>, mend: fn(&mut [u8])) -> Target {
    // Larger pictures take longer and go no other way.
    let run = |bytes: &[u8]| outcome(decoded(bytes, 1 << 16));
    Target { name, seeds, mend, run, ..PICTURE }
}

/// Prepared too, as that leaves columns out.
pub(crate) const JPEG: Target = Target {
    run: |bytes| outcome(Preprocessing::clip(32).read(bytes, &options(bytes), &budget(1 << 16))),
    ..format("jpeg", || seeds_with(0, b"\xff\xd8\xff"), |bytes| begin(bytes, 0, b"\xff\xd8\xff"))
};

pub(crate) const PNG: Target = format(
    "png",
    || seeds_with(0, b"\x89PNG"),
    |bytes| {
        begin(bytes, 0, b"\x89PNG\r\n\x1a\n");
        mend_png(bytes);
    },
);

pub(crate) const GIF: Target =
    format("gif", || seeds_with(0, b"GIF8"), |bytes| begin(bytes, 0, b"GIF89a"));

pub(crate) const WEBP: Target = format(
    "webp",
    || seeds_with(8, b"WEBP"),
    |bytes| {
        begin(bytes, 0, b"RIFF");
        begin(bytes, 8, b"WEBP");
    },
);

pub(crate) const BMP: Target =
    format("bmp", || seeds_with(0, b"BM"), |bytes| begin(bytes, 0, b"BM"));

pub(crate) const TIFF: Target = format(
    "tiff",
    || [seeds_with(0, b"II"), seeds_with(0, b"MM")].concat(),
    |bytes| {
        if !bytes.starts_with(b"II+\0") && !bytes.starts_with(b"MM\0") {
            begin(bytes, 0, b"II*\0");
        }
    },
);

fn decoded(bytes: &[u8], max_pixels: u64) -> clip::Result<Rgb> {
    decode(bytes, &options(bytes), &budget(max_pixels))
}

fn budget(max_pixels: u64) -> Budget<'static> {
    Budget::new(Limits { max_pixels, ..Limits::default() })
}

/// What an input does not say follows from its length.
fn options(bytes: &[u8]) -> DecodeOptions {
    let plain = DecodeOptions::default();
    match bytes.len() % 4 {
        0 => DecodeOptions { background: Background::Drop, least_side: Some(8), ..plain },
        // Converting by a profile takes longer than all else.
        1 => DecodeOptions { color_profile: ColorProfile::Srgb, ..plain },
        _ => plain,
    }
}

fn outcome<T>(result: clip::Result<T>) -> Outcome {
    result.map(|_| "pixels".to_owned()).map_err(|error| (error.kind().as_str(), error.to_string()))
}

fn seeds() -> Vec<Vec<u8>> {
    let folders = ["pictures", "jpeg", "tiff", "webp", "profiles"];
    let mut seeds = files("priv/samples", ".webp");
    for folder in folders.map(|name| format!("test/fixtures/{name}")) {
        for ending in [".jpg", ".png", ".gif", ".webp", ".bmp", ".tif"] {
            seeds.extend(files(&folder, ending));
        }
    }
    seeds
}

fn seeds_with(at: usize, mark: &[u8]) -> Vec<Vec<u8>> {
    let mut seeds = seeds();
    seeds.retain(|seed| seed.get(at..at + mark.len()) == Some(mark));
    seeds
}

fn begin(bytes: &mut [u8], at: usize, mark: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + mark.len()) {
        place.copy_from_slice(mark);
    }
}

/// Corrects the checksums of a PNG's chunks.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).and_then(|field| field.try_into().ok()) {
        let end = (at + 8).saturating_add(u32::from_be_bytes(length) as usize);
        if !bytes.starts_with(b"\x89PNG") || end.saturating_add(4) > bytes.len() {
            return;
        }
        let sum = crc32fast::hash(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_of_a_png_are_mended() {
        for sound in files("test/fixtures/pictures", "rgb.png") {
            let mut bytes = sound.clone();
            // Of the header.
            bytes[29..33].copy_from_slice(&[0; 4]);
            mend_png(&mut bytes);
            assert_eq!(bytes, sound);
        }
    }

    #[test]
    fn a_target_of_one_format_keeps_to_it() {
        for target in [JPEG, PNG, GIF, WEBP, BMP, TIFF] {
            let seeds = (target.seeds)();
            assert!(seeds.len() > 4, "{}: {} seeds", target.name, seeds.len());
            let mut bytes = b"what is no picture at all".to_vec();
            (target.mend)(&mut bytes);
            let (_, message) = (target.run)(&bytes).unwrap_err();
            assert!(message.to_lowercase().contains(target.name), "{message}");
        }
    }
}
