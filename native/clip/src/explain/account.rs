//! From the parts of an embedding to what each adds to the cosine with a label.

use crate::error::{Error, ErrorKind, Result};
use crate::score::{self, Scoring};

/// Where the cosine of a picture and a label comes from. `rest` and all of `map` sum to `cosine`.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The cosine of the two embeddings.
    pub cosine: f64,
    /// What no patch added.
    pub rest: f64,
    /// The patches' share of the cosine, outside 0 to 1 where they and the rest have opposite signs.
    /// `None` of a cosine of 0.
    pub explained: Option<f64>,
    /// What each patch added, row by row of the picture.
    pub map: Vec<f32>,
    /// The same less the mean of the other labels' maps. Without another label it is the map.
    pub contrast: Vec<f32>,
}

/// Indices and scores of labels for one picture, best first, each with its account.
///
/// Scores are those of [`score::rank`] for the embedding that the parts sum to, with its background.
/// `parts`, `texts` and `background` are as for [`accounts`]. A threshold takes part in the scores. It
/// has no account, because it has no embedding.
pub fn explain(
    parts: &[f32],
    dim: usize,
    texts: &[f32],
    background: &[f32],
    scoring: &Scoring,
) -> Result<Vec<(usize, f64, Account)>> {
    check(parts, dim, "parts")?;
    let embedding: Vec<f32> = sum(parts, dim).into_iter().map(|x| x as f32).collect();
    let mut ranked = score::rank(&embedding, texts, background, scoring)?;
    let accountable = texts.len() / dim + usize::from(!background.is_empty());
    ranked.retain(|(index, _)| *index < accountable);
    let wanted: Vec<usize> = ranked.iter().map(|(index, _)| *index).collect();
    let accounts = accounts(parts, dim, texts, background, &wanted)?;
    Ok(ranked.into_iter().zip(accounts).map(|((i, score), account)| (i, score, account)).collect())
}

/// The accounts of some labels for one picture.
///
/// `parts` are rows of `dim` components, that of the rest first. `texts` are the rows of all labels.
/// The background is one more label: the row of `background` with the highest cosine, if there are any.
/// `wanted` are indices of labels; the background has the one after the last label.
pub fn accounts(
    parts: &[f32],
    dim: usize,
    texts: &[f32],
    background: &[f32],
    wanted: &[usize],
) -> Result<Vec<Account>> {
    check(parts, dim, "parts")?;
    check(texts, dim, "labels")?;
    if !background.is_empty() {
        check(background, dim, "background")?;
    }
    let whole = sum(parts, dim);
    let mut labels: Vec<&[f32]> = texts.chunks_exact(dim).collect();
    let cosine = |row: &&[f32]| product(&whole, row);
    let other = background.chunks_exact(dim).max_by(|a, b| cosine(a).total_cmp(&cosine(b)));
    labels.extend(other);
    let all = sum(&labels.concat(), dim);
    wanted
        .iter()
        .map(|index| match labels.get(*index) {
            Some(text) => Ok(account(parts, text, &all, labels.len())),
            None => Err(invalid(format!(
                "expected the index of one of {} labels, got {index}",
                labels.len()
            ))),
        })
        .collect()
}

/// `all` is the sum of the rows of all labels, this one included.
fn account(parts: &[f32], text: &[f32], all: &[f64], labels: usize) -> Account {
    let own: Vec<f64> = text.iter().copied().map(f64::from).collect();
    let others = (labels - 1).max(1) as f64;
    let mean: Vec<f64> = match labels {
        1 => vec![0.0; own.len()],
        _ => all.iter().zip(&own).map(|(all, own)| (all - own) / others).collect(),
    };
    let mut rows = parts.chunks_exact(text.len());
    let rest = rows.next().map_or(0.0, |row| product(&own, row));
    let (map, behind): (Vec<f64>, Vec<f64>) =
        rows.map(|row| (product(&own, row), product(&mean, row))).unzip();
    let patches: f64 = map.iter().sum();
    let cosine = rest + patches;
    Account {
        cosine,
        rest,
        explained: (cosine != 0.0).then_some(patches / cosine),
        contrast: map.iter().zip(behind).map(|(own, others)| (own - others) as f32).collect(),
        map: map.into_iter().map(|x| x as f32).collect(),
    }
}

fn sum(rows: &[f32], dim: usize) -> Vec<f64> {
    let mut sum = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    sum
}

fn product(a: &[f64], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
}

fn check(rows: &[f32], dim: usize, what: &str) -> Result<()> {
    if dim > 0 && !rows.is_empty() && rows.len().is_multiple_of(dim) {
        return Ok(());
    }
    let message = format!("expected rows of {dim} components as {what}, got {} values", rows.len());
    Err(invalid(message))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The rest and two patches, in two components.
    const PARTS: [f32; 6] = [0.1, 0.2, 0.5, 0.0, 0.0, 0.6];

    #[test]
    fn rest_and_map_sum_to_the_cosine() {
        let texts = [1.0, 0.0, 0.6, 0.8];
        let accounts = accounts(&PARTS, 2, &texts, &[], &[0, 1]).unwrap();
        for (account, cosine) in accounts.iter().zip([0.6, 0.6 * 0.6 + 0.8 * 0.8]) {
            let sum: f64 = account.map.iter().copied().map(f64::from).sum();
            assert!((account.cosine - cosine).abs() < 1e-6, "{account:?}");
            assert!((account.rest + sum - account.cosine).abs() < 1e-6, "{account:?}");
            assert!((account.explained.unwrap() - sum / cosine).abs() < 1e-6, "{account:?}");
        }
        assert_eq!(accounts[0].map, [0.5, 0.0]);
    }

    #[test]
    fn contrasts_are_with_the_mean_of_all_others() {
        let texts = [1.0, 0.0, 0.0, 1.0, 0.6, 0.8];
        let accounts = accounts(&PARTS, 2, &texts, &[], &[2, 0]).unwrap();
        // The mean of the first two is [0.5, 0.5], of the last two [0.3, 0.9].
        let expected = [[0.3 - 0.25, 0.48 - 0.3], [0.5 - 0.15, 0.0 - 0.54]];
        for (account, expected) in accounts.iter().zip(expected) {
            let differences = account.contrast.iter().zip(expected).map(|(a, b)| a - b);
            assert!(differences.map(f32::abs).fold(0.0, f32::max) < 1e-6, "{account:?}");
        }
    }

    #[test]
    fn a_lone_label_is_contrasted_with_nothing() {
        let account = &accounts(&PARTS, 2, &[1.0, 0.0], &[], &[0]).unwrap()[0];
        assert_eq!(account.contrast, account.map);
    }

    #[test]
    fn the_background_is_its_row_of_the_highest_cosine() {
        let background = [-1.0, 0.0, 0.0, 1.0];
        let accounts = accounts(&PARTS, 2, &[1.0, 0.0], &background, &[0, 1]).unwrap();
        assert!((accounts[1].cosine - 0.8).abs() < 1e-6);
        assert_eq!(accounts[0].contrast, [0.5, -0.6]);
        assert_eq!(accounts[1].contrast, [-0.5, 0.6]);
    }

    #[test]
    fn a_cosine_of_zero_has_no_share() {
        let account = &accounts(&[0.5, -0.5], 1, &[1.0], &[], &[0]).unwrap()[0];
        assert_eq!((account.cosine, account.explained), (0.0, None));
    }

    #[test]
    fn labels_come_best_first_with_the_scores_that_they_have_otherwise() {
        let texts = [0.0, 1.0, 1.0, 0.0, 0.6, 0.8];
        let scoring = Scoring {
            kind: score::Kind::Softmax,
            logit_scale: 10.0,
            logit_bias: None,
            threshold: Some(0.7),
            top: Some(3),
            least: None,
        };
        let explained = explain(&PARTS, 2, &texts, &[], &scoring).unwrap();
        let ranked = score::rank(&[0.6, 0.8], &texts, &[], &scoring).unwrap();
        // The threshold is second but one, and has no embedding.
        assert_eq!(ranked.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [2, 0, 3]);
        let scores: Vec<_> = explained.iter().map(|(i, score, _)| (*i, *score)).collect();
        assert_eq!(scores.len(), 2);
        for ((index, score), (i, expected)) in scores.iter().zip(&ranked) {
            assert!(index == i && (score - expected).abs() < 1e-6);
        }
        assert!((explained[0].2.cosine - 1.0).abs() < 1e-6);
    }

    #[test]
    fn lengths_and_indices_that_do_not_fit_are_errors() {
        for (parts, texts, background, wanted) in [
            (&[][..], &[1.0][..], &[][..], 0),
            (&[1.0], &[], &[], 0),
            (&[1.0], &[1.0], &[], 1),
            (&[1.0], &[1.0], &[1.0], 2),
        ] {
            assert!(accounts(parts, 1, texts, background, &[wanted]).is_err());
        }
        assert!(accounts(&[1.0; 3], 2, &[1.0; 2], &[], &[0]).is_err());
        assert!(accounts(&[1.0; 2], 2, &[1.0; 2], &[1.0], &[0]).is_err());
        assert!(accounts(&[1.0], 0, &[1.0], &[], &[0]).is_err());
    }
}
