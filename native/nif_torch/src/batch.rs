//! A batch of pictures and prompts, or the parts of pictures, on the model's own threads, answered by a message.
//!
//! Waiting would keep a dirty scheduler from the rest of the application, for as long as a batch
//! takes. So a call only queues the batch, on whatever scheduler it is made.

use clip::{Error, ErrorKind};
use clip_torch::Inference;
use nif_terms::{Failure, Floats, guarded};
use rustler::env::SavedTerm;
use rustler::{Atom, Binary, Decoder, Env, LocalPid, OwnedEnv, Term};

use crate::Ref;

mod atoms {
    rustler::atoms! { queued }
}

/// Queues a batch. The caller will get `{tag, {:ok, {images, texts, truncated}}}`, rows of unit
/// vectors and the indices of prompts that were cut, or `{tag, {:error, failure}}`.
///
/// Takes as long for large pictures as for small ones: the bytes are shared, not copied.
#[rustler::nif]
fn encode(
    env: Env<'_>,
    model: Ref,
    tag: Term<'_>,
    pixels: Term<'_>,
    prompts: Term<'_>,
) -> Result<Atom, Failure> {
    queue(env, model, tag, pixels, prompts, |running, pictures| running.encode_images(pictures))
}

/// The same with the parts of each picture's vector instead of the vector.
#[rustler::nif]
fn parts(
    env: Env<'_>,
    model: Ref,
    tag: Term<'_>,
    pixels: Term<'_>,
    prompts: Term<'_>,
) -> Result<Atom, Failure> {
    queue(env, model, tag, pixels, prompts, |running, pictures| running.image_parts(pictures))
}

/// What becomes of pictures.
type Images = fn(&Inference<'_>, &[&[u8]]) -> clip_torch::Result<Vec<f32>>;

fn queue(
    env: Env<'_>,
    model: Ref,
    tag: Term<'_>,
    pixels: Term<'_>,
    prompts: Term<'_>,
    images: Images,
) -> Result<Atom, Failure> {
    guarded(|| {
        let terms = OwnedEnv::new();
        let batch = Batch {
            caller: env.pid(),
            tag: terms.save(tag),
            pixels: terms.save(pixels),
            prompts: terms.save(prompts),
            images,
            terms,
        };
        model.0.submit(move |running| batch.run(running))?;
        Ok(atoms::queued())
    })
}

/// What to compute, and who gets it.
struct Batch {
    terms: OwnedEnv,
    caller: LocalPid,
    tag: SavedTerm,
    pixels: SavedTerm,
    prompts: SavedTerm,
    images: Images,
}

type Embeddings = (Floats, Floats, Vec<usize>);

impl Batch {
    /// What returns sends the answer.
    fn run(self, running: &Inference<'_>) -> impl FnOnce() + use<> {
        let result = guarded(|| self.embeddings(running));
        let Self { mut terms, caller, tag, .. } = self;
        // Who has ended in the meantime misses nothing.
        move || {
            let _ = terms.send_and_clear(&caller, |env| (tag.load(env), result));
        }
    }

    fn embeddings(&self, running: &Inference<'_>) -> clip::Result<Embeddings> {
        self.terms.run(|env| {
            let pixels: Vec<Binary<'_>> = decode(self.pixels.load(env), "a list of binaries")?;
            let prompts: Vec<&str> = decode(self.prompts.load(env), "a list of strings")?;
            let pixels: Vec<&[u8]> = pixels.iter().map(Binary::as_slice).collect();
            let images = (self.images)(running, &pixels)?;
            let texts = running.encode_texts(&prompts)?;
            Ok((Floats(images), Floats(texts.rows), texts.truncated))
        })
    }
}

fn decode<'a, T: Decoder<'a>>(term: Term<'a>, expected: &str) -> clip::Result<T> {
    term.decode().map_err(|_| {
        Error::new(ErrorKind::InvalidArgument, format!("expected {expected}, got another term"))
    })
}
