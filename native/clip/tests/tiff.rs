//! TIFF of every kind: against Pillow by `test/oracle/tiff.py`, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;
#[path = "support/tiff.rs"]
mod tiff;

use clip::error::{Error, ErrorKind};
use clip::image::{Background, DecodeOptions, Rgb, decode};
use clip::{Budget, Limits};
use tiff::Tiff;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(support::project("test/fixtures/tiff").join(name)).unwrap()
}

/// With transparency dropped, as Pillow's `convert("RGB")` does.
fn read(bytes: &[u8]) -> Result<Rgb, Error> {
    let options = DecodeOptions { background: Background::Drop, ..DecodeOptions::default() };
    decode(bytes, &options, &Budget::default())
}

fn refusal(bytes: &[u8]) -> Error {
    read(bytes).expect_err("an error")
}

#[test]
fn pixels_of_every_kind_equal_pillow() {
    let list = String::from_utf8(fixture("pillow.txt")).unwrap();
    assert!(list.lines().count() >= 45);
    for line in list.lines() {
        let (name, facts) = line.split_once(' ').unwrap();
        let rgb = read(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (width, height, crc) = (rgb.width(), rgb.height(), support::crc32(&rgb.pixels()));
        assert_eq!(format!("{width}x{height} {crc:08x}"), facts, "{name}");
    }
}

#[test]
fn cie_lab_is_within_a_level_of_pillow() {
    let [ours, theirs] = ["lab.tif", "lab.png"].map(|name| read(&fixture(name)).unwrap().pixels());
    let largest = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.abs_diff(*theirs)).max();
    assert!(ours.len() == theirs.len() && largest <= Some(1), "{largest:?}");
}

/// A grey picture of 4 x 4 pixels.
fn small() -> Tiff {
    Tiff::new(4, 4, 1, 1).chunks(vec![vec![9; 16]])
}

#[test]
fn what_is_not_read_is_named() {
    let rgb = |bits: &[u64]| Tiff::new(4, 4, 3, 2).with(258, bits).chunks(vec![vec![9; 96]]);
    let coded = |coding: u64| small().with(259, [coding]);
    for (file, what) in [
        (coded(6), "JPEG of the old kind (compression 6)"),
        (coded(34_925), "LZMA coding"),
        (coded(50_000), "Zstandard coding"),
        (coded(50_001), "WebP coding"),
        (coded(12_345), "compression 12345"),
        (coded(4), "fax coding of anything but one bit a pixel"),
        (coded(5).with(317, [3]), "predictor 3"),
        (coded(5).with(317, [2]).with(258, [4]), "a predictor with 4-bit samples"),
        (
            small().with(339, [3]),
            "a picture of floating-point samples, which have no agreed range,",
        ),
        (small().with(339, [6]), "a picture of complex samples, which have no agreed range,"),
        (small().with(339, [0]), "sample format 0"),
        (
            Tiff::new(4, 4, 2, 1).with(259, [7]).chunks(vec![vec![9; 32]]),
            "JPEG of 2 samples a pixel",
        ),
        (small().with(339, [2]), "a picture of signed samples, which have no agreed range,"),
        (small().with(258, [32]), "a 32-bit sample in this colour space"),
        (small().with(262, [4]), "a transparency mask without a picture"),
        (small().with(262, [32_803]), "raw data of a camera's sensor"),
        (small().with(262, [77]), "colour space 77"),
        (rgb(&[5, 6, 5]), "a pixel whose samples differ in their number of bits"),
        (
            small().with(277, [4]).with(258, [8; 4]),
            "a pixel of 4 samples, 3 of them without a meaning,",
        ),
    ] {
        let error = refusal(&file.bytes());
        assert_eq!(error.kind(), ErrorKind::UnsupportedImage, "{error}");
        let expected = format!(
            "cannot decode the TIFF picture: {what} is not supported; convert it to a plain PNG or \
            JPEG"
        );
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn what_contradicts_itself_is_damage() {
    let filled = |byte| Tiff::new(4, 4, 1, 1).chunks(vec![vec![byte; 16]]);
    let two = || Tiff::new(4, 4, 1, 1).with(278, [2]).chunks(vec![vec![9; 8], vec![9; 8]]);
    for (file, reason) in [
        (small().without(273), "it has no strips"),
        (small().with(278, [0]), "its strips are 4 x 0 pixels"),
        (small().tiled(0, 16), "its tiles are 0 x 16 pixels"),
        (small().with(273, [9, 9]), "the number of its strips is 2, its size asks for 1"),
        (small().with(278, [2]), "the number of its strips is 1, its size asks for 2"),
        (small().with(273, [0]), "number 0 of its strips is 16 bytes at 0, the file ends at"),
        (small().with(273, [u32::MAX.into()]), "number 0 of its strips is 16 bytes at 4294967295"),
        (small().with(259, [5]).with(279, [1_000_000]), "number 0 of its strips is 1000000 bytes"),
        (two().with(273, [8, 15]), "two of its strips share the bytes at 15"),
        (small().with(277, [0]), "its pixels have no samples"),
        (small().with(262, [2]), "its pixels have 1 of 3 samples"),
        (small().with(262, [3]), "its palette is missing"),
        (filled(0).with(259, [5]), "pixels are missing"),
        (small().with(259, [32_773]), "pixels are missing"),
        (filled(255).with(259, [5]), "its LZW coding is broken"),
        (filled(0).with(259, [4]).with(258, [1]), "its fax coding is broken"),
        (filled(0).with(259, [8]), "its Deflate coding is broken (BadZlibHeader)"),
    ] {
        let error = refusal(&file.bytes());
        assert_eq!(error.kind(), ErrorKind::InvalidImage, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let mut wrong = tiff::stored(&[9; 16]);
    *wrong.last_mut().unwrap() ^= 1;
    let error = refusal(&Tiff::new(4, 4, 1, 1).with(259, [8]).chunks(vec![wrong]).bytes());
    assert!(error.to_string().contains("the checksum of its pixels is wrong"), "{error}");
}

/// Three strips of four rows, each Deflate of levels that count on.
fn strips() -> (Tiff, Vec<u8>, Vec<u64>) {
    let pixels: Vec<u8> = (0..48).collect();
    let strips: Vec<_> = pixels.chunks(16).map(tiff::stored).collect();
    let lengths = strips.iter().map(|strip| strip.len() as u64).collect();
    (Tiff::new(4, 12, 1, 1).with(259, [8]).with(278, [4]).chunks(strips), pixels, lengths)
}

fn levels(bytes: &[u8]) -> Vec<u8> {
    read(bytes).unwrap().pixels().iter().step_by(3).copied().collect()
}

#[test]
fn coded_strips_that_are_named_beyond_the_picture_are_not_read() {
    let (tiff, pixels, lengths) = strips();
    let step = lengths[0];
    for beyond in [8, u64::from(u32::MAX), 0] {
        let named = tiff.clone().with(273, [8, 8 + step, 8 + 2 * step, beyond]);
        let named = named.with(279, [step, step, step, u32::MAX.into()]);
        assert_eq!(levels(&named.bytes()), pixels, "{beyond}");
    }
}

#[test]
fn a_coded_strip_whose_length_reaches_into_the_next_is_read() {
    let (tiff, pixels, lengths) = strips();
    for more in [1, 10, lengths[0]] {
        // The directory follows the last one.
        let longer: Vec<_> = lengths.iter().map(|length| length + more).collect();
        assert_eq!(levels(&tiff.clone().with(279, longer).bytes()), pixels, "{more}");
    }
    // But not one that is said to begin where another does, or lengths of many files.
    let first = tiff.clone().with(273, [8, 8, 8 + 2 * lengths[0]]).bytes();
    assert!(refusal(&first).to_string().contains("two of its strips share the bytes at 8"));
    let rows = Tiff::new(4, 12, 1, 1).with(259, [8]).with(278, [1]);
    let rows = rows.chunks(pixels.chunks(4).map(tiff::stored).collect());
    let file = rows.bytes().len() as u64;
    let rest = (0..12).map(|at| file - 8 - 15 * at).collect::<Vec<_>>();
    assert!(refusal(&rows.with(279, rest).bytes()).to_string().contains("share the bytes"));
}

#[test]
fn a_tile_may_be_larger_than_the_limit_of_pictures() {
    for (width, height) in [(8192, 8192), (16, 65_536), (16_384, 16)] {
        let mut tile = vec![0; 12 * width];
        (0..48).for_each(|at| tile[at / 4 * width + at % 4] = at as u8);
        // The rows below the picture are missing, and are not decoded.
        for coding in [1, 8] {
            let chunk = if coding == 1 { tile.clone() } else { tiff::stored(&tile) };
            let tiff = Tiff::new(4, 12, 1, 1).with(259, [coding]);
            let tiff = tiff.tiled(width as u32, height).chunks(vec![chunk]);
            assert_eq!(levels(&tiff.bytes()), (0..48).collect::<Vec<u8>>(), "{width} x {height}");
        }
    }
    for (size, said) in [
        ((16_385, 16), "1 x 1 pieces of 16385 x 16 pixels, the limit is 16384 a side"),
        ((4096, 4096), "1 x 1 pieces of 4096 x 4096 pixels, the limit is 8000 to decode"),
    ] {
        let limits = Limits { max_pixels: 4000, ..Limits::default() };
        let bytes = small().tiled(size.0, size.1).bytes();
        let error = decode(&bytes, &DecodeOptions::default(), &Budget::new(limits)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ImageTooLarge);
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn an_index_that_the_palette_lacks_is_black() {
    let colors = [1, 2, 3, 4, 5, 6].map(|level| level << 8 | 9);
    for (bits, row) in [(8, vec![1, 0, 2, 255]), (4, vec![0x10, 0x2f])] {
        let tiff = Tiff::new(4, 1, 1, 3).with(258, [bits]).with(320, colors).chunks(vec![row]);
        let pixels = read(&tiff.bytes()).unwrap().pixels();
        assert_eq!(pixels[..6], [2, 4, 6, 1, 3, 5]);
        assert_eq!(pixels[6..], [0; 6], "{bits} bits");
    }
}

/// Where the entry of a tag begins in a little-endian file.
fn entry(bytes: &[u8], tag: u16) -> usize {
    let directory = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize + 2;
    let mut entries = (directory..bytes.len()).step_by(12);
    entries.find(|at| bytes[*at..].starts_with(&tag.to_le_bytes())).unwrap()
}

#[test]
fn an_orientation_counts_in_every_type_of_numbers() {
    // As Pillow: bytes (1, 7) and text (2) are not numbers.
    for (kind, turned) in
        [(1, false), (2, false), (3, true), (4, true), (6, true), (7, false), (8, true), (9, true)]
    {
        let mut bytes = Tiff::new(4, 2, 1, 1).with(274, [6]).chunks(vec![vec![9; 8]]).bytes();
        let at = entry(&bytes, 274);
        bytes[at + 2] = kind;
        let rgb = read(&bytes).unwrap();
        let size = if turned { (2, 4) } else { (4, 2) };
        assert_eq!((rgb.width(), rgb.height()), size, "type {kind}");
    }
}

#[test]
fn a_torn_file_is_refused_wherever_it_is_torn() {
    for line in String::from_utf8(fixture("pillow.txt")).unwrap().lines() {
        let name = line.split(' ').next().unwrap();
        let bytes = fixture(name);
        // The directory stands at the end, its values behind it; what Pillow wrote has it in front.
        for part in (0..64).filter(|_| !name.starts_with("jpeg")) {
            let error = refusal(&bytes[..bytes.len() * part / 64]);
            assert_eq!(error.kind(), ErrorKind::InvalidImage, "{name}, {part} of 64: {error}");
        }
    }
}

#[test]
fn fax_coding_passes_over_a_broken_row_only_where_a_mark_follows() {
    // Rows of 8 white pixels: a mark, and a run of 8.
    let row = "00000000000110011";
    let bits = |text: &str| tiff::pack(text.bytes().map(|bit| u16::from(bit - b'0')), 1);
    let file = |coding: u64, text: &str| {
        let tiff = Tiff::new(8, 3, 1, 0).with(258, [1]).with(259, [coding]);
        read(&tiff.chunks(vec![bits(text)]).bytes())
    };
    let white = vec![255; 3 * 3 * 8];
    assert_eq!(file(3, &row.repeat(3)).unwrap().pixels(), white);
    // No run begins with eight zeros and a one.
    let broken = format!("{row}000000000001000000001111{row}");
    assert_eq!(file(3, &broken).unwrap().pixels(), white);
    let error = file(3, &row.repeat(2)).unwrap_err();
    assert!(error.to_string().contains("pixels are missing"), "{error}");
    // Group 4: rows like the one above, then the end of the picture, or its end too early.
    let end = "000000000001";
    assert_eq!(file(4, &format!("11{end}{end}")).unwrap().pixels(), white);
    let error = file(4, &format!("1{}", "00000010".repeat(9))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedImage, "{error}");
    let error = file(4, "1100000000000000010101010101").unwrap_err();
    assert!(error.to_string().contains("its fax coding is broken"), "{error}");
}

#[test]
fn a_code_of_lzw_may_stand_for_what_it_is_made_of() {
    // "a" and twice the code for "aa", which is made as it is used; then the one that grew.
    let codes = [256, 97, 258, 259, 257];
    let file = Tiff::new(6, 1, 1, 1).with(259, [5]);
    let rgb = read(&file.chunks(vec![tiff::pack(codes, 9)]).bytes()).unwrap();
    assert_eq!(rgb.pixels(), [97; 18]);
}
