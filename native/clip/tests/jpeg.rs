//! JPEG of every kind against Pillow, by `test/oracle/jpeg.py`, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/hostile.rs"]
mod hostile;
mod support;

use clip::error::{Error, ErrorKind};
use clip::image::{DecodeOptions, Rgb, decode};
use clip::{Budget, Limits, Preprocessing};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(support::project("test/fixtures").join(name)).unwrap()
}

fn read_within(bytes: &[u8], limits: Limits) -> Result<Rgb, Error> {
    decode(bytes, &DecodeOptions::default(), &Budget::new(limits))
}

fn read(bytes: &[u8]) -> Result<Rgb, Error> {
    read_within(bytes, Limits::default())
}

/// Decoded to as few pixels as do for `size`, if `fast`, and what becomes of them.
fn prepared(bytes: &[u8], size: u32, fast: bool) -> (Rgb, Vec<u8>) {
    let clip = Preprocessing::clip(size);
    let least_side = fast.then(|| clip.least_side());
    let options = DecodeOptions { least_side, ..DecodeOptions::default() };
    let rgb = decode(bytes, &options, &Budget::default()).unwrap();
    let pixels = clip.apply(&rgb).unwrap();
    (rgb, pixels)
}

fn mean_difference(left: &[u8], right: &[u8]) -> f64 {
    assert_eq!(left.len(), right.len());
    let sum: u32 = left.iter().zip(right).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    f64::from(sum) / left.len() as f64
}

fn refusal(bytes: &[u8]) -> Error {
    read(bytes).expect_err("an error")
}

#[test]
fn pixels_of_every_kind_equal_pillow() {
    let list = String::from_utf8(fixture("jpeg/pillow.txt")).unwrap();
    assert!(list.lines().count() >= 30);
    for line in list.lines() {
        let (name, facts) = line.split_once(' ').unwrap();
        let rgb = read(&fixture(&format!("jpeg/{name}"))).unwrap();
        let (width, height, crc) = (rgb.width(), rgb.height(), support::crc32(&rgb.pixels()));
        assert_eq!(format!("{width}x{height} {crc:08x}"), facts, "{name}");
    }
}

/// Where the coded pixels of a file of one scan begin.
fn scan_of(bytes: &[u8]) -> usize {
    bytes.windows(2).position(|pair| pair == b"\xff\xda").unwrap() + 14
}

#[test]
fn pixels_that_are_cut_short_are_damage_even_before_an_end_marker() {
    for name in ["pictures/rgb.jpg", "pictures/restart.jpg"] {
        let whole = fixture(name);
        let begin = scan_of(&whole);
        // Less than an interval is missing after the last restart marker, as after a stray byte.
        let last = whole.windows(2).rposition(|pair| pair[0] == 0xff && pair[1] & 0xf8 == 0xd0);
        let end = last.unwrap_or(whole.len() - 4);
        for part in 0..=16 {
            let cut = begin + (end - begin) * part / 16;
            let error = refusal(&[&whole[..cut], b"\xff\xd9"].concat());
            assert_eq!(error.kind(), ErrorKind::InvalidImage, "{name} at {cut}: {error}");
        }
    }
}

/// The header of a file with something that libjpeg warns of though no pixel suffers.
fn oddities(name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let whole = fixture(name);
    let first = 4 + usize::from(u16::from_be_bytes([whole[4], whole[5]]));
    let scan = scan_of(&whole);
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x09";
    assert_eq!(&whole[6..11], b"JFIF\0", "{name}");
    vec![
        ("a stray byte", [&whole[..first], b"\0", &whole[first..]].concat()),
        ("a stuffed byte", [&whole[..first], b"\xff\0", &whole[first..]].concat()),
        ("stray bytes", [&whole[..scan - 14], &[7; 999], &whole[scan - 14..]].concat()),
        ("JFIF of the future", changed(11, 3)),
        ("an unknown Adobe transform", [&whole[..2], adobe, &whole[first..]].concat()),
        ("a last frequency of 0", changed(scan - 2, 0)),
        ("a first frequency of 7", changed(scan - 3, 7)),
        ("an approximation", changed(scan - 1, 0x21)),
    ]
}

#[test]
fn a_harmless_oddity_hides_no_damage() {
    let name = "pictures/rgb.jpg";
    let pixels = read(&fixture(name)).unwrap().pixels();
    for (oddity, bytes) in oddities(name) {
        assert!(read(&bytes).unwrap().pixels() == pixels, "{oddity}");
        let scan = scan_of(&bytes);
        for part in 1..16 {
            let cut = scan + (bytes.len() - scan) * part / 16;
            let error = refusal(&[&bytes[..cut], b"\xff\xd9"].concat());
            assert_eq!(error.kind(), ErrorKind::InvalidImage, "{oddity}, {part}/16: {error}");
            assert!(error.to_string().ends_with("premature end of data segment"), "{error}");
        }
    }
}

#[test]
fn a_stray_byte_between_scans_hides_no_damage() {
    let whole = fixture("pictures/progressive.jpg");
    let pixels = read(&whole).unwrap().pixels();
    let scans: Vec<_> =
        (0..whole.len() - 1).filter(|at| whole[*at..*at + 2] == *b"\xff\xda").collect();
    // Tables before a scan, and a stray byte between them and the scan.
    let stray = scans[1];
    assert!(scans.len() > 3);
    let bytes = [&whole[..stray], b"\xff\xfe\0\x02\0", &whole[stray..]].concat();
    assert!(read(&bytes).unwrap().pixels() == pixels);
    let last = scans[scans.len() - 1] + 5 + 12;
    let error = refusal(&[&bytes[..last], b"\xff\xd9"].concat());
    assert_eq!(error.kind(), ErrorKind::InvalidImage, "{error}");
    // Behind coded pixels the library alone knows where they begin, and it tells of the first only.
    let tables =
        scans[0] + whole[scans[0]..].windows(2).position(|two| two == b"\xff\xc4").unwrap();
    for (at, readable) in [(whole.len() - 2, true), (tables, false)] {
        let bytes = [&whole[..at], &[0; 99], &whole[at..]].concat();
        assert_eq!(read(&bytes).is_ok_and(|rgb| rgb.pixels() == pixels), readable, "{at}");
    }
}

#[test]
fn a_file_without_its_end_marker_is_damaged() {
    for name in ["pictures/rgb.jpg", "pictures/progressive.jpg", "jpeg/arithmetic.jpg"] {
        let whole = fixture(name);
        let error = refusal(&whole[..whole.len() - 2]);
        assert!(error.to_string().ends_with("its end is missing"), "{name}: {error}");
    }
}

#[test]
fn most_restart_markers_have_to_be_there() {
    let whole = fixture("jpeg/doubled_restart_marker.jpg");
    let begin = scan_of(&whole);
    let markers =
        || (begin..whole.len()).filter(|at| whole[*at] == 0xff && whole[*at + 1] & 0xf8 == 0xd0);
    let without = |part: usize| {
        let gone: Vec<_> =
            markers().enumerate().filter(|(i, _)| i % 8 < part).map(|(_, at)| at).collect();
        let kept =
            (0..whole.len()).filter(|at| !gone.iter().any(|gone| (*gone..gone + 2).contains(at)));
        kept.map(|at| whole[at]).collect::<Vec<_>>()
    };
    read(&without(1)).unwrap();
    let error = refusal(&without(4));
    assert_eq!(error.kind(), ErrorKind::InvalidImage);
    assert!(error.to_string().contains(" restart markers"), "{error}");
}

#[test]
fn variants_that_are_not_read_are_named() {
    let changed = |at: usize, byte: u8| {
        let mut bytes = hostile::grey_jpeg(16, 16, 1);
        bytes[at] = byte;
        bytes
    };
    let frame = 2 + 69;
    let [process, bits, height, channels] = [frame + 1, frame + 4, frame + 6, frame + 9];
    read(&changed(process, 0xc0)).unwrap();
    let late_height = [&changed(height, 0)[..], b"\xff\xdc\0\x04\0\x10\xff\xd9"].concat();
    let cases = [
        (changed(process, 0xc5), "SOF type 0xc5"),
        (changed(process, 0xcb), "arithmetic coding is not implemented"),
        (changed(bits, 12), "a sample of 12 bits"),
        (changed(channels, 0), "a pixel of 0 channels"),
    ];
    for (bytes, reason) in cases {
        let error = refusal(&bytes);
        assert_eq!(error.kind(), ErrorKind::UnsupportedImage, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let end = late_height.len() - 8 - 2;
    let late_height = [&late_height[..end], &late_height[end + 2..]].concat();
    let error = refusal(&late_height);
    assert_eq!(error.kind(), ErrorKind::UnsupportedImage, "{error}");
    assert!(error.to_string().contains("(DNL)"), "{error}");
    assert_eq!(refusal(&changed(height, 0)).kind(), ErrorKind::InvalidImage);
}

#[test]
fn jpeg_ls_is_named() {
    let mut bytes = hostile::grey_jpeg(16, 16, 1);
    let frame = bytes.windows(2).position(|two| two == b"\xff\xc0").unwrap();
    bytes[frame + 1] = 0xf7;
    let error = refusal(&bytes);
    assert_eq!(error.kind(), ErrorKind::UnsupportedImage);
    assert!(error.to_string().contains("JPEG-LS"), "{error}");
}

#[test]
fn a_second_frame_is_damage() {
    let one = hostile::grey_jpeg(16, 16, 1);
    let frame = &one[71..71 + 13];
    let twice = [&one[..71], frame, &one[71..]].concat();
    let after_scan = [&one[..one.len() - 2], frame, b"\xff\xd9"].concat();
    for bytes in [twice, after_scan] {
        let error = refusal(&bytes);
        assert_eq!(error.kind(), ErrorKind::InvalidImage);
        assert!(error.to_string().contains("two SOF markers"), "{error}");
    }
}

#[test]
fn what_could_take_long_is_refused_with_the_figure() {
    // Each scan refines all coefficients of 1,000 blocks, 16,384 at a time, in two bytes.
    let refine = b"\xff\xda\0\x08\x01\x01\0\x01\x3f\x10\x2a\xaa\x2a\xaa";
    let mut head = hostile::jpeg(8000, 6000, true);
    head.truncate(head.len() - hostile::scan().len());
    let bytes = [&head[..], hostile::scan(), &refine.repeat(60), b"\xff\xd9"].concat();
    let error = refusal(&bytes);
    assert_eq!(error.kind(), ErrorKind::ImageTooLarge);
    assert!(error.to_string().contains("8000 x 6000 pixels in 61 scans could take"), "{error}");
    assert!(error.to_string().contains("the limit is 2000 ms"), "{error}");
    let error = refusal(&hostile::grey_jpeg(100, 100, 200));
    assert!(error.to_string().contains("has 200 scans, the limit is 100"), "{error}");
}

#[test]
fn arithmetic_coding_costs_more() {
    let pixels = |bytes: &[u8], max_pixels| {
        read_within(bytes, Limits { max_pixels, ..Limits::default() }).map_err(|error| error.kind())
    };
    // 93 x 71 pixels, and 160 x 120.
    let huffman = fixture("jpeg/luma_3x1.jpg");
    let arithmetic = fixture("jpeg/arithmetic.jpg");
    assert!(pixels(&huffman, 20_000).is_ok());
    assert_eq!(pixels(&arithmetic, 20_000).unwrap_err(), ErrorKind::ImageTooLarge);
    assert!(pixels(&arithmetic, 200_000).is_ok());
}

#[test]
fn fewer_pixels_are_decoded_where_they_do() {
    let photo = fixture("jpeg/stray_bytes_before_rst.jpg");
    for (size, width, height) in [(107, 640, 427), (53, 320, 214), (26, 160, 107), (13, 80, 54)] {
        let (rgb, pixels) = prepared(&photo, size, true);
        assert_eq!((rgb.width(), rgb.height()), (width, height), "for {size}");
        let off = mean_difference(&pixels, &prepared(&photo, size, false).1);
        assert!(off <= 0.5, "{off} levels off for {size}");
    }
}

#[test]
fn fewer_pixels_keep_their_place_in_every_orientation() {
    for n in 1..=8 {
        let bytes = fixture(&format!("pictures/orientation_{n}.jpg"));
        let (exact, expected) = prepared(&bytes, 4, false);
        let (fast, pixels) = prepared(&bytes, 4, true);
        assert_eq!((2 * fast.width(), 2 * fast.height()), (exact.width(), exact.height()));
        let off = mean_difference(&pixels, &expected);
        assert!(off <= 1.0, "{off} levels off in orientation {n}");
    }
}

#[test]
fn pictures_that_cannot_be_decoded_to_fewer_pixels_are_decoded_to_all() {
    for name in ["jpeg/lossless_grey.jpg", "pictures/rgb.png", "jpeg/luma_3x1.jpg"] {
        let bytes = fixture(name);
        let size = if name.contains("luma") { 16 } else { 2 };
        assert_eq!(prepared(&bytes, size, true).1, prepared(&bytes, size, false).1, "{name}");
    }
}
