//! WebP of every kind against Pillow, by `test/oracle/webp.py`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use clip::Budget;
use clip::error::{Error, ErrorKind};
use clip::image::{Background, DecodeOptions, decode};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(support::project("test/fixtures/webp").join(name)).unwrap()
}

/// "WIDTHxHEIGHT CRC32 CRC32", over white and with alpha dropped.
fn facts(bytes: &[u8]) -> Result<String, Error> {
    let read = |background| {
        decode(bytes, &DecodeOptions { background, ..Default::default() }, &Budget::default())
    };
    let white = read(Background::default())?;
    let dropped = read(Background::Drop)?;
    let [over, under] = [&white, &dropped].map(|rgb| support::crc32(&rgb.pixels()));
    Ok(format!("{}x{} {over:08x} {under:08x}", white.width(), white.height()))
}

#[test]
fn every_kind_is_decoded_or_refused_as_by_pillow() {
    let list = String::from_utf8(fixture("pillow.txt")).unwrap();
    assert!(list.lines().count() >= 100);
    for line in list.lines() {
        let (name, expected) = line.split_once(' ').unwrap();
        match facts(&fixture(name)) {
            Ok(facts) => assert_eq!(facts, expected, "{name}"),
            Err(error) => {
                assert_eq!(expected, "refused", "{name}: {error}");
                assert_eq!(error.kind(), ErrorKind::InvalidImage, "{name}: {error}");
                assert!(error.to_string().contains("the WebP picture"), "{name}: {error}");
            }
        }
    }
}
