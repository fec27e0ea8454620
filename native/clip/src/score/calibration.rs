//! What scores are worth: a logit scale and a threshold fitted to labelled examples, and how often the
//! answers are right for each confidence.

mod fit;

use std::time::Instant;

use super::{Kind, Scoring, check_rows, dot, invalid, ranking};
use crate::error::{Error, ErrorKind, Result};

/// Parts of the examples. Each is judged by a fit to the others, so that no answer is known before.
const FOLDS: usize = 5;
/// Bins of the reliability table, of equal width.
const BINS: usize = 10;
/// Most cosines of examples with labels: 512 MiB.
const MAX_COSINES: usize = 1 << 26;

/// The two numbers of a fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// Factor between cosines and logits: the inverse temperature.
    pub logit_scale: f64,
    /// Cosine from which a label beats "none of these", if any example is of that.
    pub threshold: Option<f64>,
}

/// Examples whose best score lies in one tenth of the range.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// How many there are.
    pub count: usize,
    /// Mean of their best scores.
    pub confidence: f64,
    /// Share of them whose best answer is right.
    pub accuracy: f64,
}

/// How well scores say how often the best answer is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Reliability {
    /// Share of right answers.
    pub accuracy: f64,
    /// Expected calibration error: the mean distance of confidence and accuracy over all examples.
    pub error: f64,
    /// From the scores 0 to 0.1 up to 0.9 to 1.
    pub bins: Vec<Bin>,
}

/// A fit with what it changed.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// From all examples.
    pub fitted: Fitted,
    /// With the scale from before, and without a threshold.
    pub before: Reliability,
    /// Each example by a fit to others.
    pub after: Reliability,
}

/// The cosines of an example's labels, and which one is right: `None` for none of them.
#[derive(Debug)]
struct Example {
    cosines: Vec<f64>,
    answer: Option<usize>,
}

/// When the work has to be done, or never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until(pub Option<Instant>);

impl Until {
    fn check(self) -> Result<()> {
        match self.0 {
            Some(end) if Instant::now() >= end => Err(Error::new(
                ErrorKind::Timeout,
                "the examples could not be fitted in time; give fewer examples or labels",
            )),
            _ => Ok(()),
        }
    }
}

/// Returns how many examples can be fitted with so many labels: their cosines are in memory.
pub fn most_examples(labels: usize) -> usize {
    (MAX_COSINES / labels.max(1)).max(1)
}

/// Fits scale and threshold to pictures whose answers are known.
///
/// `images` and `texts` hold rows of `dim` components. An answer is the index of a label, or the
/// number of labels for "none of these".
///
/// # Errors
/// `InvalidArgument` for examples that cannot be fitted, `Timeout`.
pub fn calibrate(
    images: &[f32],
    dim: usize,
    texts: &[f32],
    answers: &[usize],
    logit_scale: f64,
    until: Until,
) -> Result<Calibration> {
    check_rows(dim, images)?;
    check_rows(dim, texts)?;
    let labels = texts.len() / dim;
    if images.len() / dim != answers.len() || answers.iter().any(|answer| *answer > labels) {
        return Err(invalid("expected an answer for each picture, within the labels"));
    }
    if answers.len() > most_examples(labels) {
        return Err(invalid("expected fewer examples or labels"));
    }
    let example = |(image, answer): (&[f32], &usize)| {
        until.check()?;
        let cosines = texts.chunks_exact(dim).map(|text| dot(image, text)).collect();
        Ok(Example { cosines, answer: (*answer < labels).then_some(*answer) })
    };
    let examples: Vec<Example> =
        images.chunks_exact(dim).zip(answers).map(example).collect::<Result<_>>()?;
    let all: Vec<&Example> = examples.iter().collect();
    let fitted = fit::fit(&all, logit_scale, until)?;
    let before = Fitted { logit_scale, threshold: None };
    Ok(Calibration {
        fitted,
        before: reliability(&all, |_| before)?,
        after: cross_validated(&all, fitted, logit_scale, until)?,
    })
}

/// Each example judged by a fit to those of the other parts.
fn cross_validated(
    all: &[&Example],
    fitted: Fitted,
    logit_scale: f64,
    until: Until,
) -> Result<Reliability> {
    let folds = FOLDS.min(all.len());
    let fit = |fold| {
        let others = all.iter().enumerate().filter(|(i, _)| i % folds != fold);
        let others: Vec<&Example> = others.map(|(_, example)| *example).collect();
        match fit::fit(&others, logit_scale, until) {
            Err(error) if error.kind() == ErrorKind::Timeout => Err(error),
            // Too few are left to say anything else.
            fit => Ok(fit.unwrap_or(fitted)),
        }
    };
    let fits: Vec<Fitted> = (0..folds).map(fit).collect::<Result<_>>()?;
    reliability(all, |i| fits[i % folds])
}

fn reliability(examples: &[&Example], fitted: impl Fn(usize) -> Fitted) -> Result<Reliability> {
    let mut bins = vec![Bin::default(); BINS];
    for (i, example) in examples.iter().enumerate() {
        let Fitted { logit_scale, threshold } = fitted(i);
        let top = Some(1);
        let scoring = Scoring {
            kind: Kind::Softmax,
            logit_scale,
            logit_bias: None,
            threshold,
            top,
            least: None,
        };
        let best = ranking::rank(&example.cosines, Vec::new(), &scoring, ranking::sum_of_powers)?;
        let (answer, score) = best[0];
        let right = example.answer.unwrap_or(example.cosines.len()) == answer;
        let bin = &mut bins[((score * BINS as f64) as usize).min(BINS - 1)];
        bin.count += 1;
        bin.confidence += score;
        bin.accuracy += f64::from(u8::from(right));
    }
    let count = examples.len() as f64;
    let accuracy = bins.iter().map(|bin| bin.accuracy).sum::<f64>() / count;
    let error = bins.iter().map(|bin| (bin.accuracy - bin.confidence).abs()).sum::<f64>() / count;
    for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
        bin.confidence /= bin.count as f64;
        bin.accuracy /= bin.count as f64;
    }
    Ok(Reliability { accuracy, error, bins })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three labels along the axes, and pictures that lean to one of them by chance: the share of
    /// right answers follows from `scale` alone.
    fn examples(scale: f64, count: usize, negatives: usize) -> (Vec<f32>, Vec<usize>) {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let (mut images, mut answers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let cosines = [random(), random(), random()].map(|x| 0.2 + 0.1 * x);
            let sum: f64 = cosines.iter().map(|c| (c * scale).exp()).sum();
            let mut left = random() * sum;
            let answer = cosines.iter().position(|c| {
                left -= (c * scale).exp();
                left <= 0.0
            });
            answers.push(answer.unwrap_or(2));
            images.extend(picture(cosines));
        }
        for _ in 0..negatives {
            images.extend(picture([0.05 + 0.1 * random(), 0.1, 0.1]));
        }
        answers.extend(std::iter::repeat_n(3, negatives));
        (images, answers)
    }

    /// A unit vector with these first components.
    fn picture(cosines: [f64; 3]) -> [f32; 4] {
        let rest = (1.0 - cosines.iter().map(|c| c * c).sum::<f64>()).sqrt();
        [cosines[0], cosines[1], cosines[2], rest].map(|x| x as f32)
    }

    const LABELS: [f32; 12] = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0];

    #[test]
    fn the_scale_that_made_the_answers_is_found() {
        for scale in [5.0, 30.0, 60.0] {
            let (images, answers) = examples(scale, 4_000, 0);
            let found = calibrate(&images, 4, &LABELS, &answers, 100.0, Until(None)).unwrap();
            let fitted = found.fitted;
            assert!((fitted.logit_scale / scale - 1.0).abs() < 0.25, "{scale}: {fitted:?}");
            assert_eq!(fitted.threshold, None);
            assert!(found.after.error < 0.04, "{:?}", found.after);
            assert!(found.before.error > 3.0 * found.after.error, "{:?}", found.before);
            assert_eq!(found.before.accuracy, found.after.accuracy);
        }
    }

    #[test]
    fn the_threshold_lies_between_what_is_there_and_what_is_not() {
        let (images, answers) = examples(60.0, 500, 500);
        let found = calibrate(&images, 4, &LABELS, &answers, 100.0, Until(None)).unwrap();
        let threshold = found.fitted.threshold.unwrap();
        assert!((0.14..0.28).contains(&threshold), "{threshold}");
        assert!(found.before.accuracy < 0.5 && found.after.accuracy > 0.75, "{found:?}");
    }

    #[test]
    fn a_few_perfect_answers_do_not_make_certainty() {
        let images: Vec<f32> =
            [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]].map(picture).concat();
        let found = calibrate(&images, 4, &LABELS, &[0, 1, 2], 100.0, Until(None)).unwrap();
        assert!(found.fitted.logit_scale < 10.0, "{:?}", found.fitted);
        assert_eq!(found.after.accuracy, 1.0);
    }

    #[test]
    fn a_table_counts_every_example_once() {
        let (images, answers) = examples(30.0, 200, 50);
        let found = calibrate(&images, 4, &LABELS, &answers, 30.0, Until(None)).unwrap();
        for table in [&found.before, &found.after] {
            assert_eq!(table.bins.len(), BINS);
            assert_eq!(table.bins.iter().map(|bin| bin.count).sum::<usize>(), 250);
            let gap = |bin: &Bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs();
            let error = table.bins.iter().map(gap).sum::<f64>() / 250.0;
            assert!((table.error - error).abs() < 1e-12);
            for (i, bin) in table.bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
                assert_eq!(((bin.confidence * 10.0) as usize).min(9), i);
            }
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_an_error_that_says_why() {
        let message = |images: &[f32], labels: &[f32], answers: &[usize]| {
            calibrate(images, 4, labels, answers, 30.0, Until(None)).unwrap_err().to_string()
        };
        let image = picture([0.9, 0.1, 0.1]);
        assert!(message(&[], &LABELS, &[]).contains("examples"));
        assert!(message(&image, &LABELS, &[3]).contains("none of these"));
        assert!(message(&image, &LABELS[..4], &[0]).contains("one label"));
        assert!(message(&image, &LABELS, &[4]).contains("within the labels"));
        assert!(message(&image, &LABELS, &[]).contains("an answer for each"));
        // The lowest cosine is right, every time.
        let wrong = message(&image.repeat(9), &LABELS, &[1; 9]);
        assert!(wrong.contains("do not go with"), "{wrong}");
    }

    #[test]
    fn work_that_is_not_done_in_time_is_an_error() {
        let (images, answers) = examples(30.0, 200, 50);
        let until = Until(Some(Instant::now()));
        let error = calibrate(&images, 4, &LABELS, &answers, 30.0, until).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let all: Vec<Example> =
            answers.iter().map(|_| Example { cosines: vec![0.1, 0.2], answer: Some(1) }).collect();
        let all: Vec<&Example> = all.iter().collect();
        let fitted = Fitted { logit_scale: 30.0, threshold: None };
        assert_eq!(fit::fit(&all, 30.0, until).unwrap_err().kind(), ErrorKind::Timeout);
        let error = cross_validated(&all, fitted, 30.0, until).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn more_cosines_than_memory_is_for_are_an_error() {
        assert_eq!(most_examples(1 << 16), 1 << 10);
        assert_eq!(most_examples(0), MAX_COSINES);
        assert_eq!(most_examples(usize::MAX), 1);
        let many = MAX_COSINES / 3 + 1;
        let error = calibrate(&vec![1.0; many], 1, &[1.0; 3], &vec![0; many], 30.0, Until(None));
        assert!(error.unwrap_err().to_string().contains("fewer examples"));
    }
}
