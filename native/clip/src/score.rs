//! From embeddings to answers.
//!
//! With `z = logit_scale * cosine` for a label, and `z_b` for each row of the background:
//!
//! | [`Kind`] | label | background |
//! | --- | --- | --- |
//! | `Softmax` | `e^z / (sum of e^z of all labels + sum of e^z_b)` | its part of the same sum |
//! | `Independent` | `e^z / (e^z + sum of e^z_b)` | none |
//! | `Sigmoid` | `1 / (1 + e^-(z + bias))` | the highest of its rows |
//! | `Logits` | `z` | `ln(sum of e^z_b)` |
//! | `Cosine` | `cosine` | the highest of its rows |

pub mod calibration;
mod mix;
mod product;
mod ranking;
mod unit;

use crate::error::{Error, ErrorKind, Result};

pub use mix::mix;
pub use product::rank_many;
pub use unit::unit;

/// What is made of the cosines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shares of all labels and the background, which sum to 1.
    Softmax,
    /// Each label against the background alone.
    Independent,
    /// Each label by itself, by the bias of a model that was trained so.
    Sigmoid,
    /// Cosines times the logit scale.
    Logits,
    /// Cosines.
    Cosine,
}

/// How labels are scored and which are kept.
#[derive(Debug, Clone, Copy)]
pub struct Scoring {
    /// What is made of the cosines.
    pub kind: Kind,
    /// Factor between cosines and logits.
    pub logit_scale: f64,
    /// What a model that was trained with a sigmoid (SigLIP) adds before it; others have none.
    pub logit_bias: Option<f64>,
    /// Cosine of one more row of the background, the same for every image.
    pub threshold: Option<f64>,
    /// At most so many, the best ones.
    pub top: Option<usize>,
    /// None below this score.
    pub least: Option<f64>,
}

/// Cosine of two unit vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> Result<f64> {
    if a.len() != b.len() || a.is_empty() {
        let (a, b) = (a.len(), b.len());
        return Err(invalid(format!("embeddings of {a} and {b} components have no cosine")));
    }
    Ok(dot(a, b))
}

/// Indices and scores of labels for one image, best first; the background has the index after the
/// last label. Labels of equal cosine stay in their order.
///
/// `texts` and `background` hold text embeddings row after row. The background comes in if it has a
/// score.
pub fn rank(
    image: &[f32],
    texts: &[f32],
    background: &[f32],
    scoring: &Scoring,
) -> Result<Vec<(usize, f64)>> {
    check_rows(image.len(), texts)?;
    check_rows(image.len(), background)?;
    let cosines = |rows: &[f32]| -> Vec<f64> {
        rows.chunks_exact(image.len()).map(|row| dot(image, row)).collect()
    };
    ranking::rank(&cosines(texts), cosines(background), scoring, ranking::sum_of_powers)
}

/// One unit vector for each group of consecutive rows: their mean, scaled to length 1.
///
/// As in the CLIP paper, where the groups are the prompts of one label. `counts` says how many rows
/// a group has.
pub fn ensemble(rows: &[f32], counts: &[usize]) -> Result<Vec<f32>> {
    let all: usize = counts.iter().sum();
    if counts.contains(&0) || all == 0 || !rows.len().is_multiple_of(all) {
        return Err(invalid(format!(
            "expected groups of rows, got {} values for {all}",
            rows.len()
        )));
    }
    let dim = rows.len() / all;
    let mut rest = rows;
    let mut means = Vec::with_capacity(counts.len() * dim);
    for count in counts {
        let (group, after) = rest.split_at(count * dim);
        means.extend(mean_direction(group, dim)?);
        rest = after;
    }
    Ok(means)
}

fn mean_direction(group: &[f32], dim: usize) -> Result<Vec<f32>> {
    let mut sum = vec![0f64; dim];
    for row in group.chunks_exact(dim) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > 0.0 && length.is_finite() {
        return Ok(sum.iter().map(|x| (x / length) as f32).collect());
    }
    Err(invalid("the embeddings of a label cancel out; leave one of them out"))
}

fn check_rows(dim: usize, rows: &[f32]) -> Result<()> {
    if dim > 0 && rows.len().is_multiple_of(dim) {
        return Ok(());
    }
    Err(invalid(format!("expected rows of {dim} components, got {} values in all", rows.len())))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// Summed in f64: rounding must not lift the cosine of a picture with itself above 1. In several
/// sums at once, which the compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0f64; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    (sums.iter().sum::<f64>() + rest).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [f32; 0] = [];

    fn scoring(kind: Kind, logit_scale: f64) -> Scoring {
        Scoring { kind, logit_scale, logit_bias: None, threshold: None, top: None, least: None }
    }

    /// The scores in the order of the rows, the background last.
    fn scores(
        image: &[f32],
        texts: &[f32],
        background: &[f32],
        scoring: &Scoring,
    ) -> Result<Vec<f64>> {
        let mut ranked = rank(image, texts, background, scoring)?;
        assert!(ranked.is_sorted_by(|a, b| a.1 >= b.1), "{ranked:?}");
        ranked.sort_by_key(|(index, _)| *index);
        Ok(ranked.into_iter().map(|(_, score)| score).collect())
    }

    fn close(ours: &[f64], theirs: &[f64]) {
        assert_eq!(ours.len(), theirs.len());
        for (x, y) in ours.iter().zip(theirs) {
            assert!((x - y).abs() < 1e-12, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn softmax_of_equal_rows_is_uniform_and_sums_to_one() {
        let texts = [0.6, 0.8, 0.6, 0.8, 0.6, 0.8];
        let scores = scores(&[0.6, 0.8], &texts, &NONE, &scoring(Kind::Softmax, 100.0)).unwrap();
        assert_eq!(scores, [1.0 / 3.0; 3]);
    }

    #[test]
    fn scores_do_not_overflow() {
        let texts = [0.0, 1.0, 1.0, 0.0];
        for kind in [Kind::Softmax, Kind::Independent] {
            let background: &[f32] = if kind == Kind::Softmax { &[] } else { &[0.6, 0.8] };
            let scores = scores(&[1.0, 0.0], &texts, background, &scoring(kind, 1e6)).unwrap();
            assert_eq!(scores, [0.0, 1.0]);
        }
    }

    #[test]
    fn the_background_takes_part_with_the_sum_of_its_rows() {
        let (image, texts) = ([1.0, 0.0], [1.0, 0.0, 0.6, 0.8]);
        let background = [0.8, 0.6, 0.0, 1.0];
        let score = |kind| scores(&image, &texts, &background, &scoring(kind, 2.0)).unwrap();
        let e = |c: f64| (2.0 * f64::from(c as f32)).exp();
        let rest = e(0.8) + e(0.0);
        let sum = e(1.0) + e(0.6) + rest;
        close(&score(Kind::Softmax), &[e(1.0) / sum, e(0.6) / sum, rest / sum]);
        close(&score(Kind::Independent), &[e(1.0) / (e(1.0) + rest), e(0.6) / (e(0.6) + rest)]);
        close(&score(Kind::Logits), &[2.0, e(0.6).ln(), rest.ln()]);
        close(&score(Kind::Cosine), &[1.0, f64::from(0.6f32), f64::from(0.8f32)]);
    }

    #[test]
    fn a_model_with_a_bias_scores_each_label_by_its_sigmoid() {
        let (image, texts) = ([1.0, 0.0], [1.0, 0.0, 0.6, 0.8]);
        let with = Scoring { logit_bias: Some(-3.0), ..scoring(Kind::Sigmoid, 4.0) };
        let score = |background: &[f32]| scores(&image, &texts, background, &with).unwrap();
        let sigmoid = |cosine: f64| 1.0 / (1.0 + (3.0 - 4.0 * cosine).exp());
        let [high, low] = [0.8, 0.6].map(|cosine: f32| f64::from(cosine));
        close(&score(&NONE), &[sigmoid(1.0), sigmoid(low)]);
        close(&score(&[0.0, 1.0, 0.8, 0.6]), &[sigmoid(1.0), sigmoid(low), sigmoid(high)]);
        let error = rank(&image, &texts, &NONE, &scoring(Kind::Sigmoid, 4.0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let shares = Scoring { kind: Kind::Softmax, ..with };
        let without = scores(&image, &texts, &NONE, &scoring(Kind::Softmax, 4.0)).unwrap();
        close(&scores(&image, &texts, &NONE, &shares).unwrap(), &without);
    }

    #[test]
    fn a_threshold_is_a_row_of_the_background_with_that_cosine() {
        let (image, texts, row) = ([1.0, 0.0], [1.0, 0.0, 0.6, 0.8], [0.8, 0.6]);
        let threshold = Some(f64::from(0.8f32));
        for kind in [Kind::Softmax, Kind::Independent, Kind::Logits, Kind::Cosine] {
            let (with, without) = (Scoring { threshold, ..scoring(kind, 9.0) }, scoring(kind, 9.0));
            let ours = scores(&image, &texts, &NONE, &with).unwrap();
            close(&ours, &scores(&image, &texts, &row, &without).unwrap());
        }
    }

    #[test]
    fn ranks_are_stable_and_cut() {
        let texts = [0.6, 0.8, 1.0, 0.0, 0.6, 0.8, 0.0, 1.0];
        let ranked = |scoring: &Scoring| -> Vec<usize> {
            let ranked = rank(&[1.0, 0.0], &texts, &NONE, scoring).unwrap();
            ranked.into_iter().map(|(index, _)| index).collect()
        };
        let cosine = scoring(Kind::Cosine, 1.0);
        assert_eq!(ranked(&cosine), [1, 0, 2, 3]);
        assert_eq!(ranked(&Scoring { top: Some(2), ..cosine }), [1, 0]);
        assert_eq!(ranked(&Scoring { least: Some(0.5), ..cosine }), [1, 0, 2]);
        assert_eq!(ranked(&Scoring { least: Some(1.5), ..cosine }), [0usize; 0]);
    }

    #[test]
    fn a_dot_product_has_all_its_components() {
        let a: Vec<f32> = (0..21).map(|i| i as f32 / 100.0).collect();
        let exact: f64 = a.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        assert!((dot(&a, &a) - exact).abs() < 1e-12);
    }

    #[test]
    fn cosine_of_a_vector_with_itself_is_at_most_one() {
        let row = [0.577_350_3_f32; 3];
        assert!(cosine(&row, &row).unwrap() <= 1.0);
    }

    #[test]
    fn an_ensemble_is_the_direction_of_the_mean() {
        let rows = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
        let means = ensemble(&rows, &[2, 1]).unwrap();
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(means, [half, half, 0.6, 0.8]);
        assert!(ensemble(&[1.0, 0.0, -1.0, 0.0], &[2]).is_err());
        assert!(ensemble(&rows, &[2, 0, 1]).is_err());
        assert!(ensemble(&rows, &[4]).is_err());
        assert!(ensemble(&NONE, &[]).is_err());
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        let kind = |image: &[f32], texts: &[f32], background: &[f32], kind| {
            rank(image, texts, background, &scoring(kind, 1.0)).unwrap_err().kind()
        };
        let invalid = ErrorKind::InvalidArgument;
        assert_eq!(kind(&[1.0, 0.0], &[1.0], &NONE, Kind::Softmax), invalid);
        assert_eq!(kind(&[1.0, 0.0], &[1.0, 0.0], &[1.0], Kind::Softmax), invalid);
        assert_eq!(kind(&[1.0], &NONE, &NONE, Kind::Softmax), invalid);
        assert_eq!(kind(&NONE, &NONE, &NONE, Kind::Cosine), invalid);
        assert_eq!(kind(&[1.0], &[1.0], &NONE, Kind::Independent), invalid);
        assert!(cosine(&[1.0], &[1.0, 0.0]).is_err());
    }
}
