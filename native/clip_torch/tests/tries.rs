//! Prompts in one call share what they begin with; that must change no embedding.
//!
//! The plain tower is a call with one prompt: it shares nothing, and `tests/fidelity.rs` compares
//! it with transformers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use clip_torch::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, project};

/// Asked for is 1e-5; the order in which numbers are summed makes some 2e-7.
const TOLERANCE: f32 = 1e-6;

struct Subject {
    model: Model,
    _cache: Scratch,
}

impl Subject {
    fn load() -> Self {
        let cache = Scratch::new();
        let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
        // Thousands of short calls: on a busy machine, threads would wait for each other.
        options.threads = 1;
        let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
        Self { model, _cache: cache }
    }

    /// Each prompt's embedding from one call with all, and from a call of its own.
    fn check(&self, prompts: &[String]) {
        let dim = self.model.info().dim;
        let together = self.model.encode_texts(prompts).unwrap().rows;
        assert_eq!(together.len(), prompts.len() * dim);
        for (prompt, embedding) in prompts.iter().zip(together.chunks(dim)) {
            let alone = self.model.encode_texts(&[prompt]).unwrap().rows;
            let difference =
                alone.iter().zip(embedding).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(difference <= TOLERANCE, "{prompt:?} of {prompts:?}: {difference}");
        }
    }
}

fn owned<const N: usize>(prompts: [&str; N]) -> Vec<String> {
    prompts.map(str::to_owned).into()
}

#[test]
fn awkward_prompts_are_what_they_are_alone() {
    let subject = Subject::load();
    let long = "dog ".repeat(200);
    let nearly_as_long = format!("{long} cat");
    let sets = [
        owned([]),
        owned([""]),
        owned(["", ""]),
        owned(["", " \t ", "x"]),
        owned(["a photo of a dog"]),
        // Nothing in common but the start; and all of it.
        owned(["dog", "a cat", "two rockets"]),
        owned(["a photo of a dog", "a photo of a dog", "a photo of a dog"]),
        // One is the beginning of the others, but for its end token.
        owned(["a photo of", "a photo of a dog", "a photo of a dog and a cat", "a photo of a cat"]),
        owned(["a photo of 😀", "a photo of 🐶", "a photo of 👩‍👩‍👧", "😀", "🐶🐱", "a photo of é"]),
        // The longest that the model takes, twice the same after the cut.
        owned(["a photo of a dog", &long, &nearly_as_long, "dog dog", ""]),
    ];
    for prompts in sets {
        subject.check(&prompts);
    }
}

#[test]
fn every_length_is_computed_whatever_was_traced() {
    let subject = Subject::load();
    let model = &subject.model;
    let words = |n: usize| "dog ".repeat(n);
    let prompts: Vec<String> = (0..model.info().context_length).map(words).collect();
    for prompt in &prompts {
        subject.check(&owned([prompt, "a cat"]));
    }
    subject.check(&prompts);
}

#[test]
fn templates_mix() {
    let subject = Subject::load();
    let labels = ["dog", "cat", "hot air balloon", "", "🚀", "doghouse"];
    let templates =
        ["a photo of {}", "{}", "a photo of many {}", "art of the {}.", "a {} in a box"];
    let fill = |label| templates.map(|template: &str| template.replace("{}", label));
    let by_label: Vec<String> = labels.into_iter().flat_map(fill).collect();
    subject.check(&by_label);
    let reversed: Vec<String> = by_label.into_iter().rev().collect();
    subject.check(&reversed);
}

/// Words from few letters, so that prompts begin alike by chance, as far as chance goes.
fn random_prompts(count: usize) -> Vec<String> {
    let mut state = 7u32;
    let mut below = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % limit
    };
    let mut prompt = || {
        let words =
            (0..below(9)).map(|_| ["a", "dog", "ox", "é", "🐱", "o", "cab!"][below(7) as usize]);
        words.collect::<Vec<_>>().join(" ")
    };
    (0..count).map(|_| prompt()).collect()
}

#[test]
fn a_thousand_random_prompts_are_what_they_are_alone_in_any_order() {
    let subject = Subject::load();
    let mut prompts = random_prompts(1000);
    subject.check(&prompts);
    let dim = subject.model.info().dim;
    let forwards = subject.model.encode_texts(&prompts).unwrap().rows;
    prompts.reverse();
    let backwards = subject.model.encode_texts(&prompts).unwrap().rows;
    // The same passes, whatever the order of the call.
    assert!(forwards.chunks(dim).eq(backwards.chunks(dim).rev()));
}
