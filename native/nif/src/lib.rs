//! The bridge to what needs no libtorch: Erlang terms in, calls of `clip` and `clip_hub`,
//! Erlang terms out. No logic.
//!
//! Every function returns `{:ok, value}` or `{:error, {reason, message}}`. Downloads run on dirty
//! schedulers; pictures are prepared on threads of their own, and come back as a message.

mod environment;
mod hub;
mod layout;
mod pictures;

use clip::score::{self, Kind, Scoring};
use nif_terms::{Failure, Floats, guarded};
use rustler::{Binary, NifMap, NifUnitEnum};

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

/// `%{kind: :softmax, logit_scale: 100.0, top: nil, least: nil}`.
#[derive(NifMap)]
struct ScoringTerm {
    kind: KindTerm,
    logit_scale: f64,
    top: Option<usize>,
    least: Option<f64>,
}

#[derive(NifUnitEnum)]
enum KindTerm {
    Softmax,
    Independent,
    Logits,
    Cosine,
}

impl From<ScoringTerm> for Scoring {
    fn from(term: ScoringTerm) -> Self {
        let kind = match term.kind {
            KindTerm::Softmax => Kind::Softmax,
            KindTerm::Independent => Kind::Independent,
            KindTerm::Logits => Kind::Logits,
            KindTerm::Cosine => Kind::Cosine,
        };
        Self { kind, logit_scale: term.logit_scale, top: term.top, least: term.least }
    }
}

rustler::init!("Elixir.Image.ZeroShot.Native");
