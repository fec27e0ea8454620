//! The hostile set: hundreds of files, each with what has to become of it, in bounded processor time
//! and memory.
//!
//! Memory is what the decoding thread allocates in Rust. The C of libjpeg-turbo has a bound of its
//! own, which is part of what [`Budget::reserve`] counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/hostile.rs"]
mod hostile;
#[allow(unreachable_pub)]
#[path = "../../fuzz/src/memory.rs"]
mod memory;
mod support;
#[path = "support/webp_tables.rs"]
mod webp_tables;

use std::ops::Range;
use std::time::Duration;

use clip::budget::{Budget, Memory};
use clip::error::ErrorKind::{self, ImageTooLarge, InvalidImage};
use clip::image::{ColorProfile, DecodeOptions, decode};
use clip::limits::Limits;
use clip::preprocess::Preprocessing;

/// What a refusal may take. Those from the header take far less, see below.
const MAX_TIME: Duration = Duration::from_secs(1);
const HEADER_TIME: Duration = Duration::from_millis(50);
const HEADER_MEMORY: usize = 16 << 20;

/// What has to become of a file.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// This error, from the header alone.
    Header(ErrorKind),
    /// This error.
    Refused(ErrorKind),
    /// Pixels.
    Pixels,
    /// Pixels or an error of any kind.
    Bounded,
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    fate: Fate,
    color_profile: ColorProfile,
}

impl Case {
    /// With its colours converted.
    fn in_srgb(self) -> Self {
        Self { color_profile: ColorProfile::Srgb, ..self }
    }
}

fn case(name: impl Into<String>, bytes: Vec<u8>, fate: Fate) -> Case {
    Case { name: name.into(), bytes, fate, color_profile: ColorProfile::Ignore }
}

/// The kind of error, `None` for pixels; processor time and peak memory.
fn measure(case: &Case) -> (Option<ErrorKind>, Duration, usize) {
    let start = support::processor_time();
    let options = DecodeOptions { color_profile: case.color_profile, ..DecodeOptions::default() };
    let prepare = || {
        let rgb = decode(&case.bytes, &options, &Budget::default())?;
        Preprocessing::clip(32).apply(&rgb)
    };
    let (result, peak) = memory::peak_of(|| prepare().map(drop));
    let kind = result.err().map(|error| {
        let text = error.to_string();
        assert!(!text.is_empty() && text.len() < 400 && !text.contains("assert"), "{text}");
        error.kind()
    });
    (kind, support::processor_time() - start, peak)
}

fn check(case: &Case) -> Result<(), String> {
    let (kind, time, memory) = measure(case);
    let expected = match case.fate {
        Fate::Header(expected) | Fate::Refused(expected) => kind == Some(expected),
        Fate::Pixels => kind.is_none(),
        Fate::Bounded => kind != Some(ErrorKind::Internal),
    };
    let (max_time, max_memory) = match case.fate {
        Fate::Header(_) => (HEADER_TIME, HEADER_MEMORY),
        _ => (MAX_TIME, Limits::default().max_decode_bytes as usize),
    };
    if expected && time <= max_time && memory <= max_memory {
        return Ok(());
    }
    Err(format!("{}: {kind:?} in {time:?} and {memory} bytes, not {:?}", case.name, case.fate))
}

fn check_all(cases: &[Case], least: usize) {
    assert!(cases.len() >= least, "{} cases", cases.len());
    let failed: Vec<_> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    files("pictures")
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = support::project("test/fixtures").join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    let name = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

#[test]
fn headers_that_lie() {
    let sizes: [(u16, u16, ErrorKind); 8] = [
        (65_535, 65_535, ImageTooLarge),
        (16_383, 16_383, ImageTooLarge),
        (8_000, 8_000, ImageTooLarge),
        (16_385, 1, ImageTooLarge),
        (1, 16_385, ImageTooLarge),
        (65_535, 1, ImageTooLarge),
        (0, 10, InvalidImage),
        (10, 0, InvalidImage),
    ];
    let mut cases = Vec::new();
    for (width, height, kind) in sizes {
        let (w, h) = (u32::from(width), u32::from(height));
        let files = [
            ("PNG", hostile::png(w, h, &[], &hostile::zlib_zeros(100))),
            ("JPEG", hostile::jpeg(width, height, false)),
            ("progressive JPEG", hostile::jpeg(width, height, true)),
            ("GIF", hostile::gif(width, height)),
            ("BMP", hostile::bmp(w as i32, h as i32)),
            ("BMP from the top", hostile::bmp(w as i32, -(h as i32))),
            ("TIFF", hostile::tiff(w, h, 1, &[0; 64])),
            ("JPEG in TIFF", hostile::tiff(w, h, 7, &hostile::grey_jpeg(width, height, 1))),
        ];
        for (name, bytes) in files {
            cases.push(case(format!("{name} of {w} x {h}"), bytes, Fate::Header(kind)));
        }
    }
    for (canvas, frame) in [((1 << 24, 1 << 24), (16, 16)), ((16, 16), (16_383, 16_383))] {
        let bytes = hostile::webp(canvas, frame, b"");
        cases.push(case(format!("WebP {canvas:?} {frame:?}"), bytes, Fate::Header(ImageTooLarge)));
    }
    check_all(&cases, 60);
}

#[test]
fn bombs() {
    let zeros = hostile::zlib_zeros(200_000_000);
    let rows = hostile::zlib_zeros(310);
    let named = [b"x\0\0".to_vec(), zeros.clone()].concat();
    let exif = [b"EXIF", &[0xff, 0xff, 0xff, 0x7f][..]].concat();
    let scans =
        |size, count| [hostile::jpeg(size, size, true), hostile::scan().repeat(count)].concat();
    let in_tiff = |side, scans| hostile::tiff(16, 16, 7, &hostile::grey_jpeg(side, side, scans));
    let cases = [
        case("pixels of a PNG", hostile::png(10, 10, &[], &zeros), Fate::Pixels),
        case("PNG text", hostile::png(10, 10, &[(b"zTXt", named.clone())], &rows), Fate::Pixels),
        case("PNG profile", hostile::png(10, 10, &[(b"iCCP", named.clone())], &rows), Fate::Pixels),
        case(
            "PNG profile that counts",
            hostile::png(10, 10, &[(b"iCCP", named)], &rows),
            Fate::Refused(InvalidImage),
        )
        .in_srgb(),
        case("WebP Exif", hostile::webp((16, 16), (16, 16), &exif), Fate::Bounded),
        case("scans", scans(4_000, 100_000), Fate::Header(ImageTooLarge)),
        case("scans of many pixels", scans(7_000, 30), Fate::Header(ImageTooLarge)),
        case("a JPEG larger than its strip", in_tiff(16_000, 1), Fate::Header(InvalidImage)),
        case("scans in a TIFF", in_tiff(16, 200), Fate::Header(ImageTooLarge)),
    ];
    check_all(&cases, 8);
}

fn lossy_webp() -> Vec<u8> {
    std::fs::read(support::project("test/fixtures/pictures/lossy.webp")).unwrap()
}

#[test]
fn tables_of_codes() {
    let lossy = lossy_webp();
    let all = webp_tables::lossless(65_536);
    let mut cases = vec![case("all tables of a WebP", all, Fate::Refused(ImageTooLarge))];
    for (groups, fate) in [
        (8, Fate::Pixels),
        (304, Fate::Pixels),
        (1_504, Fate::Pixels),
        (8_000, Fate::Refused(ImageTooLarge)),
    ] {
        let files = [
            ("lossless WebP", webp_tables::lossless(groups)),
            ("frame of a WebP", webp_tables::animated(groups)),
            ("alpha of a WebP", webp_tables::of_alpha(groups, &lossy)),
        ];
        let cases_of = files.into_iter();
        cases.extend(cases_of.map(|(name, bytes)| case(format!("{name}, {groups}"), bytes, fate)));
    }
    check_all(&cases, 13);
}

/// What is held at most and what was reserved for it, in bytes.
fn held_and_reserved(bytes: &[u8]) -> (usize, usize) {
    let memory = Memory::new(1 << 40);
    let limits = Limits { max_decode_bytes: 1 << 40, ..Limits::default() };
    let budget = Budget::new(limits).sharing(&memory);
    let job = || drop(decode(bytes, &DecodeOptions::default(), &budget));
    let ((), peak) = memory::peak_of(job);
    (peak, memory.used() as usize)
}

#[test]
fn of_a_webp_no_more_is_held_than_was_reserved() {
    let mut cases = [files("pictures"), files("webp")].concat();
    cases.retain(|(name, _)| name.ends_with(".webp"));
    let lossy = lossy_webp();
    for groups in [8, 104, 2_000] {
        cases.push((format!("lossless, {groups}"), webp_tables::lossless(groups)));
        cases.push((format!("animated, {groups}"), webp_tables::animated(groups)));
        cases.push((format!("alpha, {groups}"), webp_tables::of_alpha(groups, &lossy)));
    }
    assert!(cases.len() >= 100);
    for (name, bytes) in cases {
        let (held, reserved) = held_and_reserved(&bytes);
        // What is small is not counted: windows of decoders, buffers of rows, what errors say.
        assert!(held <= reserved + (1 << 18), "{name}: {held} bytes held, {reserved} reserved");
        assert!(reserved <= 2 * held + (1 << 20), "{name}: {held} bytes held, {reserved} reserved");
    }
}

#[test]
fn tiffs_that_would_be_decoded_for_longer_than_they_are() {
    let mut cases = Vec::new();
    for (name, coding, bits, chunk) in hostile::idle_chunks(4 << 20) {
        for step in [0, 1] {
            let bytes = hostile::shared_tiles(coding, bits, chunk.clone(), step);
            cases.push(case(format!("{name}, shared, {step}"), bytes, Fate::Header(InvalidImage)));
        }
        let bytes = hostile::strip(coding, bits, 4000, chunk);
        cases.push(case(format!("{name}, one strip"), bytes, Fate::Refused(InvalidImage)));
    }
    let lying = hostile::lying_tiffs().into_iter();
    cases.extend(lying.map(|(name, bytes)| case(name, bytes, Fate::Header(InvalidImage))));
    let large = hostile::large_tiles().into_iter();
    cases.extend(large.map(|(name, bytes)| case(name, bytes, Fate::Header(ImageTooLarge))));
    // What is named too often costs nothing.
    cases.push(case("coded strips without end", hostile::strips_without_end(), Fate::Pixels));
    check_all(&cases, 40);
}

#[test]
fn files_that_end_too_soon() {
    // What comes after the pixels may be missing: later frames and pages, checksums, profiles.
    let may_be_whole = ["animated", "pages", "frame", "l.gif", ".png"];
    let mut cases = Vec::new();
    for (name, bytes) in fixtures() {
        let whole = may_be_whole.iter().any(|part| name.contains(part));
        for part in 0..8 {
            let cut = bytes[..bytes.len() * part / 8].to_vec();
            let fate = match measure(&case(&name, bytes.clone(), Fate::Bounded)).0 {
                _ if part == 0 => Fate::Refused(InvalidImage),
                // A variant that is not read is named as that, however little there is of it.
                Some(kind) => Fate::Refused(kind),
                None if whole => Fate::Bounded,
                None => Fate::Refused(InvalidImage),
            };
            cases.push(case(format!("{part}/8 of {name}"), cut, fate));
        }
    }
    check_all(&cases, 300);
}

#[test]
fn fields_that_claim_the_most() {
    let mut cases = Vec::new();
    for (name, bytes) in fixtures() {
        for at in (4..bytes.len().min(64)).step_by(4) {
            for value in [[0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f], [0; 4]] {
                let mut bytes = bytes.clone();
                for (byte, value) in bytes[at..].iter_mut().zip(value) {
                    *byte = value;
                }
                cases.push(case(format!("{name} with {value:x?} at {at}"), bytes, Fate::Bounded));
            }
        }
    }
    check_all(&cases, 3_000);
}

/// A picture that embeds this profile.
fn profiled(profile: &[u8]) -> Vec<u8> {
    let chunk = [b"x\0\0".to_vec(), hostile::stored(profile)].concat();
    hostile::png(10, 10, &[(b"iCCP", chunk)], &hostile::zlib_zeros(310))
}

/// Pictures of each kind, and where their profile lies in one piece.
fn profiles() -> Vec<(&'static str, Vec<u8>, Range<usize>)> {
    ["p3.jpg", "grey.jpg", "inks.jpg", "adobe.tif"]
        .into_iter()
        .map(|name| {
            let path = support::project("test/fixtures/profiles").join(name);
            let file = std::fs::read(path).unwrap();
            let start = file.windows(4).position(|bytes| bytes == b"acsp").unwrap() - 36;
            let length = u32::from_be_bytes(file[start..start + 4].try_into().unwrap());
            (name, file, start..start + length as usize)
        })
        .collect()
}

/// A profile for RGB whose name stands there in many languages, all of them the same long text.
fn endless_names(sound: &[u8]) -> Vec<u8> {
    const RECORDS: u32 = 20_000;
    let text = 28 + 12 * RECORDS;
    let length = (3 << 20) - text;
    let mut name = [&b"mluc\0\0\0\0"[..], &RECORDS.to_be_bytes(), &12u32.to_be_bytes()].concat();
    for _ in 0..=RECORDS {
        name.extend([&b"enUS"[..], &length.to_be_bytes(), &text.to_be_bytes()].concat());
    }
    name.resize((text + length) as usize, 65);
    let mut profile = sound.to_vec();
    let at = profile.len() as u32;
    // In place of the white point.
    profile[132..144].copy_from_slice(
        &[&b"desc"[..], &at.to_be_bytes(), &(text + length).to_be_bytes()].concat(),
    );
    profile.extend(name);
    profile
}

#[test]
fn profiles_that_lie() {
    let sound = profiles();
    let (_, file, at) = &sound[0];
    let mut cases = vec![
        case("names", profiled(&endless_names(&file[at.clone()])), Fate::Pixels),
        case("zeros", profiled(&vec![0; 5 << 20]), Fate::Refused(InvalidImage)),
    ];
    for (name, file, range) in sound {
        let profile = &file[range.clone()];
        for part in 0..64 {
            let cut = &profile[..profile.len() * part / 64];
            cases.push(case(format!("{name} cut at {part}"), profiled(cut), Fate::Bounded));
        }
        // Header, list of tags, and of tables the head: the rest are numbers.
        let told = if name.starts_with("inks") { 240 } else { profile.len() };
        for at in range.clone().take(told) {
            for value in [0, 255] {
                let mut bytes = file.clone();
                bytes[at] = value;
                let at = at - range.start;
                cases.push(case(format!("{name} with {value} at {at}"), bytes, Fate::Bounded));
            }
        }
        cases.push(case(format!("{name} sound"), file, Fate::Pixels));
    }
    let cases: Vec<_> = cases.into_iter().map(Case::in_srgb).collect();
    check_all(&cases, 2_500);
}
