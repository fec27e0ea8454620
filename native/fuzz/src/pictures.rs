//! Pictures.

use clip::Budget;
use clip::image::{ColorProfile, DecodeOptions, decode};
use clip::limits::Limits;
use clip::preprocess::Preprocessing;

use crate::{Target, files};

pub(crate) const PICTURE: Target = Target {
    name: "picture",
    seeds: || {
        let webp = [files("test/fixtures/webp", ".webp"), files("priv/samples", ".webp")].concat();
        let profiles = [".jpg", ".png", ".tif", ".webp"];
        let profiles = profiles.map(|ending| files("test/fixtures/profiles", ending)).concat();
        [files("test/fixtures/pictures", ""), webp, profiles].concat()
    },
    mend: mend_png,
    run: |bytes| {
        let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
        let options =
            DecodeOptions { color_profile: ColorProfile::Srgb, ..DecodeOptions::default() };
        decode(bytes, &options, &Budget::new(limits))
            .and_then(|rgb| Preprocessing::clip(32).apply(&rgb))
            .map(|_| "pixels".to_owned())
            .map_err(|error| (error.kind().as_str(), error.to_string()))
    },
    stack: 8 << 20,
    memory: 512 << 20,
};

/// Corrects the checksums of a PNG's chunks.
fn mend_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(length) = bytes.get(at..at + 4).and_then(|field| field.try_into().ok()) {
        let end = (at + 8).saturating_add(u32::from_be_bytes(length) as usize);
        if !bytes.starts_with(b"\x89PNG") || end + 4 > bytes.len() {
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
}
