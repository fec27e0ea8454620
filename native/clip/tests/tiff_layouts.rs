//! TIFF in every layout: the same pixels come out, however a file keeps them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/tiff.rs"]
mod tiff;

use std::ops::Range;

use clip::Budget;
use clip::image::{Background, DecodeOptions, decode};
use tiff::Tiff;

const WIDTH: usize = 21;
const HEIGHT: usize = 19;

/// A kind of picture, and what its pixels become.
struct Kind {
    name: &'static str,
    photometric: u16,
    samples: u16,
    bits: u32,
    extra: &'static [u64],
    rgb: fn(&[u16]) -> [u8; 3],
}

fn palette() -> Vec<u64> {
    (0..768).map(|at| at * 40_503 % 65_536).collect()
}

fn indexed(index: u16, colors: usize) -> [u8; 3] {
    let map = &palette()[..3 * colors];
    [0, 1, 2].map(|channel| (map[channel * colors + usize::from(index)] >> 8) as u8)
}

fn grey(level: u16) -> [u8; 3] {
    [level as u8; 3]
}

#[rustfmt::skip]
fn kinds() -> Vec<Kind> {
    let kind = |name, photometric, samples, bits, extra, rgb| Kind { name, photometric, samples, bits, extra, rgb };
    vec![
        kind("grey 1", 1, 1, 1, &[], |s| grey(s[0] * 255)),
        kind("grey 2", 1, 1, 2, &[], |s| grey(s[0] * 85)),
        kind("grey 4", 1, 1, 4, &[], |s| grey(s[0] * 17)),
        kind("grey 8", 1, 1, 8, &[], |s| grey(s[0])),
        kind("grey 12", 1, 1, 12, &[], |s| grey(s[0] >> 4)),
        kind("grey 16", 1, 1, 16, &[], |s| grey(s[0] >> 8)),
        kind("white is 0, 1", 0, 1, 1, &[], |s| grey(255 - s[0] * 255)),
        kind("white is 0, 4", 0, 1, 4, &[], |s| grey(255 - s[0] * 17)),
        kind("white is 0, 8", 0, 1, 8, &[], |s| grey(255 - s[0])),
        kind("white is 0, 16", 0, 1, 16, &[], |s| grey(255 - (s[0] >> 8))),
        kind("grey and alpha", 1, 2, 8, &[2], |s| grey(s[0])),
        kind("grey and another", 1, 2, 8, &[0], |s| grey(s[0])),
        kind("palette 1", 3, 1, 1, &[], |s| indexed(s[0], 2)),
        kind("palette 2", 3, 1, 2, &[], |s| indexed(s[0], 4)),
        kind("palette 4", 3, 1, 4, &[], |s| indexed(s[0], 16)),
        kind("palette 8", 3, 1, 8, &[], |s| indexed(s[0], 256)),
        kind("palette and alpha", 3, 2, 8, &[2], |s| indexed(s[0], 256)),
        kind("palette and another", 3, 2, 8, &[0], |s| indexed(s[0], 256)),
        kind("RGB 4", 2, 3, 4, &[], |s| [0, 1, 2].map(|at| s[at] as u8 * 17)),
        kind("RGB 8", 2, 3, 8, &[], |s| [0, 1, 2].map(|at| s[at] as u8)),
        kind("RGB 16", 2, 3, 16, &[], |s| [0, 1, 2].map(|at| (s[at] >> 8) as u8)),
        kind("RGBA", 2, 4, 8, &[2], |s| [0, 1, 2].map(|at| s[at] as u8)),
        kind("RGB and two more", 2, 5, 8, &[0, 0], |s| [0, 1, 2].map(|at| s[at] as u8)),
        kind("premultiplied", 2, 4, 8, &[1], |s| {
            [0, 1, 2].map(|at| (s[at] * 255).checked_div(s[3]).unwrap_or(0).min(255) as u8)
        }),
        kind("CMYK", 5, 4, 8, &[], |s| {
            let light = u32::from(255 - s[3]);
            [0, 1, 2].map(|at| (light - (u32::from(s[at]) * light + 127) / 255) as u8)
        }),
    ]
}

/// The samples of a picture of noise, pixel by pixel.
fn noise(kind: &Kind) -> Vec<Vec<u16>> {
    let mut state = 5u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 48) as u16 >> (16 - kind.bits)
    };
    (0..WIDTH * HEIGHT).map(|_| (0..kind.samples).map(|_| next()).collect()).collect()
}

/// How a picture is laid out.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Width and height of tiles, or rows of a strip.
    tile: Option<(usize, usize)>,
    rows: usize,
    planar: bool,
    turned: bool,
    big_endian: bool,
    big: bool,
    coding: u64,
    predictor: bool,
}

fn shapes(kind: &Kind) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for tile in [None, Some((16, 16)), Some((40, 8)), Some((7, 3))] {
        for (coding, rows) in [(1, HEIGHT), (5, 5), (8, 1), (32_946, 7), (32_773, 3)] {
            for bits in 0..32 {
                let is = |bit: u32| bits >> bit & 1 == 1;
                shapes.push(Shape {
                    tile,
                    rows,
                    coding,
                    planar: is(0),
                    turned: is(1),
                    big_endian: is(2),
                    big: is(3),
                    predictor: is(4),
                });
            }
        }
    }
    let has_predictor = |coding| [5, 8].contains(&coding) && [8, 16].contains(&kind.bits);
    shapes.retain(|shape| !shape.planar || kind.samples > 1);
    shapes.retain(|shape| !shape.predictor || has_predictor(shape.coding));
    shapes
}

fn coded(coding: u64, data: &[u8]) -> Vec<u8> {
    match coding {
        5 => tiff::lzw(data),
        8 | 32_946 => tiff::stored(data),
        32_773 => tiff::packbits(data),
        _ => data.to_vec(),
    }
}

/// One strip or tile: these samples of the pixels in a rectangle, edges repeated.
fn piece(
    (kind, shape): (&Kind, Shape),
    pixels: &[Vec<u16>],
    (columns, rows): (Range<usize>, Range<usize>),
    samples: Range<usize>,
) -> Vec<u8> {
    let mut data = Vec::new();
    for y in rows.map(|y| y.min(HEIGHT - 1)) {
        let mut row: Vec<u16> = Vec::new();
        for x in columns.clone().map(|x| x.min(WIDTH - 1)) {
            row.extend(&pixels[y * WIDTH + x][samples.clone()]);
        }
        if shape.predictor {
            let mask = u16::MAX >> (16 - kind.bits);
            for at in (samples.len()..row.len()).rev() {
                row[at] = row[at].wrapping_sub(row[at - samples.len()]) & mask;
            }
        }
        match (kind.bits, shape.big_endian) {
            (16, false) => data.extend(row.iter().flat_map(|sample| sample.to_le_bytes())),
            _ => data.extend(tiff::pack(row, kind.bits)),
        }
    }
    let mut data = coded(shape.coding, &data);
    if shape.turned {
        data.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }
    data
}

fn pieces(kind: &Kind, shape: Shape, pixels: &[Vec<u16>]) -> Vec<Vec<u8>> {
    let (width, height) = shape.tile.unwrap_or((WIDTH, shape.rows));
    let samples = usize::from(kind.samples);
    let together = if shape.planar { 1 } else { samples };
    let mut pieces = Vec::new();
    for first in (0..samples).step_by(together) {
        for top in (0..HEIGHT).step_by(height) {
            let end = if shape.tile.is_some() { top + height } else { HEIGHT.min(top + height) };
            for left in (0..WIDTH).step_by(width) {
                let place = (left..left + width, top..end);
                pieces.push(piece((kind, shape), pixels, place, first..first + together));
            }
        }
    }
    pieces
}

fn file(kind: &Kind, shape: Shape, pixels: &[Vec<u16>]) -> Vec<u8> {
    let mut tiff = Tiff::new(WIDTH as u32, HEIGHT as u32, kind.samples, kind.photometric)
        .with(258, vec![kind.bits.into(); kind.samples.into()])
        .with(259, [shape.coding])
        .with(266, [1 + u64::from(shape.turned)])
        .with(278, [shape.rows as u64])
        .with(284, [1 + u64::from(shape.planar)]);
    (tiff.big_endian, tiff.big) = (shape.big_endian, shape.big);
    if let Some((width, height)) = shape.tile {
        tiff = tiff.tiled(width as u32, height as u32);
    }
    if shape.predictor {
        tiff = tiff.with(317, [2]);
    }
    if !kind.extra.is_empty() {
        tiff = tiff.with(338, kind.extra);
    }
    if kind.photometric == 3 {
        tiff = tiff.with(320, &palette()[..3 << kind.bits]);
    }
    tiff.chunks(pieces(kind, shape, pixels)).bytes()
}

#[test]
fn every_layout_holds_the_same_picture() {
    let mut files = 0;
    for kind in kinds() {
        let pixels = noise(&kind);
        let expected: Vec<u8> = pixels.iter().flat_map(|samples| (kind.rgb)(samples)).collect();
        for shape in shapes(&kind) {
            let name = kind.name;
            let bytes = file(&kind, shape, &pixels);
            let rgb = decode(
                &bytes,
                &DecodeOptions { background: Background::Drop, ..DecodeOptions::default() },
                &Budget::default(),
            );
            let rgb = rgb.unwrap_or_else(|error| panic!("{name}, {shape:?}: {error}"));
            assert_eq!((rgb.width() as usize, rgb.height() as usize), (WIDTH, HEIGHT));
            assert!(rgb.pixels() == expected, "{name}, {shape:?}");
            files += 1;
        }
    }
    assert!(files > 7_000, "{files}");
}
