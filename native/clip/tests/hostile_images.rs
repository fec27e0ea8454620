//! Whatever the bytes: pixels or an error, soon, and in bounded memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/hostile.rs"]
mod hostile;
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clip::budget::Budget;
use clip::error::ErrorKind;
use clip::image::{DecodeOptions, decode};
use clip::limits::Limits;
use clip::preprocess::Preprocessing;

/// Dirty schedulers of the Erlang VM have stacks of 40 kilowords.
const SMALL_STACK: usize = 40 * 1024 * 8;

/// Decodes and preprocesses; `None` for pixels, else the kind of error. A panic that escapes fails
/// the test.
fn outcome(bytes: &[u8], limits: Limits) -> Option<ErrorKind> {
    match decode(bytes, &DecodeOptions::default(), &Budget::new(limits)) {
        Ok(rgb) => {
            assert_eq!(Preprocessing::clip(32).apply(&rgb).unwrap().len(), 3 * 32 * 32);
            None
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && error.to_string().len() < 1000);
            Some(error.kind())
        }
    }
}

fn kind(bytes: &[u8]) -> ErrorKind {
    outcome(bytes, Limits::default()).expect("an error")
}

/// Small enough that thousands of damaged headers stay cheap.
fn small() -> Limits {
    Limits { max_pixels: 1 << 18, max_decode_bytes: 1 << 24, ..Limits::default() }
}

fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = support::project("test/fixtures/pictures");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(path).unwrap())
        })
        .collect()
}

/// Processor time, the shortest of three runs: what shares a core is in the first.
fn time(job: impl Fn()) -> Duration {
    let run = || {
        let start = support::processor_time();
        job();
        support::processor_time() - start
    };
    (0..3).map(|_| run()).min().unwrap()
}

#[test]
fn headers_that_claim_too_much_are_refused_at_once() {
    let files = [
        ("PNG", hostile::png(50_000, 50_000, &[], &hostile::zlib_zeros(100))),
        ("JPEG", hostile::jpeg(65_535, 65_535, false)),
        ("progressive JPEG", hostile::jpeg(65_535, 65_535, true)),
        ("GIF", hostile::gif(65_535, 65_535)),
        ("BMP", hostile::bmp(60_000, 60_000)),
        ("TIFF", hostile::tiff(50_000, 50_000, 1, &[0; 64])),
        ("WebP canvas", hostile::webp((1 << 24, 1 << 24), (16, 16), b"")),
        ("WebP frame", hostile::webp((16, 16), (16_383, 16_383), b"")),
        ("narrow", hostile::png(1, 20_000, &[], &hostile::zlib_zeros(80_000))),
    ];
    for (name, bytes) in files {
        assert_eq!(kind(&bytes), ErrorKind::ImageTooLarge, "{name}");
        let time = time(|| _ = outcome(&bytes, Limits::default()));
        assert!(time < Duration::from_millis(50), "{name} took {time:?}");
    }
}

#[test]
fn limits_name_themselves() {
    let message = |bytes: &[u8], limits| {
        decode(bytes, &DecodeOptions::default(), &Budget::new(limits)).unwrap_err().to_string()
    };
    assert_eq!(
        message(&hostile::png(50_000, 50_000, &[], &[]), Limits::default()),
        "picture is 50000 x 50000 pixels, the limit is 50000000 pixels; resize it first or raise \
        max_pixels"
    );
    assert_eq!(
        message(&hostile::gif(20_000, 2), Limits::default()),
        "picture is 20000 x 2 pixels, the limit is 16384 pixels a side; resize it first or raise \
        max_side"
    );
    assert_eq!(
        message(&[0; 101], Limits { max_bytes: 100, ..Limits::default() }),
        "picture is 101 bytes long, the limit is 100 bytes; compress it or raise max_bytes"
    );
    assert_eq!(
        message(&hostile::bmp(100, 100), Limits { max_decode_bytes: 1000, ..Limits::default() }),
        "picture takes 30000 bytes of memory to decode, the limit is 1000 bytes; resize it first or \
        raise max_decode_bytes"
    );
}

#[test]
fn a_checksum_that_does_not_match_is_named_in_plain_words() {
    let mut bytes = hostile::png(10, 10, &[], &hostile::zlib_zeros(10 * 31));
    let end = bytes.windows(4).position(|four| four == b"IEND").unwrap();
    // The last byte of the checksum before the length of the last chunk.
    bytes[end - 5] ^= 1;
    let error = decode(&bytes, &DecodeOptions::default(), &Budget::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidImage);
    assert!(error.to_string().contains("CRC error"), "{error}");
    assert!(!error.to_string().contains('{'), "{error}");
}

#[test]
fn no_pixels_are_an_error() {
    for (name, bytes) in [
        ("PNG", hostile::png(0, 10, &[], &hostile::zlib_zeros(10))),
        ("JPEG", hostile::jpeg(0, 10, false)),
        ("GIF", hostile::gif(0, 0)),
        ("BMP", hostile::bmp(0, 10)),
        ("TIFF", hostile::tiff(0, 10, 1, &[0; 64])),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(kind(&bytes), ErrorKind::InvalidImage, "{name}");
    }
}

#[test]
fn compressed_zeros_fizzle() {
    let bomb = hostile::zlib_zeros(200_000_000);
    let rows = hostile::zlib_zeros(10 * 31);
    let named = [b"x\0\0".to_vec(), bomb.clone()].concat();
    for (name, bytes) in [
        ("pixels", hostile::png(10, 10, &[], &bomb)),
        ("text", hostile::png(10, 10, &[(b"zTXt", named.clone())], &rows)),
        ("colour profile", hostile::png(10, 10, &[(b"iCCP", named)], &rows)),
    ] {
        assert_eq!(outcome(&bytes, Limits::default()), None, "{name}");
        let time = time(|| _ = outcome(&bytes, Limits::default()));
        assert!(time < Duration::from_millis(500), "{name} took {time:?}");
    }
}

#[test]
fn scans_without_end_are_refused() {
    let many = [hostile::jpeg(4000, 4000, true), hostile::scan().repeat(100_000)].concat();
    let large = [hostile::jpeg(7000, 7000, true), hostile::scan().repeat(30)].concat();
    let baseline = [hostile::jpeg(4000, 4000, false), hostile::scan().repeat(100_000)].concat();
    let tiff = hostile::tiff(16, 16, 7, &hostile::grey_jpeg(16, 16, 200));
    for bytes in [many, large, baseline, hostile::grey_jpeg(100, 100, 200), tiff] {
        assert_eq!(kind(&bytes), ErrorKind::ImageTooLarge);
        let time = time(|| _ = outcome(&bytes, Limits::default()));
        assert!(time < Duration::from_millis(50), "{time:?}");
    }
}

#[test]
fn a_jpeg_in_a_tiff_is_no_larger_than_its_strip() {
    let tiff = |side| hostile::tiff(16, 16, 7, &hostile::grey_jpeg(side, side, 1));
    assert_eq!(outcome(&tiff(16), Limits::default()), None);
    assert_eq!(kind(&tiff(16_000)), ErrorKind::InvalidImage);
}

#[test]
fn only_the_first_frame_is_decoded() {
    let (_, one) = fixtures().into_iter().find(|(name, _)| name == "animated.gif").unwrap();
    let frame_start = one.iter().position(|byte| *byte == 0x21).unwrap();
    let frames = &one[frame_start..one.len() - 1];
    let many = [&one[..one.len() - 1], &frames.repeat(10_000), b";"].concat();
    let pixels = |bytes: &[u8]| {
        decode(bytes, &DecodeOptions::default(), &Budget::default()).unwrap().pixels()
    };
    assert_eq!(pixels(&many), pixels(&one));
    let time = time(|| drop(pixels(&many)));
    assert!(time < Duration::from_millis(50), "{time:?}");
}

#[test]
fn cut_off_anywhere() {
    for (name, bytes) in fixtures() {
        for part in 0..64 {
            let outcome = outcome(&bytes[..bytes.len() * part / 64], small());
            // Later frames, later pages and checksums may be missing; pixels may not.
            let whole = ["animated", "pages", "frame", "l.gif", ".png"];
            if !whole.iter().any(|part| name.contains(part)) {
                assert_ne!(outcome, None, "{name}, {part} of 64 parts");
            }
        }
    }
}

#[test]
fn damaged_anywhere() {
    let mut state = 7u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for (_, bytes) in fixtures() {
        for _ in 0..150 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random() % 4 {
                // Headers are at the start: half of the damage goes there.
                let reach = if random() % 2 == 0 { bytes.len() } else { bytes.len().min(64) };
                damaged[random() % reach] = random() as u8;
            }
            outcome(&damaged, small());
        }
    }
}

#[test]
fn noise_after_each_mark() {
    let marks: [&[u8]; 9] = [
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x20\0\0\0WEBPVP8X",
        b"RIFF\x20\0\0\0WEBPVP8L",
        b"RIFF\x20\0\0\0WEBPVP8 ",
        b"BM",
        b"II*\0",
        b"MM\0*",
    ];
    let mut state = 99u64;
    for mark in marks {
        for len in 0..200 {
            let noise = (0..len).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
            outcome(&mark.iter().copied().chain(noise).collect::<Vec<_>>(), small());
        }
    }
}

#[test]
fn content_decides_and_other_formats_are_named() {
    let png = fixtures().into_iter().find(|(name, _)| name == "rgb.png").unwrap().1;
    let polyglot = [&png[..], b"PK\x03\x04 and \xff\xd8\xff and <svg/>"].concat();
    assert_eq!(outcome(&polyglot, Limits::default()), None);
    for (bytes, name) in [
        (&b"<svg xmlns='http://www.w3.org/2000/svg'/>"[..], "SVG"),
        (b"\xef\xbb\xbf  <?xml version='1.0'?><svg/>", "XML (SVG?)"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "AVIF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\x76\x2f\x31\x01\x02\0\0\0", "OpenEXR"),
        (b"\0\0\x01\0\x01\0", "ICO"),
        (b"<!DOCTYPE HTML><title>404", "HTML"),
        (b"%PDF-1.7", "PDF"),
        (b"P6\n1 1\n255\n\0\0\0", "PNM"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01", "Canon raw"),
        (b"gimp xcf v011\0", "GIMP"),
        (b"\x8aMNG\r\n\x1a\n", "MNG"),
        (b"#define w 8\n#define h 8\n", "XBM"),
    ] {
        let error = decode(bytes, &DecodeOptions::default(), &Budget::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedImage);
        let expected = format!(
            "picture looks like {name}, which is not supported; convert it to JPEG, PNG, GIF, \
            WebP, BMP or TIFF"
        );
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(kind(b"hello, world"), ErrorKind::InvalidImage);
}

/// A PNG of these chunks.
fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let chunks: Vec<_> = chunks.iter().map(|(name, data)| hostile::chunk(name, data)).collect();
    [b"\x89PNG\r\n\x1a\n", &chunks.concat()[..]].concat()
}

/// One pixel of the index 1, as zlib stores it.
const INDEX: &[u8] = b"\x78\x01\x01\x02\0\xfd\xff\0\x01\0\x03\0\x02";

#[test]
fn png_chunks_behind_the_pixels_count_as_in_pillow() {
    let header = (b"IHDR", &b"\0\0\0\x01\0\0\0\x01\x08\x03\0\0\0"[..]);
    let palette = (b"PLTE", &b"\0\0\0\x0a\x14\x1e"[..]);
    let (pixels, alpha, end) = ((b"IDAT", INDEX), (b"tRNS", &b"\xff\0"[..]), (b"IEND", &b""[..]));
    let read = |chunks: &[_]| decode(&png(chunks), &DecodeOptions::default(), &Budget::default());
    assert_eq!(read(&[header, palette, pixels, end]).unwrap().pixels(), [10, 20, 30]);
    for shown in [[header, palette, alpha, pixels, end], [header, palette, pixels, alpha, end]] {
        assert_eq!(read(&shown).unwrap().pixels(), [255, 255, 255]);
    }
    for (broken, why) in [
        (
            &[header, pixels, palette, end][..],
            "there is no palette before its pixels, which need one",
        ),
        (&[pixels, header, palette, pixels, end][..], "its header is not the first chunk"),
    ] {
        let error = read(broken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidImage);
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

#[test]
fn run_lengths_of_single_bits_are_refused() {
    let mut file = b"BM\0\0\0\0\0\0\0\0".to_vec();
    for field in [62u32, 40, 8, 1, 1 | 1 << 16, 1, 4, 0, 0, 2, 0, 0, 0xff_ffff, 0x0100_0108] {
        file.extend(field.to_le_bytes());
    }
    let read = |file: &[u8]| decode(file, &DecodeOptions::default(), &Budget::default());
    let error = read(&file).unwrap_err();
    assert!(error.to_string().ends_with("1-bit pixels have no run lengths"), "{error}");
    // Of four bits and of eight there are some.
    for bits in [4, 8] {
        file[28] = bits;
        assert_eq!(read(&file).unwrap().pixels(), [255; 8 * 3]);
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

#[test]
fn malformed_corpora_are_survived() {
    let mut files = Vec::new();
    files_below(&support::project("test/fixtures/corpora"), &mut files);
    assert!(files.len() > 150, "only {} files", files.len());
    for path in files {
        let outcome = outcome(&std::fs::read(&path).unwrap(), Limits::default());
        let name = path.file_name().unwrap().to_string_lossy();
        if name.starts_with('x') && name.ends_with(".png") {
            assert_eq!(outcome, Some(ErrorKind::InvalidImage), "{name}");
        }
    }
}

#[test]
fn a_dirty_schedulers_stack_is_enough() {
    let job = || {
        for (_, bytes) in fixtures() {
            outcome(&bytes, Limits::default());
        }
        malformed_corpora_are_survived();
    };
    std::thread::Builder::new().stack_size(SMALL_STACK).spawn(job).unwrap().join().unwrap();
}
