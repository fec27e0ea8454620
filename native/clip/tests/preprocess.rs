//! Decoding and preprocessing against Pillow, by goldens of `test/oracle/preprocess.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clip::Budget;
use clip::image::{Background, DecodeOptions, Rgb, decode, from_raw};
use clip::preprocess::{Filter, Preprocessing, Resize};
use safetensors::SafeTensors;

/// Files that Pillow reads and that are refused here.
const REFUSED: [(&str, &str); 2] = [
    ("fixtures/float.tif", "floating-point samples have no agreed range"),
    ("corpora/pngsuite/xcsn0g01.png", "the checksum of its pixels is wrong"),
];

struct Goldens(Vec<u8>);

impl Goldens {
    fn load() -> Self {
        Self(std::fs::read(support::project("test/fixtures/goldens/pictures.safetensors")).unwrap())
    }

    fn tensor(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().to_vec()
    }

    /// Each file's name and "WIDTHxHEIGHT CRC32", or "error".
    fn files(&self) -> BTreeMap<String, String> {
        let (_, header) = SafeTensors::read_metadata(&self.0).unwrap();
        serde_json::from_str(&header.metadata().as_ref().unwrap()["files"]).unwrap()
    }
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(support::project("test/fixtures/pictures").join(name)).unwrap()
}

fn path_of(name: &str) -> PathBuf {
    match name.strip_prefix("fixtures/") {
        Some(name) => support::project("test/fixtures/pictures").join(name),
        None if name.starts_with("corpora/pngsuite/") => {
            support::project("test/fixtures").join(name)
        }
        None => support::test_data().join(name),
    }
}

fn read(bytes: &[u8]) -> Rgb {
    decode(bytes, &DecodeOptions::default(), &Budget::default()).unwrap()
}

/// Largest and mean difference.
fn difference(left: &[u8], right: &[u8]) -> (u8, f64) {
    assert_eq!(left.len(), right.len());
    let each = left.iter().zip(right).map(|(left, right)| left.abs_diff(*right));
    let sum: u64 = each.clone().map(u64::from).sum();
    (each.max().unwrap(), sum as f64 / left.len() as f64)
}

/// The same formula as `pattern` in the oracle.
fn pattern(height: u32, width: u32) -> Rgb {
    let mut data = Vec::new();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for c in 0..3 {
            let noise = (x * 73 + y * 151 + c * 199 + x * y * 7) % 256;
            let edge = (x / 9 + y / 7) % 3 == 0;
            data.push(if edge { 255 * (c % 2) } else { noise } as u8);
        }
    }
    from_raw(&data, height, width, 3, &DecodeOptions::default(), &Budget::default()).unwrap()
}

/// One file against Pillow.
fn check_file(name: &str, facts: &str, goldens: &Goldens) {
    let rgb = read(&std::fs::read(path_of(name)).unwrap());
    let (size, crc) = facts.split_once(' ').unwrap();
    assert_eq!(format!("{}x{}", rgb.width(), rgb.height()), size, "{name}");
    assert_eq!(format!("{:08x}", support::crc32(&rgb.pixels())), crc, "{name}");
    let pixels = Preprocessing::clip(32).apply(&rgb).unwrap();
    let (max, _) = difference(&pixels, &goldens.tensor(name));
    assert!(max <= 1, "{name}: {max} levels off");
}

/// Those files against Pillow whose name passes.
fn check_files(passes: impl Fn(&str) -> bool) -> usize {
    let goldens = Goldens::load();
    let mut checked = 0;
    for (name, facts) in goldens.files() {
        if !passes(&name) {
            continue;
        }
        if REFUSED.iter().any(|(refused, _)| *refused == name) {
            let bytes = std::fs::read(path_of(&name)).unwrap();
            decode(&bytes, &DecodeOptions::default(), &Budget::default()).unwrap_err();
        } else if facts != "error" {
            check_file(&name, &facts, &goldens);
            checked += 1;
        }
    }
    checked
}

fn is_here(name: &str) -> bool {
    name.starts_with("fixtures/") || name.starts_with("corpora/pngsuite/")
}

#[test]
fn every_file_equals_pillow() {
    let checked = check_files(is_here);
    assert!(checked >= 200, "only {checked} files were checked");
}

#[test]
#[ignore = "needs CLIP_TEST_DATA"]
fn every_file_of_the_larger_corpora_equals_pillow() {
    let checked = check_files(|name| !is_here(name));
    assert!(checked >= 100, "only {checked} files were checked");
}

#[test]
fn transparent_pixels_lie_on_the_background_or_lose_alpha() {
    let goldens = Goldens::load();
    let backgrounds =
        [("flattened", Background::Color([10, 200, 30])), ("dropped", Background::Drop)];
    for (kind, background) in backgrounds {
        for name in ["rgba.png", "la.png", "palette_trns.png", "animated.gif", "rgba.webp"] {
            let options = DecodeOptions { background, ..DecodeOptions::default() };
            let rgb = decode(&fixture(name), &options, &Budget::default()).unwrap();
            let pixels = Preprocessing::clip(32).apply(&rgb).unwrap();
            let (max, _) = difference(&pixels, &goldens.tensor(&format!("{kind}/{name}")));
            assert!(max <= 1, "{kind}/{name}: {max} levels off");
        }
    }
}

#[test]
fn every_shape_is_resized_and_cropped_as_by_pillow() {
    let goldens = Goldens::load();
    let shapes = [
        (1, 1),
        (1, 300),
        (300, 1),
        (5, 7),
        (32, 35),
        (35, 32),
        (39, 32),
        (64, 99),
        (97, 301),
        (480, 641),
    ];
    for (height, width) in shapes {
        let pixels = Preprocessing::clip(32).apply(&pattern(height, width)).unwrap();
        let (max, _) = difference(&pixels, &goldens.tensor(&format!("pattern/{height}x{width}")));
        assert!(max <= 1, "{height} x {width}: {max} levels off");
    }
}

#[test]
fn every_filter_is_pillows() {
    let goldens = Goldens::load();
    let filters =
        [(1, Filter::Lanczos), (2, Filter::Bilinear), (4, Filter::Box), (5, Filter::Hamming)];
    for (code, filter) in filters {
        let mut preprocessing = Preprocessing::clip(32);
        preprocessing.filter = filter;
        let pixels = preprocessing.apply(&pattern(97, 301)).unwrap();
        let (max, _) = difference(&pixels, &goldens.tensor(&format!("resample/{code}")));
        assert!(max <= 1, "{filter:?}: {max} levels off");
    }
    let mut squash = Preprocessing::clip(32);
    (squash.resize, squash.crop) = (Resize::Exact { height: 32, width: 32 }, None);
    let (max, _) =
        difference(&squash.apply(&pattern(97, 301)).unwrap(), &goldens.tensor("squashed"));
    assert!(max <= 1, "squashed: {max} levels off");
}

#[test]
fn extreme_shapes_work() {
    for (height, width) in [(1, 10_000), (10_000, 1), (2, 16_384), (223, 225), (16_384, 3)] {
        let pixels = Preprocessing::clip(224).apply(&pattern(height, width)).unwrap();
        assert_eq!(pixels.len(), 3 * 224 * 224, "{height} x {width}");
    }
    // Sizes at random: no rounding of a span may reach past the picture.
    let mut state = 1u64;
    for _ in 0..500 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (height, width) = ((state >> 33) as u32 % 400 + 1, (state >> 50) as u32 % 400 + 1);
        let data = vec![77; (height * width * 3) as usize];
        let rgb = from_raw(&data, height, width, 3, &DecodeOptions::default(), &Budget::default())
            .unwrap();
        let pixels = Preprocessing::clip(17).apply(&rgb).unwrap();
        assert!(pixels.iter().all(|value| *value == 77), "{height} x {width}");
    }
}

#[test]
fn raw_pixels_are_checked_and_converted() {
    let options = DecodeOptions { background: Background::Drop, ..DecodeOptions::default() };
    let rgb = |data: &[u8], channels| {
        from_raw(data, 1, 2, channels, &options, &Budget::default()).unwrap().pixels()
    };
    assert_eq!(rgb(&[7, 9], 1), [7, 7, 7, 9, 9, 9]);
    assert_eq!(rgb(&[7, 0, 9, 255], 2), [7, 7, 7, 9, 9, 9]);
    assert_eq!(rgb(&[1, 2, 3, 4, 5, 6], 3), [1, 2, 3, 4, 5, 6]);
    assert_eq!(rgb(&[1, 2, 3, 0, 4, 5, 6, 255], 4), [1, 2, 3, 4, 5, 6]);
    let white = |data: &[u8], channels| {
        from_raw(data, 1, 2, channels, &DecodeOptions::default(), &Budget::default())
            .unwrap()
            .pixels()
    };
    assert_eq!(white(&[7, 0, 9, 255], 2), [255, 255, 255, 9, 9, 9]);
    assert_eq!(white(&[1, 2, 3, 0, 4, 5, 6, 128], 4), [255, 255, 255, 129, 130, 130]);
    let message = |height, width, channels| {
        from_raw(&[0; 6], height, width, channels, &options, &Budget::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(message(1, 2, 4), "picture of 1 x 2 x 4 bytes has to be 8 bytes long, it is 6");
    assert_eq!(
        message(1, 2, 5),
        "picture has 5 channels, expected 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA)"
    );
    assert_eq!(message(0, 2, 3), "picture is 2 x 0 pixels, it has to have at least one");
    assert!(
        message(u32::MAX, u32::MAX, 4)
            .contains("the limit is 50000000 pixels; resize it first or raise max_pixels")
    );
}

#[test]
fn orientations_come_out_the_same_way_up() {
    let stored = read(&fixture("orientation_1.jpg")).pixels();
    for orientation in 1..=8 {
        let rgb = read(&fixture(&format!("orientation_{orientation}.jpg")));
        let turned = orientation >= 5;
        assert_eq!((rgb.width(), rgb.height()), if turned { (32, 48) } else { (48, 32) });
        let mut pixels = rgb.pixels();
        assert_eq!(pixels == stored, orientation == 1);
        pixels.sort_unstable();
        let mut same = stored.clone();
        same.sort_unstable();
        assert_eq!(pixels, same, "orientation {orientation} loses pixels");
    }
}

#[test]
fn openais_own_golden_is_met() {
    let folder = support::project("test/fixtures/goldens");
    let rgb = read(&std::fs::read(folder.join("franz-kafka.jpg")).unwrap());
    let pixels = Preprocessing::clip(224).apply(&rgb).unwrap();
    let expected = std::fs::read(folder.join("franz-kafka.u8")).unwrap();
    let (max, mean) = difference(&pixels, &expected);
    assert!(max <= 1 && mean < 0.02, "{max} levels off, {mean} in the mean");
}
