//! The bridge to what needs no libtorch: Erlang terms in, calls of `clip` and `clip_hub`,
//! Erlang terms out. No logic.
//!
//! Every function returns `{:ok, value}` or `{:error, {reason, message}}`. Downloads run on dirty
//! schedulers; pictures are prepared and indexes searched on threads of their own, and the answer comes as a
//! message.

mod environment;
mod explain;
mod hub;
mod layout;
mod pictures;
mod prepared;
mod search;

use std::time::{Duration, Instant};

use clip::score::calibration::{self, Calibration, Reliability, Until};
use clip::score::{self, Kind, Scoring};
use nif_terms::{Failure, Floats, guarded};
use rustler::{Binary, Env, NewBinary, NifMap, NifUnitEnum};

/// `[{index, score}]` of the rows of `texts`, best first; the background comes after the last row.
#[rustler::nif(schedule = "DirtyCpu")]
fn rank(
    image: Binary,
    texts: Binary,
    background: Binary,
    scoring: ScoringTerm,
) -> Result<Vec<(usize, f64)>, Failure> {
    guarded(|| {
        let (image, texts) = (Floats::read(&image)?, Floats::read(&texts)?);
        score::rank(&image, &texts, &Floats::read(&background)?, &scoring.into())
    })
}

/// The same for each row of `images`.
#[rustler::nif(schedule = "DirtyCpu")]
fn rank_many(
    images: Binary,
    dim: usize,
    texts: Binary,
    background: Binary,
    scoring: ScoringTerm,
) -> Result<Vec<Vec<(usize, f64)>>, Failure> {
    guarded(|| {
        let (images, texts) = (Floats::read(&images)?, Floats::read(&texts)?);
        score::rank_many(&images, dim, &texts, &Floats::read(&background)?, &scoring.into())
    })
}

/// Rows of labels, of the prompts and the pictures of each.
#[rustler::nif(schedule = "DirtyCpu")]
fn mix(
    dim: usize,
    prompts: (Binary, Vec<usize>),
    pictures: (Binary, Vec<usize>),
    weight: f64,
) -> Result<Floats, Failure> {
    guarded(|| {
        let prompts = (&*Floats::read(&prompts.0)?, prompts.1.as_slice());
        let pictures = (&*Floats::read(&pictures.0)?, pictures.1.as_slice());
        Ok(Floats(score::mix(dim, prompts, pictures, weight)?))
    })
}

#[rustler::nif(schedule = "DirtyCpu")]
fn calibrate(
    images: Binary,
    dim: usize,
    texts: Binary,
    answers: Vec<usize>,
    logit_scale: f64,
    max_ms: Option<u64>,
) -> Result<CalibrationTerm, Failure> {
    guarded(|| {
        let end = max_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        let (images, texts) = (Floats::read(&images)?, Floats::read(&texts)?);
        let found =
            calibration::calibrate(&images, dim, &texts, &answers, logit_scale, Until(end))?;
        Ok(found.into())
    })
}

#[rustler::nif]
fn most_examples(labels: usize) -> Result<usize, Failure> {
    guarded(|| Ok(calibration::most_examples(labels)))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn ensemble(rows: Binary, counts: Vec<usize>) -> Result<Floats, Failure> {
    guarded(|| Ok(Floats(score::ensemble(&Floats::read(&rows)?, &counts)?)))
}

#[rustler::nif]
fn cosine(a: Binary, b: Binary) -> Result<f64, Failure> {
    guarded(|| score::cosine(&Floats::read(&a)?, &Floats::read(&b)?))
}

#[rustler::nif]
fn unit(vector: Binary) -> Result<Floats, Failure> {
    guarded(|| Ok(Floats(score::unit(&Floats::read(&vector)?)?.into_owned())))
}

/// A JPEG file of pixels as `preprocess` makes them.
#[rustler::nif(schedule = "DirtyCpu")]
fn thumbnail<'a>(env: Env<'a>, pixels: Binary, side: usize) -> Result<Binary<'a>, Failure> {
    let file = guarded(|| clip::thumbnail::jpeg(&pixels, side))?;
    let mut binary = NewBinary::new(env, file.len());
    binary.as_mut_slice().copy_from_slice(&file);
    Ok(binary.into())
}

/// `%{kind: :softmax, logit_scale: 100.0, logit_bias: nil, threshold: nil, top: nil, least: nil}`.
#[derive(NifMap)]
pub(crate) struct ScoringTerm {
    kind: KindTerm,
    logit_scale: f64,
    logit_bias: Option<f64>,
    threshold: Option<f64>,
    top: Option<usize>,
    least: Option<f64>,
}

#[derive(NifUnitEnum)]
enum KindTerm {
    Softmax,
    Independent,
    Sigmoid,
    Logits,
    Cosine,
}

impl From<ScoringTerm> for Scoring {
    fn from(term: ScoringTerm) -> Self {
        let kind = match term.kind {
            KindTerm::Softmax => Kind::Softmax,
            KindTerm::Independent => Kind::Independent,
            KindTerm::Sigmoid => Kind::Sigmoid,
            KindTerm::Logits => Kind::Logits,
            KindTerm::Cosine => Kind::Cosine,
        };
        let ScoringTerm { logit_scale, logit_bias, threshold, top, least, .. } = term;
        Self { kind, logit_scale, logit_bias, threshold, top, least }
    }
}

#[derive(NifMap)]
struct CalibrationTerm {
    logit_scale: f64,
    threshold: Option<f64>,
    before: ReliabilityTerm,
    after: ReliabilityTerm,
}

/// `bins` are `{count, confidence, accuracy}`, from the scores 0 to 0.1 up to 0.9 to 1.
#[derive(NifMap)]
struct ReliabilityTerm {
    accuracy: f64,
    error: f64,
    bins: Vec<(usize, f64, f64)>,
}

impl From<Calibration> for CalibrationTerm {
    fn from(calibration: Calibration) -> Self {
        Self {
            logit_scale: calibration.fitted.logit_scale,
            threshold: calibration.fitted.threshold,
            before: calibration.before.into(),
            after: calibration.after.into(),
        }
    }
}

impl From<Reliability> for ReliabilityTerm {
    fn from(reliability: Reliability) -> Self {
        let bins = reliability.bins.iter();
        Self {
            accuracy: reliability.accuracy,
            error: reliability.error,
            bins: bins.map(|bin| (bin.count, bin.confidence, bin.accuracy)).collect(),
        }
    }
}

rustler::init!("Elixir.Image.ZeroShot.Native");
