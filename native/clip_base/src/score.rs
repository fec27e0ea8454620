//! From embeddings to answers.

use crate::error::{Error, ErrorKind, Result};

/// Cosine of two unit vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> Result<f64> {
    if a.len() != b.len() || a.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("embeddings of {} and {} components have no cosine", a.len(), b.len()),
        ));
    }
    // Summed in f64: rounding must not lift the cosine of a picture with itself above 1.
    let dot: f64 = a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    Ok(dot.clamp(-1.0, 1.0))
}

/// Probability of each text for one image: softmax of `logit_scale * cosine`.
///
/// `texts` holds the text embeddings row after row. The sum is 1 but for rounding in f64.
pub fn softmax(image: &[f32], texts: &[f32], logit_scale: f64) -> Result<Vec<f64>> {
    if image.is_empty() || texts.is_empty() || !texts.len().is_multiple_of(image.len()) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "expected text rows of {} components, got {} values in all",
                image.len(),
                texts.len()
            ),
        ));
    }
    let logits = texts
        .chunks_exact(image.len())
        .map(|text| Ok(logit_scale * cosine(image, text)?))
        .collect::<Result<Vec<f64>>>()?;
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    Ok(powers.iter().map(|power| power / sum).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_equal_rows_is_uniform_and_sums_to_one() {
        let scores = softmax(&[0.6, 0.8], &[0.6, 0.8, 0.6, 0.8, 0.6, 0.8], 100.0).unwrap();
        assert_eq!(scores, [1.0 / 3.0; 3]);
    }

    #[test]
    fn softmax_ranks_by_cosine_without_overflow() {
        let scores = softmax(&[1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], 1e6).unwrap();
        assert_eq!(scores, [0.0, 1.0]);
    }

    #[test]
    fn cosine_of_a_vector_with_itself_is_at_most_one() {
        let row = [0.577_350_3_f32; 3];
        assert!(cosine(&row, &row).unwrap() <= 1.0);
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        let kind = |result: Result<Vec<f64>>| result.unwrap_err().kind();
        assert_eq!(kind(softmax(&[1.0, 0.0], &[1.0], 1.0)), ErrorKind::InvalidArgument);
        assert_eq!(kind(softmax(&[1.0], &[], 1.0)), ErrorKind::InvalidArgument);
        assert!(cosine(&[1.0], &[1.0, 0.0]).is_err());
    }
}
