//! From the cosines of one image to its best labels.

use std::cmp::Ordering;

use super::{Kind, Scoring, invalid};
use crate::error::Result;

/// Up to so many results are picked while the cosines are read; more are sorted.
const FEW: usize = 64;

/// So many cosines are compared at once.
const GROUP: usize = 16;

/// What [`rank`](super::rank) says, of the cosines of labels and background, f32 or f64.
///
/// Scores rise with cosines, so the best are known before any power is taken. `sum` is that of the
/// powers `e^(scale * (cosine - highest))` of all labels, for a softmax: `sum(labels, highest, scale)`.
pub(super) fn rank<T: Copy + Into<f64>>(
    labels: &[T],
    mut background: Vec<f64>,
    scoring: &Scoring,
    sum: impl Fn(&[T], f64, f64) -> f64,
) -> Result<Vec<(usize, f64)>> {
    background.extend(scoring.threshold);
    if labels.is_empty() || (background.is_empty() && scoring.kind == Kind::Independent) {
        return Err(invalid(
            "expected rows of labels, and of the background where it is what they are compared \
             with, got none",
        ));
    }
    if scoring.kind == Kind::Sigmoid && scoring.logit_bias.is_none() {
        return Err(invalid(
            "the model has no bias, so its labels have no probability by themselves",
        ));
    }
    let scale = scoring.logit_scale;
    // As if the background were one label.
    let other = match scoring.kind {
        Kind::Cosine | Kind::Sigmoid => background.into_iter().reduce(f64::max),
        _ => log_sum_exp(&background, scale).map(|z| z / scale),
    };
    let competitor = other.filter(|_| scoring.kind != Kind::Independent);
    let best = best(labels, competitor, scoring.top.unwrap_or(usize::MAX));
    let Some((_, highest)) = best.first().copied() else { return Ok(best) };
    let score = scorer(labels, highest, other, scoring, sum);
    let least = scoring.least.unwrap_or(f64::NEG_INFINITY);
    Ok(best
        .into_iter()
        .map(|(index, cosine)| (index, score(cosine)))
        .take_while(|(_, score)| *score >= least)
        .collect())
}

/// What is made of a cosine.
fn scorer<T: Copy + Into<f64>>(
    labels: &[T],
    highest: f64,
    other: Option<f64>,
    scoring: &Scoring,
    sum: impl Fn(&[T], f64, f64) -> f64,
) -> impl Fn(f64) -> f64 {
    let (kind, scale) = (scoring.kind, scoring.logit_scale);
    let sum: f64 = match kind {
        Kind::Softmax => {
            let rest = other.map_or(0.0, |cosine| ((cosine - highest) * scale).exp());
            sum(labels, highest, scale) + rest
        }
        _ => 1.0,
    };
    let other = other.unwrap_or(f64::NEG_INFINITY);
    let bias = scoring.logit_bias.unwrap_or(0.0);
    move |cosine| match kind {
        Kind::Softmax => ((cosine - highest) * scale).exp() / sum,
        Kind::Independent => 1.0 / (1.0 + ((other - cosine) * scale).exp()),
        Kind::Sigmoid => 1.0 / (1.0 + (-cosine * scale - bias).exp()),
        Kind::Logits => cosine * scale,
        Kind::Cosine => cosine,
    }
}

/// The highest cosines with their indices, in order. `other` has the index after the last label.
fn best<T: Copy + Into<f64>>(labels: &[T], other: Option<f64>, top: usize) -> Vec<(usize, f64)> {
    if top > FEW {
        let all = labels.iter().map(|cosine| (*cosine).into()).chain(other).enumerate();
        let mut all: Vec<_> = all.collect();
        all.sort_by(higher);
        all.truncate(top);
        return all;
    }
    let mut best = Best { top, kept: Vec::with_capacity(top + 1), lowest: f64::NAN };
    let (groups, rest) = labels.as_chunks::<GROUP>();
    for (number, group) in groups.iter().enumerate() {
        // Most groups are passed over as a whole, by a comparison that the compiler makes vectors of. While
        // `lowest` is NaN, none is.
        #[allow(clippy::neg_cmp_op_on_partial_ord)]
        let any = group.iter().fold(false, |any, cosine| any | !((*cosine).into() <= best.lowest));
        if any {
            for (i, cosine) in group.iter().enumerate() {
                best.see(number * GROUP + i, (*cosine).into());
            }
        }
    }
    let first = groups.len() * GROUP;
    let rest = rest.iter().map(|cosine| (*cosine).into()).chain(other);
    for (i, cosine) in rest.enumerate() {
        best.see(first + i, cosine);
    }
    best.kept
}

/// The highest of the cosines seen.
struct Best {
    top: usize,
    kept: Vec<(usize, f64)>,
    /// The last one of these once all places are taken. Before, NaN: no cosine is at most that.
    lowest: f64,
}

impl Best {
    fn see(&mut self, index: usize, cosine: f64) {
        if cosine <= self.lowest {
            return;
        }
        let one = (index, cosine);
        let at = self.kept.partition_point(|kept| higher(kept, &one) != Ordering::Greater);
        self.kept.insert(at, one);
        self.kept.truncate(self.top);
        if self.kept.len() == self.top {
            self.lowest = self.kept.last().map_or(self.lowest, |kept| kept.1);
        }
    }
}

fn higher(a: &(usize, f64), b: &(usize, f64)) -> Ordering {
    b.1.total_cmp(&a.1)
}

fn log_sum_exp(cosines: &[f64], scale: f64) -> Option<f64> {
    let highest = cosines.iter().copied().reduce(f64::max)?;
    Some(highest * scale + sum_of_powers(cosines, highest, scale).ln())
}

/// The sum of `e^(scale * (cosine - highest))`.
pub(super) fn sum_of_powers(cosines: &[f64], highest: f64, scale: f64) -> f64 {
    cosines.iter().map(|cosine| ((cosine - highest) * scale).exp()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_results_are_the_same_ones() {
        let labels: Vec<f64> = (0..500_u64).map(|i| ((i * 7919) % 97) as f64 / 97.0).collect();
        let all = best(&labels, Some(0.5), usize::MAX);
        assert_eq!(all.len(), 501);
        for top in [1, 2, FEW - 1, FEW, FEW + 1, 500, 501, 600] {
            assert_eq!(best(&labels, Some(0.5), top), all[..top.min(501)], "{top}");
        }
    }

    #[test]
    fn equal_cosines_stay_in_their_order_however_many_are_kept() {
        for top in [3, FEW, FEW + 1] {
            let best = best(&[0.5; 200], Some(0.5), top);
            let indices: Vec<_> = best.into_iter().map(|(index, _)| index).collect();
            assert_eq!(indices, (0..top).collect::<Vec<_>>());
        }
    }

    #[test]
    fn cosines_that_are_not_numbers_end_nothing() {
        assert_eq!(best(&[f64::NAN, 0.5], None, 1).len(), 1);
        assert_eq!(best(&[f64::NAN, 0.5, f64::NAN], None, 100).len(), 3);
    }
}
