//! Pictures as numbers: types, scales, axes.

#![allow(clippy::unwrap_used, clippy::float_cmp)]

use clip::image::{Background, DecodeOptions, NumberType, Numbers, Scale, from_numbers};
use clip::{Budget, ErrorKind};

/// One row of grey.
fn grey(data: &[u8], number: NumberType, scale: Scale, width: u32) -> Numbers<'_> {
    Numbers {
        data,
        number,
        scale,
        shape: [1, width, 1],
        strides: [width.into(), 1, 1],
        inks: false,
    }
}

fn run(numbers: &Numbers<'_>) -> Result<Vec<u8>, String> {
    let options =
        DecodeOptions { background: Background::Color([0, 0, 0]), ..DecodeOptions::default() };
    match from_numbers(numbers, &options, &Budget::default()) {
        Ok(rgb) => Ok(rgb.pixels()),
        Err(error) => {
            assert!(matches!(
                error.kind(),
                ErrorKind::UnsupportedImage | ErrorKind::InvalidArgument
            ));
            Err(error.to_string())
        }
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// The levels of a grey row of floats.
fn levels(values: &[f32], scale: Scale) -> Result<Vec<u8>, String> {
    let data = floats(values);
    let pixels = run(&grey(&data, NumberType::F32, scale, values.len() as u32))?;
    Ok(pixels.iter().step_by(3).copied().collect())
}

fn refusal(values: &[f32], scale: Scale) -> String {
    levels(values, scale).unwrap_err()
}

#[test]
fn every_level_survives_every_type_that_holds_it() {
    let all: Vec<u8> = (0..=255).collect();
    let wide = |each: fn(u8) -> Vec<u8>| all.iter().flat_map(|level| each(*level)).collect();
    let cases: Vec<(NumberType, Vec<u8>)> = vec![
        (NumberType::U8, all.clone()),
        (NumberType::U16, wide(|level| u16::from(level).to_ne_bytes().into())),
        (NumberType::U32, wide(|level| u32::from(level).to_ne_bytes().into())),
        (NumberType::U64, wide(|level| u64::from(level).to_ne_bytes().into())),
        (NumberType::S16, wide(|level| i16::from(level).to_ne_bytes().into())),
        (NumberType::S32, wide(|level| i32::from(level).to_ne_bytes().into())),
        (NumberType::S64, wide(|level| i64::from(level).to_ne_bytes().into())),
        (NumberType::F16, wide(|level| half::f16::from(level).to_ne_bytes().into())),
        (NumberType::Bf16, wide(|level| half::bf16::from(level).to_ne_bytes().into())),
        (NumberType::F32, wide(|level| f32::from(level).to_ne_bytes().into())),
        (NumberType::F64, wide(|level| f64::from(level).to_ne_bytes().into())),
        (NumberType::F16, wide(|l| half::f16::from_f32(f32::from(l) / 255.0).to_ne_bytes().into())),
        (NumberType::F32, wide(|level| (f32::from(level) / 255.0).to_ne_bytes().into())),
        (NumberType::F64, wide(|level| (f64::from(level) / 255.0).to_ne_bytes().into())),
    ];
    for (number, data) in cases {
        let pixels = run(&grey(&data, number, Scale::Told, 256)).unwrap();
        assert_eq!(pixels.iter().step_by(3).copied().collect::<Vec<_>>(), all, "{number:?}");
    }
    let data: Vec<u8> = (0..=127).collect();
    assert_eq!(run(&grey(&data, NumberType::S8, Scale::Told, 128)).unwrap()[127 * 3], 127);
}

#[test]
fn fractions_up_to_one_count_to_one() {
    assert_eq!(levels(&[0.0, 0.5, 1.0], Scale::Told).unwrap(), [0, 128, 255]);
    // Rounding of whoever computed them is no reason to refuse.
    assert_eq!(levels(&[-1.0e-7, 0.25, 1.000_000_2], Scale::Told).unwrap(), [0, 64, 255]);
    assert_eq!(levels(&[0.0, 1.0e-4], Scale::Told).unwrap(), [0, 0]);
}

#[test]
fn numbers_above_one_count_to_255() {
    assert_eq!(levels(&[0.0, 0.4, 127.5, 255.0], Scale::Told).unwrap(), [0, 0, 128, 255]);
    // A dark picture of whole numbers cannot be one in 0 to 1.
    assert_eq!(levels(&[0.0, 1.0, 2.0], Scale::Told).unwrap(), [0, 1, 2]);
    assert_eq!(levels(&[0.0, 0.0], Scale::Told).unwrap(), [0, 0]);
}

#[test]
fn a_scale_that_cannot_be_told_is_refused() {
    for (values, says) in
        [(&[0.0, 1.0][..], "all are 0 or 1"), (&[0.1, 1.02], "is 1.02"), (&[0.5, 15.9], "is 15.9")]
    {
        let message = refusal(values, Scale::Told);
        assert!(message.contains("cannot tell how far"), "{message}");
        assert!(message.contains(says), "{message}");
        assert!(message.ends_with("convert it to 8 bits first, times 255 where it counts to 1"));
    }
}

#[test]
fn numbers_outside_their_scale_are_named() {
    for (values, says) in [
        (&[0.5, -0.25][..], "value -0.25 at row 0, column 1, channel 0 is outside"),
        (&[300.5, 1.0], "value 300.5 at row 0, column 0"),
        (&[2.6, -2.1], "value -2.1 at row 0, column 1"),
        (&[-3.0, -1.0], "value -3 at row 0, column 0"),
        (&[0.0, f32::NAN], "value NaN at row 0, column 1"),
        (&[f32::NEG_INFINITY], "value -inf at row 0, column 0"),
        (&[f32::INFINITY, 0.0], "value inf at"),
    ] {
        let message = refusal(values, Scale::Told);
        assert!(message.contains(says), "{message}");
    }
    let large = u64::MAX.to_ne_bytes();
    let message = run(&grey(&large, NumberType::U64, Scale::Told, 1)).unwrap_err();
    assert!(message.contains("value 18446744073709551615 at row 0, column 0"), "{message}");
    let message = run(&grey(&[0, 255], NumberType::S8, Scale::Told, 2)).unwrap_err();
    assert!(message.contains("value -1 at row 0, column 1"), "{message}");
}

#[test]
fn a_colour_space_that_counts_to_255_clips_what_arithmetic_leaves() {
    let near = [-255.0, -0.6, 0.4, 254.5, 255.6, 510.0];
    assert_eq!(levels(&near, Scale::Bytes).unwrap(), [0, 0, 0, 255, 255, 255]);
    assert!(refusal(&[20.0, 511.0], Scale::Bytes).contains("value 511 at row 0, column 1"));
    assert!(refusal(&[20.0, f32::NAN], Scale::Bytes).contains("value NaN"));
    assert_eq!(levels(&[0.0, 0.0], Scale::Bytes).unwrap(), [0, 0]);
    for values in [&[0.0, 1.0][..], &[0.2, 0.9], &[0.2, 1.1]] {
        assert!(refusal(values, Scale::Bytes).contains("takes for"));
    }
    let shorts: Vec<u8> = [-7i16, 0, 400].iter().flat_map(|short| short.to_ne_bytes()).collect();
    let pixels = run(&grey(&shorts, NumberType::S16, Scale::Bytes, 3)).unwrap();
    assert_eq!(pixels, [0, 0, 0, 0, 0, 0, 255, 255, 255]);
}

#[test]
fn colours_and_alpha_have_one_scale() {
    let pixel = |values: [f32; 4], scale| {
        let data = floats(&values);
        let shape = [1, 1, 4];
        let strides = [4, 4, 1];
        run(&Numbers { data: &data, number: NumberType::F32, scale, shape, strides, inks: false })
    };
    assert_eq!(pixel([0.2, 0.4, 1.0, 1.0], Scale::Told).unwrap(), [51, 102, 255]);
    assert_eq!(pixel([51.0, 102.0, 255.0, 255.0], Scale::Told).unwrap(), [51, 102, 255]);
    assert_eq!(pixel([0.0, 0.0, 0.0, 0.5], Scale::Told).unwrap(), [0, 0, 0]);
    assert_eq!(pixel([9.0, 9.0, 9.0, 0.0], Scale::Told).unwrap(), [0, 0, 0]);
    for values in [[0.2, 0.4, 0.9, 255.0], [51.0, 102.0, 255.0, 1.0], [1.0, 1.0, 1.0, 255.0]] {
        assert!(pixel(values, Scale::Told).unwrap_err().contains("the other to 255"));
    }
    assert!(pixel([0.2, 0.4, 0.9, 255.0], Scale::Bytes).is_err());
    assert!(pixel([51.0, 102.0, 255.0, 1.0], Scale::Bytes).is_err());
}

#[test]
fn axes_come_in_any_order() {
    // The same picture of 2 x 3, RGB, with the axes in every order.
    let [height, width, channels] = [2u32, 3, 3];
    let level = |row: u32, column: u32, channel: u32| (row * 100 + column * 10 + channel) as u8;
    let mut expected = Vec::new();
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
        expected.extend((0..channels).map(|channel| level(row, column, channel)));
    }
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let shape = [height, width, channels];
        let mut strides = [0; 3];
        strides[order[2]] = 1;
        strides[order[1]] = u64::from(shape[order[2]]);
        strides[order[0]] = u64::from(shape[order[2]] * shape[order[1]]);
        let mut data = [0; 18];
        for row in 0..height {
            for column in 0..width {
                for channel in 0..channels {
                    let at = [row, column, channel].map(u64::from);
                    let at = at.iter().zip(strides).map(|(at, stride)| at * stride).sum::<u64>();
                    data[at as usize] = level(row, column, channel);
                }
            }
        }
        let number = NumberType::U8;
        let scale = Scale::Told;
        let numbers = Numbers { data: &data, number, scale, shape, strides, inks: false };
        assert_eq!(run(&numbers).unwrap(), expected, "{order:?}");
    }
}

#[test]
fn four_inks_are_cmyk() {
    let data = [50, 24, 9, 20, 0, 255, 0, 0];
    let shape = [1, 2, 4];
    let (number, scale) = (NumberType::U8, Scale::Told);
    let numbers = Numbers { data: &data, number, scale, shape, strides: [8, 4, 1], inks: true };
    // Light is 235; 235 - 50 * 235 / 255, rounded, and so on.
    assert_eq!(run(&numbers).unwrap(), [189, 213, 227, 255, 0, 255]);
    let shape = [1, 2, 3];
    let numbers = Numbers { shape, strides: [6, 3, 1], data: &data[..6], ..numbers };
    assert_eq!(run(&numbers).unwrap_err(), "picture has 3 channels");
}

#[test]
fn layouts_that_do_not_fit_are_refused() {
    let data = [0; 6];
    let numbers = Numbers {
        shape: [1, 2, 3],
        strides: [6, 3, 1],
        ..grey(&data, NumberType::U8, Scale::Told, 1)
    };
    assert!(run(&numbers).is_ok());
    for strides in [[6, 3, 2], [6, 1, 1], [1, 1, 1], [0, 0, 0], [u64::MAX; 3]] {
        let message = run(&Numbers { strides, ..numbers }).unwrap_err();
        assert!(message.contains("strides"), "{message}");
    }
    for data in [&data[..5], &[0; 7], &[]] {
        let message = run(&Numbers { data, ..numbers }).unwrap_err();
        assert_eq!(
            message,
            format!("picture of [1, 2, 3] numbers has to be 6 bytes long, it is {}", data.len())
        );
    }
    assert!(run(&Numbers { shape: [1, 1, 6], ..numbers }).unwrap_err().contains("6 channels"));
}
