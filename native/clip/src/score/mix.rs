//! Labels that are shown as well as named: prompts and pictures of each become one row.

use super::{ensemble, invalid};
use crate::error::Result;

/// One unit vector for each label: `weight` parts of the mean direction of its pictures, and the rest
/// of that of its prompts. A label that has only one of them is that.
///
/// `prompts` and `pictures` hold rows of `dim` components, and the counts say how many belong to each
/// label.
pub fn mix(
    dim: usize,
    (prompts, prompt_counts): (&[f32], &[usize]),
    (pictures, picture_counts): (&[f32], &[usize]),
    weight: f64,
) -> Result<Vec<f32>> {
    let labels = prompt_counts.iter().zip(picture_counts);
    let all = |counts: &[usize]| counts.iter().sum::<usize>().checked_mul(dim);
    if prompt_counts.len() != picture_counts.len()
        || all(prompt_counts) != Some(prompts.len())
        || all(picture_counts) != Some(pictures.len())
        || labels.clone().any(|(a, b)| a + b == 0)
        || !(0.0..=1.0).contains(&weight)
    {
        return Err(invalid("expected the rows of labels, as many as their counts say"));
    }
    let means = |rows: &[f32], counts: &[usize]| -> Result<Vec<f32>> {
        let counts: Vec<usize> = counts.iter().copied().filter(|count| *count > 0).collect();
        if counts.is_empty() { Ok(Vec::new()) } else { ensemble(rows, &counts) }
    };
    let (prompts, pictures) = (means(prompts, prompt_counts)?, means(pictures, picture_counts)?);
    let (mut prompts, mut pictures) = (prompts.chunks_exact(dim), pictures.chunks_exact(dim));
    let mut mixed = Vec::with_capacity(prompt_counts.len() * dim);
    for (named, shown) in labels {
        let prompt = if *named > 0 { prompts.next() } else { None };
        let picture = if *shown > 0 { pictures.next() } else { None };
        match (prompt, picture) {
            (Some(prompt), Some(picture)) => mixed.extend(between(prompt, picture, weight)?),
            (one, other) => mixed.extend(one.or(other).unwrap_or_default()),
        }
    }
    Ok(mixed)
}

fn between(prompt: &[f32], picture: &[f32], weight: f64) -> Result<Vec<f32>> {
    let sum: Vec<f64> = prompt
        .iter()
        .zip(picture)
        .map(|(a, b)| (1.0 - weight) * f64::from(*a) + weight * f64::from(*b))
        .collect();
    let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length < 1e-6 {
        return Err(invalid("the prompts and the pictures of a label cancel out"));
    }
    Ok(sum.iter().map(|x| (x / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPTS: [f32; 4] = [1.0, 0.0, 0.6, 0.8];
    const PICTURES: [f32; 4] = [0.0, 1.0, 0.0, -1.0];

    #[test]
    fn means_of_both_kinds_are_weighted() {
        let mixed = |weight| mix(2, (&PROMPTS[..2], &[1]), (&PICTURES[..2], &[1]), weight).unwrap();
        let half = std::f32::consts::FRAC_1_SQRT_2;
        assert_eq!(mixed(0.5), [half, half]);
        assert_eq!(mixed(0.0), [1.0, 0.0]);
        assert_eq!(mixed(1.0), [0.0, 1.0]);
    }

    #[test]
    fn a_label_of_one_kind_is_that_kind() {
        let mixed = mix(2, (&PROMPTS, &[1, 0, 1]), (&PICTURES[..2], &[0, 1, 0]), 0.3).unwrap();
        assert_eq!(mixed, [1.0, 0.0, 0.0, 1.0, 0.6, 0.8]);
    }

    #[test]
    fn kinds_count_the_same_however_many_rows_they_have() {
        let prompts = [1.0, 0.0].repeat(9);
        let mixed = mix(2, (&prompts, &[9]), (&PICTURES[..2], &[1]), 0.5).unwrap();
        assert_eq!(mixed, mix(2, (&PROMPTS[..2], &[1]), (&PICTURES[..2], &[1]), 0.5).unwrap());
    }

    #[test]
    fn what_does_not_fit_or_cancels_out_is_an_error() {
        assert!(mix(2, (&PROMPTS, &[1]), (&[], &[0]), 0.5).is_err());
        assert!(mix(2, (&PROMPTS, &[2]), (&[], &[]), 0.5).is_err());
        assert!(mix(2, (&PROMPTS, &[2, 0]), (&[], &[0, 0]), 0.5).is_err());
        assert!(mix(2, (&PROMPTS, &[2]), (&[], &[0]), f64::NAN).is_err());
        assert!(mix(2, (&[], &[0]), (&PICTURES, &[2]), 0.5).is_err());
        assert!(mix(2, (&[0.0, 1.0], &[1]), (&[0.0, -1.0], &[1]), 0.5).is_err());
    }
}
