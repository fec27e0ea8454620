//! A JPEG that is decoded in part becomes the same bytes as one that is decoded whole, and is refused for
//! the same reasons.

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::ffi::{c_int, c_uint};
use std::ptr;

use clip::image::{ColorProfile, DecodeOptions, decode};
use clip::preprocess::{Filter, Preprocessing, Resize};
use clip::{Budget, Limits};
use turbojpeg_sys as tj;

/// How libjpeg-turbo writes a file.
#[derive(Debug, Clone, Copy)]
struct Kind {
    subsampling: c_int,
    pixel: c_int,
    progressive: bool,
    arithmetic: bool,
    /// Rows of units from one restart marker to the next, 0 for none.
    restart: c_int,
}

const PLAIN: Kind = Kind {
    subsampling: tj::TJSAMP_TJSAMP_420 as c_int,
    pixel: tj::TJPF_TJPF_RGB as c_int,
    progressive: false,
    arithmetic: false,
    restart: 0,
};

fn kinds() -> Vec<Kind> {
    let subsamplings = [
        tj::TJSAMP_TJSAMP_444,
        tj::TJSAMP_TJSAMP_422,
        tj::TJSAMP_TJSAMP_420,
        tj::TJSAMP_TJSAMP_440,
        tj::TJSAMP_TJSAMP_411,
        tj::TJSAMP_TJSAMP_441,
        tj::TJSAMP_TJSAMP_GRAY,
    ];
    let plain = subsamplings.map(|subsampling| Kind { subsampling: subsampling as c_int, ..PLAIN });
    let progressive = plain.map(|kind| Kind { progressive: true, ..kind });
    let cmyk = Kind { pixel: tj::TJPF_TJPF_CMYK as c_int, ..PLAIN };
    let others = [
        cmyk,
        Kind { progressive: true, ..cmyk },
        Kind { restart: 1, ..PLAIN },
        Kind { arithmetic: true, ..PLAIN },
        Kind { arithmetic: true, progressive: true, restart: 2, ..PLAIN },
    ];
    [&plain[..], &progressive, &others].concat()
}

/// Slopes, edges and noise in all colours.
fn samples(width: usize, height: usize, channels: usize) -> Vec<u8> {
    let mut seed = 7u32;
    let mut data = Vec::with_capacity(width * height * channels);
    for at in 0..width * height * channels {
        let (x, y, c) = (at / channels % width, at / channels / width, at % channels);
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let edge = if (x / 23 + y / 17 + c).is_multiple_of(3) { 120 } else { 0 };
        let slope = (x * 70 / width + y * 60 / height) as u32;
        data.push((slope + edge + (seed >> 27)) as u8);
    }
    data
}

fn file(kind: Kind, (width, height): (usize, usize)) -> Vec<u8> {
    let channels = if kind.pixel == PLAIN.pixel { 3 } else { 4 };
    let rows = samples(width, height, channels);
    let mut written: *mut u8 = ptr::null_mut();
    let mut size: tj::size_t = 0;
    // SAFETY: the rows are as long as the sizes say; the handle is valid until it is destroyed, and what is
    // written is copied before it is freed.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int);
        let set = |parameter: c_uint, value| {
            assert_eq!(tj::tj3Set(handle, parameter as c_int, value), 0);
        };
        set(tj::TJPARAM_TJPARAM_QUALITY, 80);
        set(tj::TJPARAM_TJPARAM_SUBSAMP, kind.subsampling);
        set(tj::TJPARAM_TJPARAM_PROGRESSIVE, kind.progressive.into());
        set(tj::TJPARAM_TJPARAM_ARITHMETIC, kind.arithmetic.into());
        set(tj::TJPARAM_TJPARAM_RESTARTROWS, kind.restart);
        let failed = tj::tj3Compress8(
            handle,
            rows.as_ptr(),
            width as c_int,
            0,
            height as c_int,
            kind.pixel,
            &raw mut written,
            &raw mut size,
        );
        assert_eq!(failed, 0, "{kind:?}");
        let file = std::slice::from_raw_parts(written, size as usize).to_vec();
        tj::tj3Free(written.cast());
        tj::tj3Destroy(handle);
        file
    }
}

/// The file, with an orientation in Exif.
fn turned(file: &[u8], orientation: u8) -> Vec<u8> {
    let tag = [0, 0x12, 0x01, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0];
    let exif = [b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01", &tag[..], &[0; 4]].concat();
    assert_eq!(exif.len(), 36);
    [&file[..2], &exif, &file[2..]].concat()
}

/// The pixels or the reason of the refusal.
type Outcome = Result<(Vec<u8>, (u32, u32)), String>;

fn whole(bytes: &[u8], recipe: &Preprocessing, options: &DecodeOptions) -> Outcome {
    let rgb = decode(bytes, options, &Budget::default()).map_err(|error| error.to_string())?;
    let pixels = recipe.apply(&rgb).map_err(|error| error.to_string())?;
    Ok((pixels, rgb.whole_size()))
}

fn in_part(bytes: &[u8], recipe: &Preprocessing, options: &DecodeOptions) -> Outcome {
    let prepared = recipe.read(bytes, options, &Budget::default());
    prepared.map(|got| (got.pixels, got.size)).map_err(|error| error.to_string())
}

/// Whether there were pixels.
fn check(bytes: &[u8], recipe: &Preprocessing, options: &DecodeOptions, what: &str) -> bool {
    let expected = whole(bytes, recipe, options);
    let got = in_part(bytes, recipe, options);
    match (&expected, &got) {
        (Err(expected), Err(got)) => assert_eq!(expected, got, "{what}"),
        _ => assert!(expected == got, "{what}: {:?}, {:?}", expected.err(), got.err()),
    }
    got.is_ok()
}

fn plain() -> DecodeOptions {
    DecodeOptions::default()
}

#[test]
fn every_kind_size_and_orientation_is_the_same_in_part() {
    let sizes = [(640, 480), (481, 643), (1203, 97), (97, 1203), (2500, 40), (33, 31), (1, 300)];
    let mut orientation = 0;
    for (width, height) in sizes {
        for kind in kinds() {
            let file = file(kind, (width, height));
            // Each of the eight meets each kind in some size.
            for _ in 0..2 {
                orientation = orientation % 8 + 1;
                let what = format!("{width} x {height}, {kind:?}, turned {orientation}");
                let turned = turned(&file, orientation);
                for size in [32, 224] {
                    assert!(check(&turned, &Preprocessing::clip(size), &plain(), &what), "{what}");
                }
            }
            orientation += 1;
        }
    }
}

#[test]
fn pictures_of_odd_sides_are_the_same_in_part() {
    for (at, kind) in kinds().into_iter().enumerate() {
        let (width, height) = (1203 + 7 * at, 901 + 11 * at);
        let file = file(kind, (width, height));
        for orientation in [1, 3, 6] {
            let what = format!("{width} x {height}, {kind:?}, turned {orientation}");
            let turned = turned(&file, orientation);
            assert!(check(&turned, &Preprocessing::clip(224), &plain(), &what), "{what}");
            let size = in_part(&turned, &Preprocessing::clip(8), &plain()).unwrap().1;
            assert_eq!(size.0 > size.1, orientation != 6, "{what}");
        }
    }
}

#[test]
fn every_recipe_is_the_same_in_part() {
    let clip = || Preprocessing::clip(64);
    let mut recipes = vec![clip()];
    for filter in [Filter::Lanczos, Filter::Bilinear, Filter::Box, Filter::Hamming] {
        recipes.push(clip());
        recipes.last_mut().unwrap().filter = filter;
    }
    let squash = Resize::Exact { height: 60, width: 90 };
    let all = clip().resize;
    // The last crop is larger than what is left to cut it from: an error, of both.
    let crops = [(squash, None), (squash, Some((7, 11))), (all, None), (all, Some((65, 64)))];
    for (resize, crop) in crops {
        recipes.push(clip());
        let recipe = recipes.last_mut().unwrap();
        (recipe.resize, recipe.crop) = (resize, crop);
    }
    let files: Vec<_> = kinds().into_iter().map(|kind| (kind, file(kind, (613, 202)))).collect();
    let mut orientation = 0;
    for recipe in &recipes {
        for least_side in [None, Some(16), Some(100), Some(recipe.least_side())] {
            let options = DecodeOptions { least_side, ..plain() };
            for (kind, file) in &files {
                orientation = orientation % 8 + 1;
                let what = format!("{recipe:?}, {options:?}, {kind:?}, turned {orientation}");
                check(&turned(file, orientation), recipe, &options, &what);
            }
        }
    }
}

#[test]
fn every_picture_of_the_fixtures_is_the_same_in_part() {
    let mut pictures = 0;
    for folder in ["pictures", "jpeg", "profiles", "tiff", "webp"] {
        let folder = support::project("test/fixtures").join(folder);
        for path in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            for size in [8, 32, 300] {
                let recipe = Preprocessing::clip(size);
                for color_profile in [ColorProfile::Ignore, ColorProfile::Srgb] {
                    let options = DecodeOptions { color_profile, ..plain() };
                    let what = path.display().to_string();
                    pictures += u32::from(check(&bytes, &recipe, &options, &what));
                }
            }
        }
    }
    assert!(pictures > 600, "{pictures}");
}

/// A file of all frequencies but the last of them: the library makes up what is missing.
#[test]
fn a_progressive_file_without_its_last_scans_is_the_same_in_part() {
    for kind in kinds().into_iter().filter(|kind| kind.progressive) {
        let whole = file(kind, (1201, 205));
        let scans: Vec<_> =
            (0..whole.len() - 1).filter(|at| whole[*at..*at + 2] == *b"\xff\xda").collect();
        for next in &scans[1..] {
            // Its tables may stand before a scan, and are left there.
            let file = [&whole[..*next], b"\xff\xd9"].concat();
            let what = format!("{kind:?}, {next} bytes");
            for orientation in [1, 6] {
                let file = turned(&file, orientation);
                check(&file, &Preprocessing::clip(32), &plain(), &what);
            }
        }
    }
}

#[test]
fn damage_is_refused_wherever_it_is() {
    let mut refused = 0;
    for kind in kinds() {
        for size in [(330, 81), (83, 332)] {
            let sound = file(kind, size);
            let begin = sound.windows(2).position(|pair| pair == b"\xff\xda").unwrap();
            for part in 1..12 {
                let at = begin + (sound.len() - begin) * part / 12;
                let mut flipped = sound.clone();
                flipped[at] ^= 0x55;
                let mut zeros = sound.clone();
                let end = (at + 40).min(sound.len() - 2);
                zeros[at.min(end)..end].fill(0);
                let cut = [&sound[..at], b"\xff\xd9"].concat();
                let gap = [&sound[..at], &sound[(at + 9).min(sound.len() - 2)..]].concat();
                for (how, file) in
                    [("flipped", flipped), ("zeros", zeros), ("cut", cut), ("gap", gap)]
                {
                    for orientation in [1, 6] {
                        let file = turned(&file, orientation);
                        let what = format!("{size:?}, {kind:?}, {how} at {at}");
                        let sound = check(&file, &Preprocessing::clip(32), &plain(), &what);
                        refused += u32::from(!sound);
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn limits_are_those_of_the_whole_picture() {
    let file = file(PLAIN, (2000, 1500));
    for max_decode_bytes in [1 << 16, 1 << 20, 5 << 20, 9_300_000, 12 << 20] {
        for orientation in [1, 6] {
            let file = turned(&file, orientation);
            let limits = Limits { max_decode_bytes, ..Limits::default() };
            let whole = decode(&file, &plain(), &Budget::new(limits)).map(drop);
            let part = Preprocessing::clip(224).read(&file, &plain(), &Budget::new(limits));
            let texts = (
                whole.map_err(|error| error.to_string()),
                part.map(drop).map_err(|error| error.to_string()),
            );
            assert_eq!(texts.0, texts.1, "{max_decode_bytes}, turned {orientation}");
        }
    }
}
