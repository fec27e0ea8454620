//! The two numbers that make the given answers most likely.
//!
//! With `s` the scale and `t` the threshold, the logit of a label is `s * cosine` and that of "none of
//! these" `b = s * t`. In `s` and `b` the likelihood has one maximum, which Newton's method finds. As
//! in Platt's method no answer counts as quite certain, or a few examples that are all right would
//! make the scale infinite.

use super::{Example, Fitted, Until};
use crate::error::Result;
use crate::score::invalid;

/// Newton's method doubles its digits with every step near the end.
const STEPS: usize = 200;
/// Examples between two looks at the clock.
const PART: usize = 64;
/// Lower than this, a scale says that cosines mean nothing.
const LEAST_SCALE: f64 = 0.1;

/// A point, or a direction: scale and logit of "none of these".
#[derive(Debug, Clone, Copy)]
struct Point {
    scale: f64,
    none: f64,
}

/// Loss at a point, its gradient and the three numbers of its second derivative.
#[derive(Debug, Clone, Copy, Default)]
struct Surface {
    loss: f64,
    scale: f64,
    none: f64,
    scale_scale: f64,
    scale_none: f64,
    none_none: f64,
}

pub(super) fn fit(examples: &[&Example], logit_scale: f64, until: Until) -> Result<Fitted> {
    let rejecting = examples.iter().any(|example| example.answer.is_none());
    check(examples, rejecting)?;
    let mut at = Point { scale: logit_scale, none: 0.0 };
    let look = |at| measure(examples, at, rejecting, until);
    let mut surface = look(at)?;
    for _ in 0..STEPS {
        let step = newton(&surface);
        let Some((next, found)) = descend(look, at, &surface, step)? else { break };
        (at, surface) = (next, found);
    }
    if at.scale < LEAST_SCALE {
        return Err(invalid(
            "the answers of the examples do not go with the scores; see whether their labels are \
             right",
        ));
    }
    let threshold = rejecting.then(|| at.none / at.scale);
    Ok(Fitted { logit_scale: at.scale, threshold })
}

fn check(examples: &[&Example], rejecting: bool) -> Result<()> {
    if examples.is_empty() {
        return Err(invalid("expected examples, got none"));
    }
    if examples.iter().all(|example| example.answer.is_none()) {
        return Err(invalid("all examples are of none of these; add some of each label"));
    }
    if !rejecting && examples.iter().all(|example| example.cosines.len() == 1) {
        return Err(invalid("one label is always right; add examples of none of these"));
    }
    Ok(())
}

/// Halves the step until it leads down; `None` when nothing does any more.
fn descend(
    look: impl Fn(Point) -> Result<Surface>,
    at: Point,
    surface: &Surface,
    step: Point,
) -> Result<Option<(Point, Surface)>> {
    let mut length = 1.0;
    for _ in 0..40 {
        let next =
            Point { scale: at.scale + length * step.scale, none: at.none + length * step.none };
        let found = look(next)?;
        if found.loss < surface.loss - 1e-14 {
            return Ok(Some((next, found)));
        }
        length /= 2.0;
    }
    Ok(None)
}

/// Where the surface would be lowest if it were a parabola.
fn newton(s: &Surface) -> Point {
    // Keeps it invertible where one of the numbers does not matter.
    let (a, b, d) = (s.scale_scale + 1e-12, s.scale_none, s.none_none + 1e-12);
    let determinant = a * d - b * b;
    Point {
        scale: -(d * s.scale - b * s.none) / determinant,
        none: -(a * s.none - b * s.scale) / determinant,
    }
}

/// The mean over all examples.
fn measure(examples: &[&Example], at: Point, rejecting: bool, until: Until) -> Result<Surface> {
    let doubt = 1.0 / (examples.len() as f64 + 2.0);
    let mut mean = Surface::default();
    for part in examples.chunks(PART) {
        until.check()?;
        part.iter().for_each(|example| add(&mut mean, example, at, rejecting, doubt));
    }
    let count = examples.len() as f64;
    for number in [
        &mut mean.loss,
        &mut mean.scale,
        &mut mean.none,
        &mut mean.scale_scale,
        &mut mean.scale_none,
        &mut mean.none_none,
    ] {
        *number /= count;
    }
    Ok(mean)
}

fn add(to: &mut Surface, example: &Example, at: Point, rejecting: bool, doubt: f64) {
    let none = rejecting.then_some(at.none);
    let logits = example.cosines.iter().map(|cosine| cosine * at.scale).chain(none);
    let highest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.clone().map(|z| (z - highest).exp()).sum();
    let answers = example.cosines.len() + usize::from(rejecting);
    // The doubt is shared by all other answers.
    let other = doubt / (answers as f64 - 1.0).max(1.0);
    let right = example.answer.unwrap_or(example.cosines.len());
    let (mut mean, mut square, mut share_of_none) = (0.0, 0.0, 0.0);
    for (i, z) in logits.enumerate() {
        let share = (z - highest).exp() / sum;
        let wanted = if i == right { 1.0 - doubt } else { other };
        to.loss -= wanted * (z - highest - sum.ln());
        match example.cosines.get(i) {
            Some(cosine) => {
                to.scale += (share - wanted) * cosine;
                mean += share * cosine;
                square += share * cosine * cosine;
            }
            None => {
                to.none += share - wanted;
                share_of_none = share;
            }
        }
    }
    to.scale_scale += square - mean * mean;
    to.scale_none -= mean * share_of_none;
    to.none_none += share_of_none * (1.0 - share_of_none);
}
