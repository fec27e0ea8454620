//! Vectors from elsewhere, made fit to be compared.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};

/// Longest embedding. pgvector counts components with 16 bits, and no model comes near.
const MAX_DIM: usize = 65_535;

/// Farthest from 1 that a length may be by rounding: f32 rows of a model are within 1e-6.
const ROUNDING: f64 = 1e-5;

/// A vector of length 1 with this direction: the same one where it has that length already.
pub fn unit(vector: &[f32]) -> Result<Cow<'_, [f32]>> {
    if vector.is_empty() || vector.len() > MAX_DIM {
        return Err(invalid(format!(
            "expected a vector of 1 to {MAX_DIM} components, got {}",
            vector.len()
        )));
    }
    let length = length(vector);
    if !length.is_finite()
        && let Some(at) = vector.iter().position(|x| !x.is_finite())
    {
        return Err(invalid(format!("component {at} of the vector is {}", vector[at])));
    }
    if length == 0.0 {
        return Err(invalid("all components of the vector are 0, so it has no direction".into()));
    }
    if (length - 1.0).abs() < ROUNDING {
        return Ok(Cow::Borrowed(vector));
    }
    Ok(vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

/// In f64 no square of an f32 overflows, nor vanishes.
fn length(vector: &[f32]) -> f64 {
    // Several sums at once, which the compiler makes vectors of.
    let (groups, rest) = vector.as_chunks::<8>();
    let mut sums = [0_f64; 8];
    for group in groups {
        for (sum, x) in sums.iter_mut().zip(group) {
            *sum += f64::from(*x).powi(2);
        }
    }
    let rest = rest.iter().map(|x| f64::from(*x).powi(2));
    sums.into_iter().chain(rest).sum::<f64>().sqrt()
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidEmbedding, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_becomes_one() {
        for scale in [1e-38_f32, 1e-3, 0.9, 5.0, 1e37] {
            let long = [3.0 * scale, -4.0 * scale];
            let unit = unit(&long).unwrap();
            assert!((length(&unit) - 1.0).abs() < 1e-6, "{scale}: {unit:?}");
            assert!((unit[0] - 0.6).abs() < 1e-6 && (unit[1] + 0.8).abs() < 1e-6);
        }
    }

    #[test]
    fn a_unit_vector_stays_as_it_is() {
        let row = [0.577_350_3_f32; 3];
        assert!(matches!(unit(&row).unwrap(), Cow::Borrowed(same) if same == row));
    }

    #[test]
    fn vectors_without_a_direction_are_errors() {
        let message = |vector: &[f32]| unit(vector).unwrap_err().to_string();
        assert!(message(&[]).contains("got 0"));
        assert!(message(&vec![1.0; MAX_DIM + 1]).contains("got 65536"));
        assert!(message(&[1.0, f32::NAN]).contains("component 1 of the vector is NaN"));
        assert!(message(&[f32::NEG_INFINITY]).contains("component 0 of the vector is -inf"));
        assert!(message(&[0.0, -0.0]).contains("no direction"));
    }
}
