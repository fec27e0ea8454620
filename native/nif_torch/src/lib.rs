//! The bridge to libtorch: Erlang terms in, `clip_torch` calls, Erlang terms out. No logic.
//!
//! Every function returns `{:ok, value}` or `{:error, {reason, message}}`. Loading and unloading wait
//! on dirty schedulers; batches run on the model's own threads and are answered by a message.
//!
//! A library of its own, because libtorch comes into the VM with it: 100 MB that a node without a
//! model has no use for.

mod batch;
mod terms;

use std::path::Path;

use clip_torch::{Drill, Model};
use nif_terms::{Failure, guarded};
use rustler::{Atom, Resource, ResourceArc};

use terms::{LoadOptionsTerm, ModelInfo};

mod atoms {
    rustler::atoms! { unloaded, survived, panic, job_panic, cpp_exception }
}

/// The one resource: a loaded model. Dropped with the last reference to it, or emptied by
/// `model_unload`.
struct ModelResource(Model);

#[rustler::resource_impl]
impl Resource for ModelResource {}

type Ref = ResourceArc<ModelResource>;

#[rustler::nif(schedule = "DirtyIo")]
fn model_load(directory: String, options: LoadOptionsTerm) -> Result<Ref, Failure> {
    guarded(|| {
        let model = Model::load(Path::new(&directory), &options.options()?)?;
        Ok(ResourceArc::new(ModelResource(model)))
    })
}

#[rustler::nif]
fn model_info(model: Ref) -> Result<ModelInfo, Failure> {
    guarded(|| Ok(ModelInfo::from(model.0.info())))
}

#[rustler::nif(schedule = "DirtyIo")]
fn model_unload(model: Ref) -> Result<Atom, Failure> {
    guarded(|| {
        model.0.unload();
        Ok(atoms::unloaded())
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn devices() -> Result<Vec<String>, Failure> {
    guarded(|| Ok(clip_torch::device::available()))
}

/// Provokes a failure, for the tests of what becomes of it.
#[rustler::nif(schedule = "DirtyIo")]
fn drill(kind: Atom, model: Option<Ref>) -> Result<Atom, Failure> {
    guarded(|| {
        match model {
            Some(model) if kind == atoms::job_panic() => model.0.drill(Drill::Panic)?,
            Some(model) if kind == atoms::cpp_exception() => model.0.drill(Drill::Exception)?,
            #[allow(clippy::panic)]
            _ if kind == atoms::panic() => panic!("drill"),
            _ => {}
        }
        Ok(atoms::survived())
    })
}

rustler::init!("Elixir.Image.ZeroShot.Native.Torch");
