//! Many images against the same labels: one matrix product.

// `sgemm` takes pointers.
#![allow(unsafe_code)]

use super::{Scoring, check_rows, invalid, ranking};
use crate::error::Result;

/// Images of one product: enough that it pays to put the labels in order for it, and few enough that
/// the result for a thousand labels takes 2 MB.
const ROWS: usize = 512;

/// What [`rank`](super::rank) says of each row of `images`.
///
/// Computed in f32, so that the last digits differ from its.
pub fn rank_many(
    images: &[f32],
    dim: usize,
    texts: &[f32],
    background: &[f32],
    scoring: &Scoring,
) -> Result<Vec<Vec<(usize, f64)>>> {
    for rows in [images, texts, background] {
        check_rows(dim, rows)?;
    }
    let (labels, others) = (texts.len() / dim, background.len() / dim);
    let mut ranked = Vec::with_capacity(images.len() / dim);
    for images in images.chunks(ROWS * dim) {
        let all = cosines(images, texts, dim)?;
        let backgrounds = cosines(images, background, dim)?;
        for row in 0..images.len() / dim {
            let cosines = &all[row * labels..][..labels];
            let background = backgrounds[row * others..][..others].iter();
            let background = background.map(|cosine| f64::from(*cosine)).collect();
            ranked.push(ranking::rank(cosines, background, scoring, sum_of_powers)?);
        }
    }
    Ok(ranked)
}

/// The cosine of each row of `a` with each row of `b`.
fn cosines(a: &[f32], b: &[f32], dim: usize) -> Result<Vec<f32>> {
    let (m, n) = (a.len() / dim, b.len() / dim);
    let size = m.checked_mul(n).ok_or_else(|| invalid("the matrices are too large"))?;
    let mut c = vec![0_f32; size];
    let (step_a, step_b) = (dim as isize, n as isize);
    // SAFETY: `a` holds m x dim values, `b` n x dim and `c` m x n, row after row, as the strides say;
    // `c` is ours alone.
    unsafe {
        let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        matrixmultiply::sgemm(m, dim, n, 1.0, a, step_a, 1, b, 1, step_a, 0.0, c, step_b, 1);
    }
    // Rounding must not lift a cosine above 1.
    c.iter_mut().for_each(|cosine| *cosine = cosine.clamp(-1.0, 1.0));
    Ok(c)
}

/// The sum of `e^(scale * (cosine - highest))`, where `highest` is at least every cosine.
fn sum_of_powers(cosines: &[f32], highest: f64, scale: f64) -> f64 {
    let (highest, scale) = (highest as f32, scale as f32);
    // Several sums at once, which the compiler makes vectors of.
    let (groups, rest) = cosines.as_chunks::<16>();
    let mut sums = [0_f32; 16];
    for group in groups {
        for (sum, cosine) in sums.iter_mut().zip(group) {
            *sum += power((cosine - highest) * scale);
        }
    }
    let rest = rest.iter().map(|cosine| power((cosine - highest) * scale));
    f64::from(sums.iter().sum::<f32>() + rest.sum::<f32>())
}

/// `e^x` of numbers of at most 0: to 2e-7 of its value near 0, and to 1e-5 of it far away. Simple
/// enough for the compiler to compute several at once, which it cannot with the library's.
fn power(x: f32) -> f32 {
    // Adding it leaves a whole number, in the lowest bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let exponent = (x * std::f32::consts::LOG2_E).max(-126.0);
    let shifted = exponent + ROUND;
    let rest = (exponent - (shifted - ROUND)) * std::f32::consts::LN_2;
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let fraction = series.iter().fold(0.0_f32, |sum, factor| sum * rest + factor);
    f32::from_bits(fraction.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, rank};
    use super::*;

    /// Unit vectors that look random.
    fn rows(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut rows = Vec::with_capacity(count * dim);
        for _ in 0..count {
            let row: Vec<f64> = (0..dim)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                    (state >> 40) as f64 / f64::from(1 << 23) - 1.0
                })
                .collect();
            let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            rows.extend(row.iter().map(|x| (x / length) as f32));
        }
        rows
    }

    #[test]
    fn each_image_has_the_results_that_it_has_alone() {
        let (dim, labels) = (33, 70);
        let texts = rows(labels, dim, 1);
        for images in [1, 2, ROWS, ROWS + 1] {
            let images = rows(images, dim, 2);
            for kind in
                [Kind::Softmax, Kind::Independent, Kind::Sigmoid, Kind::Logits, Kind::Cosine]
            {
                for (top, threshold) in [(None, None), (Some(3), Some(0.1))] {
                    let scoring = Scoring {
                        kind,
                        logit_scale: 9.0,
                        logit_bias: Some(-3.0),
                        threshold,
                        top,
                        least: None,
                    };
                    let background = rows(if top.is_none() { 2 } else { 0 }, dim, 3);
                    let many = rank_many(&images, dim, &texts, &background, &scoring).unwrap();
                    assert_eq!(many.len(), images.len() / dim);
                    for (image, ranked) in images.chunks(dim).zip(&many) {
                        let alone = rank(image, &texts, &background, &scoring).unwrap();
                        assert_eq!(alone.len(), ranked.len());
                        for (a, b) in alone.iter().zip(ranked) {
                            assert_eq!(a.0, b.0);
                            assert!((a.1 - b.1).abs() < 1e-5 * a.1.abs().max(1.0), "{a:?} {b:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn powers_are_those_of_the_library() {
        for i in 0..u16::MAX {
            let x = -f32::from(i) / 800.0;
            let (ours, exact) = (f64::from(power(x)), f64::from(x).exp());
            let most = if x > -1.0 { 4e-7 } else { 1e-5 };
            assert!((ours / exact - 1.0).abs() < most, "{x}: {ours} {exact}");
        }
        assert_eq!(power(0.0), 1.0);
        assert!(power(-1e30) < 1e-37 && power(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn no_images_have_no_results_and_wrong_lengths_are_errors() {
        let scoring = Scoring {
            kind: Kind::Cosine,
            logit_scale: 1.0,
            logit_bias: None,
            threshold: None,
            top: None,
            least: None,
        };
        assert!(rank_many(&[], 2, &[1.0, 0.0], &[], &scoring).unwrap().is_empty());
        assert!(rank_many(&[1.0], 2, &[1.0, 0.0], &[], &scoring).is_err());
        assert!(rank_many(&[1.0, 0.0], 2, &[1.0], &[], &scoring).is_err());
        assert!(rank_many(&[1.0, 0.0], 2, &[], &[], &scoring).is_err());
        assert!(rank_many(&[], 0, &[], &[], &scoring).is_err());
    }
}
