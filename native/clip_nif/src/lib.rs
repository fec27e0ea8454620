//! The bridge to what needs no libtorch: Erlang terms in, calls of `clip_base` and `clip_hub`,
//! Erlang terms out. No logic.
//!
//! Every function returns `{:ok, value}` or `{:error, {reason, message}}`. Downloads run on dirty
//! schedulers; pictures are prepared on threads of their own, and come back as a message.

mod environment;
mod hub;
mod pictures;

use clip_base::score as scores;
use nif_terms::{Failure, Floats};
use rustler::Binary;

fn guarded<T>(body: impl FnOnce() -> clip_base::Result<T>) -> Result<T, Failure> {
    nif_terms::guarded(|error| error.kind().as_str(), body)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn score(image: Binary, texts: Binary, logit_scale: f64) -> Result<Vec<f64>, Failure> {
    guarded(|| scores::softmax(&Floats::read(&image)?, &Floats::read(&texts)?, logit_scale))
}

#[rustler::nif]
fn cosine(a: Binary, b: Binary) -> Result<f64, Failure> {
    guarded(|| scores::cosine(&Floats::read(&a)?, &Floats::read(&b)?))
}

rustler::init!("Elixir.Image.ZeroShot.Native");
