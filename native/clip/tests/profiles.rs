//! Colours by an embedded profile against libvips, by `test/oracle/profiles.py`, and profiles that are
//! broken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use clip::error::{Error, ErrorKind};
use clip::image::{Background, ColorProfile, DecodeOptions, Rgb, decode};
use clip::{Budget, Limits, Preprocessing};

const SRGB: DecodeOptions = DecodeOptions {
    color_profile: ColorProfile::Srgb,
    background: Background::Color([255; 3]),
    least_side: None,
};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(support::project("test/fixtures/profiles").join(name)).unwrap()
}

fn converted(bytes: &[u8]) -> Result<Rgb, Error> {
    decode(bytes, &SRGB, &Budget::default())
}

fn ignored(bytes: &[u8]) -> Vec<u8> {
    decode(bytes, &DecodeOptions::default(), &Budget::default()).unwrap().pixels()
}

/// The mean of the differences, and the largest.
fn differences(left: &[u8], right: &[u8]) -> (f64, u8) {
    assert_eq!(left.len(), right.len());
    let each = || left.iter().zip(right).map(|(a, b)| a.abs_diff(*b));
    let sum: u32 = each().map(u32::from).sum();
    (f64::from(sum) / left.len() as f64, each().max().unwrap())
}

/// The parts of a JPEG's profile that its APP2 segments hold, and the file without them.
fn without_profile(jpeg: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mark = jpeg.windows(12).position(|bytes| bytes == b"ICC_PROFILE\0").unwrap();
    let length = usize::from(u16::from_be_bytes([jpeg[mark - 2], jpeg[mark - 1]]));
    let profile = jpeg[mark + 14..mark - 2 + length].to_vec();
    (profile, [&jpeg[..mark - 4], &jpeg[mark - 2 + length..]].concat())
}

/// A part of a profile in a JPEG: its number, how many there are, its bytes.
type Part<'a> = (u8, u8, &'a [u8]);

/// A JPEG with these parts of a profile.
fn with_parts(jpeg: &[u8], parts: &[Part<'_>]) -> Vec<u8> {
    let mut file = jpeg[..2].to_vec();
    for (number, count, part) in parts {
        let length = (part.len() as u16 + 16).to_be_bytes();
        file.extend(
            [b"\xff\xe2", &length[..], b"ICC_PROFILE\0", &[*number, *count], part].concat(),
        );
    }
    [&file, &jpeg[2..]].concat()
}

fn p3() -> (Vec<u8>, Vec<u8>) {
    without_profile(&fixture("p3.jpg"))
}

fn refusal(bytes: &[u8]) -> String {
    let error = converted(bytes).expect_err("an error");
    assert_eq!(error.kind(), ErrorKind::InvalidImage, "{error}");
    error.to_string()
}

#[test]
fn colors_equal_libvips() {
    // Tables are computed anew on another grid, so those differ by more.
    let bounds = [
        ("p3.jpg", 0.1, 1),
        ("p3.png", 0.1, 1),
        ("p3_alpha.png", 0.1, 1),
        ("p3_palette.png", 0.1, 1),
        ("p3.webp", 0.1, 1),
        ("adobe.jpg", 0.1, 1),
        ("adobe.tif", 0.1, 1),
        ("grey.jpg", 0.1, 1),
        ("grey_alpha.png", 0.1, 1),
        ("grey_lab.tif", 0.1, 1),
        ("inks.jpg", 1.5, 8),
        ("inks.tif", 1.5, 8),
        ("table.png", 1.5, 10),
    ];
    for (name, most, highest) in bounds {
        let bytes = fixture(name);
        let expected = fixture(&format!("{name}.rgb"));
        let (mean, max) = differences(&converted(&bytes).unwrap().pixels(), &expected);
        assert!(mean <= most && max <= highest, "{name}: {mean} {max}");
        let (plain, _) = differences(&ignored(&bytes), &expected);
        assert!(plain > 1.9, "{name} without its profile: {plain}");
    }
}

#[test]
fn a_picture_without_a_profile_stays_as_it_is() {
    let (_, plain) = p3();
    assert_eq!(converted(&plain).unwrap().pixels(), ignored(&plain));
}

#[test]
fn a_profile_that_is_ignored_is_not_read() {
    let (_, plain) = p3();
    let broken = with_parts(&plain, &[(1, 1, b"rubbish")]);
    assert_eq!(ignored(&broken), ignored(&plain));
    let large = vec![0; 65_000];
    let parts: Vec<_> = (1..=255).map(|number| (number, 255, &large[..])).collect();
    assert_eq!(ignored(&with_parts(&plain, &parts)), ignored(&plain));
}

#[test]
fn the_parts_of_a_profile_in_a_jpeg_may_be_in_any_order() {
    let (profile, plain) = p3();
    let expected = converted(&fixture("p3.jpg")).unwrap().pixels();
    let (first, rest) = profile.split_at(100);
    let (second, third) = rest.split_at(1);
    for parts in [
        [(1, 3, first), (2, 3, second), (3, 3, third)],
        [(3, 3, third), (1, 3, first), (2, 3, second)],
    ] {
        assert_eq!(converted(&with_parts(&plain, &parts)).unwrap().pixels(), expected);
    }
}

#[test]
fn parts_of_a_profile_in_a_jpeg_that_do_not_fit_are_an_error() {
    let (profile, plain) = p3();
    let (first, second) = profile.split_at(200);
    let cases: [(&[Part<'_>], &str); 8] = [
        (&[(1, 2, first)], "part 2 of 2 is missing"),
        (&[(2, 2, second)], "part 1 of 2 is missing"),
        (&[(1, 3, first), (3, 3, second)], "part 2 of 3 is missing"),
        (&[(1, 2, first), (2, 2, second), (2, 2, second)], "it has part 2 of 2 twice"),
        (&[(1, 2, first), (2, 3, second)], "its parts tell of different numbers of parts"),
        (&[(0, 1, &profile)], "it has a part 0 of 1"),
        (&[(2, 1, &profile)], "it has a part 2 of 1"),
        (&[(1, 0, &profile)], "it has a part 1 of 0"),
    ];
    for (parts, why) in cases {
        assert_eq!(
            refusal(&with_parts(&plain, parts)),
            format!(
                "cannot read the colour profile of the JPEG picture: {why}; decode it without its \
                profile"
            )
        );
    }
    let cut = [&plain[..2], b"\xff\xe2\0\x0fICC_PROFILE\0\x01", &plain[2..]].concat();
    assert!(refusal(&cut).contains("a part is cut short"));
}

#[test]
fn a_profile_for_pixels_of_another_kind_does_not_count() {
    let profile_of = |name| without_profile(&fixture(name)).0;
    let names = ["p3.jpg", "grey.jpg", "inks.jpg"];
    for name in names {
        let (_, plain) = without_profile(&fixture(name));
        for other in names.into_iter().filter(|other| *other != name) {
            let mixed = with_parts(&plain, &[(1, 1, &profile_of(other))]);
            assert_eq!(converted(&mixed).unwrap().pixels(), ignored(&plain), "{other} in {name}");
        }
        // Six inks, which no picture here has.
        let mut strange = profile_of(name);
        strange[16..20].copy_from_slice(b"6CLR");
        let strange = with_parts(&plain, &[(1, 1, &strange)]);
        assert_eq!(converted(&strange).unwrap().pixels(), ignored(&plain));
    }
}

#[test]
fn a_broken_profile_is_an_error() {
    let (profile, plain) = p3();
    let patched = |at: usize, bytes: &[u8]| {
        let mut profile = profile.clone();
        profile[at..at + bytes.len()].copy_from_slice(bytes);
        profile
    };
    let offset = 128 + 4 + 12 + 4;
    let entry = profile.windows(4).position(|bytes| bytes == b"rXYZ").unwrap();
    let red = u32::from_be_bytes(*profile[entry + 4..].first_chunk().unwrap()) as usize;
    let cases: [(Vec<u8>, &str); 14] = [
        (vec![], "it is cut short"),
        (profile[..127].to_vec(), "it is cut short"),
        (profile[..130].to_vec(), "it is cut short"),
        (profile[..140].to_vec(), "its list of tags is cut short"),
        (patched(36, b"rgb!"), "it is not an ICC profile"),
        (patched(128, &101u32.to_be_bytes()), "it has 101 tags, the limit is 100"),
        (patched(128, &[255; 4]), "it has 4294967295 tags"),
        (patched(offset, &[255; 4]), "its tag rXYZ is cut short"),
        (patched(offset - 4, b"none"), "it has no tag rXYZ"),
        (patched(12, b"link"), "it links two devices and describes no picture's colours"),
        (patched(12, b"abst"), "it changes colours and describes no picture's"),
        (patched(12, b"nmcl"), "it names single colours and describes no picture's"),
        (patched(12, b"dog!"), "it is of the class dog!"),
        (patched(red + 8, &[127; 4]), "its primaries do not add up to white"),
    ];
    for (profile, why) in cases {
        let message = refusal(&with_parts(&plain, &[(1, 1, &profile)]));
        assert!(message.contains(why), "{message}");
        assert!(message.ends_with("; decode it without its profile"), "{message}");
    }
    let large = vec![0; 65_000];
    let parts: Vec<_> = (1..=100).map(|number| (number, 100, &large[..])).collect();
    let message = refusal(&with_parts(&plain, &parts));
    assert!(message.contains("it is larger than 4194304 bytes"), "{message}");
}

#[test]
fn a_profile_without_a_way_to_srgb_is_an_error() {
    let (profile, plain) = without_profile(&fixture("inks.jpg"));
    let at = profile.windows(4).position(|bytes| bytes == b"A2B0").unwrap();
    let mut strange = profile.clone();
    strange[at..at + 4].copy_from_slice(b"D2B0");
    let message = refusal(&with_parts(&plain, &[(1, 1, &strange)]));
    assert!(message.contains("it has no tables"), "{message}");
}

#[test]
fn the_memory_of_a_profile_is_part_of_the_budget() {
    let limits = Limits { max_decode_bytes: 4 << 20, ..Limits::default() };
    let bytes = fixture("p3.png");
    decode(&bytes, &DecodeOptions::default(), &Budget::new(limits)).unwrap();
    let error = decode(&bytes, &SRGB, &Budget::new(limits)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImageTooLarge);
}

/// With an Exif block that has the picture turned by a quarter.
fn turned(jpeg: &[u8]) -> Vec<u8> {
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], b"\xff\xe1", &length, exif, &jpeg[2..]].concat()
}

#[test]
fn colors_of_fewer_and_of_turned_pixels_are_converted_too() {
    let photo = std::fs::read(support::project("priv/samples/dog.jpg")).unwrap();
    let photo = with_parts(&photo, &[(1, 1, &p3().0)]);
    let clip = Preprocessing::clip(16);
    let prepared = |bytes: &[u8], color_profile, least_side| {
        let options = DecodeOptions { color_profile, least_side, ..DecodeOptions::default() };
        let rgb = decode(bytes, &options, &Budget::default()).unwrap();
        (rgb.width(), clip.apply(&rgb).unwrap())
    };
    let (whole, exact) = prepared(&photo, ColorProfile::Srgb, None);
    let (fewer, fast) = prepared(&photo, ColorProfile::Srgb, Some(clip.least_side()));
    let (_, plain) = prepared(&photo, ColorProfile::Ignore, None);
    assert!(fewer < whole);
    let [off, lost] = [&fast, &plain].map(|pixels| differences(pixels, &exact).0);
    assert!(off < 1.0 && lost > 2.0, "{off} {lost}");

    let upright = converted(&fixture("p3.jpg")).unwrap();
    let turned = converted(&turned(&fixture("p3.jpg"))).unwrap();
    assert_eq!((turned.width(), turned.height()), (upright.height(), upright.width()));
    let corner = upright.pixels()[(upright.height() as usize - 1) * upright.width() as usize * 3..]
        [..3]
        .to_vec();
    assert_eq!(turned.pixels()[..3], corner);
}
