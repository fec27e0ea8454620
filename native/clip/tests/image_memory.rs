//! What hostile pictures cost in memory. One test alone, because it reads the process's own peak.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/hostile.rs"]
mod hostile;

use clip::Budget;
use clip::image::{DecodeOptions, decode};

/// Most memory this process has held so far, in KiB; `None` where Linux does not say.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Decodes all files, and says by how many KiB that raised the peak.
fn growth(files: &[Vec<u8>]) -> Option<u64> {
    let before = peak()?;
    for bytes in files {
        let _ = decode(bytes, &DecodeOptions::default(), &Budget::default());
    }
    Some(peak()? - before)
}

#[test]
fn hostile_pictures_stay_small() {
    let zeros = hostile::zlib_zeros(200_000_000);
    let rows = hostile::zlib_zeros(310);
    let named = [b"x\0\0".to_vec(), zeros.clone()].concat();
    let exif = [b"EXIF", &[0xff, 0xff, 0xff, 0x7f][..]].concat();
    let headers = [
        hostile::png(50_000, 50_000, &[], &rows),
        hostile::jpeg(65_535, 65_535, true),
        hostile::gif(65_535, 65_535),
        hostile::bmp(60_000, 60_000),
        hostile::tiff(50_000, 50_000, 1, &[0; 64]),
        hostile::tiff(16, 16, 7, &hostile::grey_jpeg(16_000, 16_000, 1)),
        hostile::webp((16, 16), (16_383, 16_383), b""),
        hostile::webp((16, 16), (16, 16), &exif),
    ];
    let bombs = [
        hostile::png(10, 10, &[], &zeros),
        hostile::png(10, 10, &[(b"zTXt", named.clone())], &rows),
        hostile::png(10, 10, &[(b"iCCP", named)], &rows),
    ];
    let Some(growth_of_headers) = growth(&headers) else {
        eprintln!("not tested: memory of hostile pictures (needs /proc)");
        return;
    };
    assert!(growth_of_headers <= 16 * 1024, "headers: {growth_of_headers} KiB");
    let growth_of_bombs = growth(&bombs).unwrap();
    assert!(growth_of_bombs <= 40 * 1024, "bombs: {growth_of_bombs} KiB");
}
