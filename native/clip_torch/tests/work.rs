//! How much is computed, counted instead of timed, so that a regression shows on any machine.
//!
//! The witness is oneDNN, which multiplies with all weights. Where `ONEDNN_VERBOSE` asks for it, it tells of every
//! product and of every weight that it brings into another order. So the library counts nothing itself. oneDNN
//! reads the variable once and writes to the process's output: hence a child for each test.
//!
//! The numbers are those of the embedded model on two threads. A change that lowers them changes them here.

#![allow(clippy::unwrap_used)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::process::Command;

use clip_torch::{DeviceRequest, ErrorKind, LoadOptions, Model, Precision, PrecisionRequest};
use support::{Scratch, project};

/// Set in the child.
const CHILD: &str = "CLIP_TEST_WORK";
/// What the child writes before each phase.
const PHASE: &str = "\nbegins: ";

/// Weights of products: four in each block, five in the last one, which computes queries for less than
/// it computes keys for; a projection; and the embedding of patches.
const WEIGHTS: usize = (2 * 4 + 5 + 1) + (3 * 4 + 5 + 1 + 1);
/// Inputs and outputs of the one product in a pass that has all rows and no twin: keys and values of the last block.
const TEXT: [usize; 2] = [128, 256];
const IMAGE: [usize; 2] = [192, 384];
/// Those of the products of which each block has one: of all rows, but in the last block of the pooled ones.
const TEXT_MLP: [usize; 2] = [128, 512];
/// The class token and the patches of a picture.
const PICTURE: usize = 17;

/// What oneDNN did in a phase.
#[derive(Debug, Default)]
struct Work {
    packings: usize,
    /// Rows, inputs and outputs.
    products: Vec<[usize; 3]>,
}

impl Work {
    fn note(&mut self, line: &str) {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() < 12 || fields[0] != "onednn_verbose" || fields[3] != "exec" {
            return;
        }
        match (fields[5], numbers(fields[fields.len() - 2]).as_slice()) {
            ("reorder", _) => self.packings += 1,
            // `mb5ic128oc512` and `5x128:128x512`.
            ("inner_product", &[rows, inputs, outputs])
            | ("matmul", &[rows, inputs, _, outputs]) => {
                self.products.push([rows, inputs, outputs])
            }
            _ => {}
        }
    }

    /// Rows of the products with weights of this size, the most first.
    fn rows(&self, size: [usize; 2]) -> Vec<usize> {
        let of_size = self.products.iter().filter(|product| product[1..] == size);
        let mut rows: Vec<usize> = of_size.map(|product| product[0]).collect();
        rows.sort_by(|a, b| b.cmp(a));
        rows
    }
}

/// The numbers in a text.
fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Begins a phase in the child.
fn begin(phase: &str) {
    println!("{PHASE}{phase}");
}

/// What oneDNN did in each phase of `run`; nothing in the child, which runs it.
fn observed(test: &str, run: fn()) -> Option<Vec<(String, Work)>> {
    if std::env::var_os(CHILD).is_some() {
        run();
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("ONEDNN_VERBOSE", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let phases = text.split(PHASE).skip(1);
    Some(phases.map(|phase| phase.split_once('\n').unwrap()).map(read).collect())
}

fn read((phase, lines): (&str, &str)) -> (String, Work) {
    let mut work = Work::default();
    lines.lines().for_each(|line| work.note(line));
    (phase.to_owned(), work)
}

fn load(precision: Precision, cache: &Scratch) -> clip_torch::Result<Model> {
    load_from("priv/models/emoji-clip", precision, cache)
}

fn load_from(folder: &str, precision: Precision, cache: &Scratch) -> clip_torch::Result<Model> {
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    options.threads = 2;
    options.precision = PrecisionRequest::Exactly(precision);
    Model::load(&project(folder), &options)
}

fn pictures(model: &Model, count: usize) -> Vec<Vec<u8>> {
    let pixels = 3 * model.info().image_size.pow(2);
    (0..count).map(|picture| vec![picture as u8; pixels]).collect()
}

fn encode(model: &Model, count: usize) {
    let pictures = pictures(model, count);
    let _ = model.encode_images(&pictures.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
}

fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("a photo of thing number {number}")).collect()
}

/// The first load also traces the encoders and makes libtorch ready.
#[test]
fn a_load_packs_each_weight_once_and_a_call_packs_none() {
    let test = "a_load_packs_each_weight_once_and_a_call_packs_none";
    let phases = observed(test, || {
        let cache = Scratch::new();
        drop(load(Precision::F32, &cache).unwrap());
        for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
            begin("a load");
            let model = match load(precision, &cache) {
                Ok(model) => model,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::DeviceUnavailable, "{error}");
                    begin("not here");
                    continue;
                }
            };
            begin("calls");
            for count in 1..=10 {
                encode(&model, 3 * count);
                let _ = model.encode_texts(&prompts(10 * count)).unwrap();
                let _ = model.image_parts(&[&pictures(&model, 1)[0]]).unwrap();
            }
        }
        begin("the end");
    });
    let Some(phases) = phases else { return };
    let mut calls = 0;
    for pair in phases.windows(2) {
        match (pair[0].0.as_str(), pair[1].0.as_str()) {
            ("a load", "calls") => {
                assert_eq!(pair[0].1.packings, WEIGHTS);
                assert_eq!(pair[0].1.products.len(), 0);
                // 14 products of texts, 19 of a picture and as many of its parts.
                assert!(pair[1].1.products.len() >= 10 * (14 + 19 + 19), "{pair:?}");
                assert_eq!(pair[1].1.packings, 0);
                calls += 1;
            }
            ("a load", next) => assert_eq!(next, "not here"),
            _ => {}
        }
    }
    assert!(calls >= 1);
}

#[test]
fn prompts_take_few_passes_and_few_tokens() {
    let phases = observed("prompts_take_few_passes_and_few_tokens", || {
        let cache = Scratch::new();
        let model = load(Precision::F32, &cache).unwrap();
        for count in [1, 5, 1_000] {
            begin(&count.to_string());
            let _ = model.encode_texts(&prompts(count)).unwrap();
        }
        begin("the same 300 times");
        let _ = model.encode_texts(&vec!["a photo of a dog"; 300]).unwrap();
    });
    let Some(phases) = phases else { return };
    // Tokens of each pass, and prompts, both rounded up to sizes that passes have.
    let expected = [
        ("1", vec![16], 8),
        ("5", vec![24], 8),
        ("1000", vec![256, 256, 256, 256, 256, 256, 256, 256, 48], 1040),
        ("the same 300 times", vec![8, 8], 256 + 48),
    ];
    for ((phase, work), (name, tokens, pooled)) in phases.iter().zip(&expected) {
        assert_eq!(phase, name);
        assert_eq!(&work.rows(TEXT), tokens, "tokens of each pass, {phase}");
        assert_eq!(work.products.len(), 14 * tokens.len(), "{phase}");
        // Three blocks, the last one of which computes only what is pooled.
        let mlp: usize = work.rows(TEXT_MLP).iter().sum();
        assert_eq!(mlp - 2 * tokens.iter().sum::<usize>(), *pooled, "{phase}");
    }
    assert_eq!(phases.len(), expected.len());
}

/// A tiny SigLIP, whose prompts have 64 tokens each.
#[test]
fn a_text_tower_that_attends_to_padding_computes_its_last_block_at_one_position() {
    let test = "a_text_tower_that_attends_to_padding_computes_its_last_block_at_one_position";
    let phases = observed(test, || {
        let cache = Scratch::new();
        let model = load_from("test/fixtures/families/siglip", Precision::F32, &cache).unwrap();
        for count in [1, 5, 40] {
            begin(&count.to_string());
            let _ = model.encode_texts(&prompts(count)).unwrap();
        }
    });
    let Some(phases) = phases else { return };
    let expected = [("1", vec![1]), ("5", vec![5]), ("40", vec![10; 4])];
    for ((phase, work), (count, passes)) in phases.iter().zip(&expected) {
        assert_eq!(phase, count);
        // Two blocks: the first one computes all positions, the last one the pooled position.
        let all = passes.iter().map(|prompts| 64 * prompts);
        let rows: Vec<usize> = all.chain(passes.iter().copied()).collect();
        assert_eq!(work.rows([12, 24]), rows, "rows of each pass, {phase}");
        // Four of each block and the head; keys and values of the last block are not computed.
        assert_eq!(work.products.len(), 9 * passes.len(), "{phase}");
    }
    assert_eq!(phases.len(), expected.len());
}

#[test]
fn pictures_go_in_equal_passes_of_both_threads() {
    let phases = observed("pictures_go_in_equal_passes_of_both_threads", || {
        let cache = Scratch::new();
        let model = load(Precision::F32, &cache).unwrap();
        for count in [1, 8, 200] {
            begin(&count.to_string());
            encode(&model, count);
        }
    });
    let Some(phases) = phases else { return };
    // Memory grows with the pictures of a pass.
    let of_200 = [vec![8; 18], vec![7; 8]].concat();
    let expected = [("1", vec![1]), ("8", vec![4, 4]), ("200", of_200)];
    for ((phase, work), (count, pictures)) in phases.iter().zip(&expected) {
        assert_eq!(phase, count);
        let rows: Vec<usize> = pictures.iter().map(|pictures| PICTURE * pictures).collect();
        assert_eq!(work.rows(IMAGE), rows, "rows of each pass, {phase}");
        assert_eq!(work.products.len(), 19 * pictures.len(), "{phase}");
    }
    assert_eq!(phases.len(), expected.len());
}
