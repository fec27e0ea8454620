//! Which patches an embedding comes from, against hooks on transformers' eager model.
//!
//! `test/oracle/parts.py` writes what is expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use clip_torch::{Checkpoint, DeviceRequest, ErrorKind, LoadOptions, Model};
use safetensors::SafeTensors;
use serde_json::{Value, json};
use support::{Scratch, copy_folder, fixture, project};

fn load(folder: &Path, cache: &Path) -> Model {
    Model::load(folder, &LoadOptions::new(DeviceRequest::Cpu, cache)).unwrap()
}

struct Goldens(Vec<u8>);

impl Goldens {
    fn read(path: &Path) -> Self {
        Self(fs::read(path).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        bytes.as_chunks::<4>().0.iter().copied().map(f32::from_le_bytes).collect()
    }
}

/// Pictures of the embedded model.
fn pictures(model: &Model) -> Vec<Vec<u8>> {
    let goldens = Goldens::read(&fixture("goldens/emoji-clip.safetensors"));
    let size = 3 * model.info().image_size.pow(2);
    goldens.bytes("pixels").chunks(size).map(<[u8]>::to_vec).collect()
}

fn slices(pictures: &[Vec<u8>]) -> Vec<&[u8]> {
    pictures.iter().map(Vec::as_slice).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().all(|value| value.is_finite()));
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// The sum of the parts of each picture.
fn sums(parts: &[f32], pictures: usize, dim: usize) -> Vec<f32> {
    let sum = |parts: &[f32]| {
        let column = |i| parts.iter().skip(i).step_by(dim).sum::<f32>();
        (0..dim).map(column).collect::<Vec<_>>()
    };
    parts.chunks(parts.len() / pictures).flat_map(sum).collect()
}

fn compare(model: &Model, goldens: &Path, expected: &Path) {
    let (goldens, name) = (Goldens::read(goldens), expected.display());
    let expected = Goldens::read(expected).floats("accounts");
    let (info, side) = (model.info(), model.info().image_size);
    let patches = (side / info.patch_size).pow(2);
    let count = expected.len() / 7 / (1 + patches);
    let pixels = goldens.bytes("pixels");
    let pictures: Vec<&[u8]> = pixels.chunks(3 * side * side).take(count).collect();
    let parts = model.image_parts(&pictures).unwrap();
    assert_eq!(parts.len(), count * (1 + patches) * info.dim, "{name}");
    let texts = goldens.floats("text_embeddings");
    let mut ours = Vec::new();
    for picture in parts.chunks((1 + patches) * info.dim) {
        for text in texts.chunks(info.dim).take(7) {
            ours.extend(picture.chunks(info.dim).map(|part| dot(part, text)));
        }
    }
    let difference = largest_difference(&ours, &expected);
    assert!(difference <= 1e-5, "{name}: parts differ by {difference}");
    assert!(expected.iter().any(|part| part.abs() > 0.01), "{name}");
}

#[test]
fn parts_are_those_of_transformers_hooks() {
    let cache = Scratch::new();
    let mut compared = 0;
    for entry in fs::read_dir(fixture("checkpoints")).unwrap() {
        let checkpoint = Checkpoint::open(&entry.unwrap().path()).unwrap();
        let folder = checkpoint.directory();
        let expected = folder.join("goldens-parts.safetensors");
        compare(&load(folder, cache.path()), &folder.join("goldens.safetensors"), &expected);
        compared += 1;
    }
    assert!(compared >= 14);
    let model = load(&project("priv/models/emoji-clip"), cache.path());
    let goldens = fixture("goldens");
    compare(
        &model,
        &goldens.join("emoji-clip.safetensors"),
        &goldens.join("emoji-clip-parts.safetensors"),
    );
}

/// The embedded model with so many blocks of its image tower.
fn cut_to(layers: usize, folder: &Path) -> PathBuf {
    let cut = folder.join(layers.to_string());
    copy_folder(&project("priv/models/emoji-clip"), &cut);
    let config = fs::read(cut.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["vision_config"]["num_hidden_layers"] = json!(layers);
    fs::write(cut.join("config.json"), config.to_string()).unwrap();
    cut
}

#[test]
fn parts_sum_to_the_embedding_at_every_depth() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    for layers in 1..=4 {
        let model = load(&cut_to(layers, scratch.path()), cache.path());
        let pictures = pictures(&model);
        let pictures = &slices(&pictures)[..5];
        let whole = model.encode_images(pictures).unwrap();
        let sums = sums(&model.image_parts(pictures).unwrap(), 5, model.info().dim);
        let difference = largest_difference(&sums, &whole);
        assert!(difference <= 1e-5, "{layers} blocks: {difference}");
    }
}

#[test]
fn every_picture_of_a_batch_has_the_parts_that_it_has_alone() {
    let cache = Scratch::new();
    let model = load(&project("priv/models/emoji-clip"), cache.path());
    let pictures = pictures(&model);
    // More than two threads compute together, so that they divide them.
    let pictures: Vec<&[u8]> = slices(&pictures).into_iter().cycle().take(70).collect();
    let together = model.image_parts(&pictures).unwrap();
    let parts = together.len() / 70;
    for (i, own) in together.chunks(parts).enumerate().step_by(23) {
        let alone = model.image_parts(&pictures[i..=i]).unwrap();
        assert!(largest_difference(own, &alone) <= 1e-5, "picture {i}");
    }
    assert!(model.image_parts(&[]).unwrap().is_empty());
}

/// A picture whose patches lie in another order, `order[to] = from`.
fn shuffled(picture: &[u8], side: usize, patch: usize, order: &[usize]) -> Vec<u8> {
    let mut shuffled = vec![0; picture.len()];
    let grid = side / patch;
    for (to, from) in order.iter().enumerate() {
        for (channel, y, x) in
            (0..3).flat_map(|c| (0..patch).flat_map(move |y| (0..patch).map(move |x| (c, y, x))))
        {
            let at = |patch_number: usize| {
                let row = patch_number / grid * patch + y;
                (channel * side + row) * side + patch_number % grid * patch + x
            };
            shuffled[at(to)] = picture[at(*from)];
        }
    }
    shuffled
}

/// A checkpoint in which no place differs from another: all rows of the position table but the first
/// are zero.
fn without_positions(folder: &Path) -> PathBuf {
    let blind = folder.join("blind");
    copy_folder(&project("priv/models/emoji-clip"), &blind);
    let path = blind.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let name = "vision_model.embeddings.position_embedding.weight";
    let (at, length, rows) = {
        let weights = SafeTensors::deserialize(&bytes).unwrap();
        let table = weights.tensor(name).unwrap();
        let start = table.data().as_ptr() as usize - bytes.as_ptr() as usize;
        (start, table.data().len(), table.shape()[0])
    };
    bytes[at + length / rows..at + length].fill(0);
    fs::write(path, bytes).unwrap();
    blind
}

#[test]
fn patches_in_another_order_have_their_parts_in_that_order() {
    let (scratch, cache) = (Scratch::new(), Scratch::new());
    let model = load(&without_positions(scratch.path()), cache.path());
    let (side, patch, dim) = (model.info().image_size, model.info().patch_size, model.info().dim);
    let patches = (side / patch).pow(2);
    let order: Vec<usize> = (0..patches).map(|i| (i * 5 + 3) % patches).collect();
    let picture = pictures(&model).swap_remove(0);
    let parts = model.image_parts(&[&picture]).unwrap();
    let moved = model.image_parts(&[&shuffled(&picture, side, patch, &order)]).unwrap();
    let expected: Vec<f32> = std::iter::once(0)
        .chain(order.iter().map(|from| from + 1))
        .flat_map(|row| parts[row * dim..][..dim].to_vec())
        .collect();
    assert!(largest_difference(&moved, &expected) <= 1e-5);
    assert!(largest_difference(&moved, &parts) > 1e-3);
}

#[test]
fn the_encoder_is_kept_beside_the_others_and_takes_their_weights() {
    let cache = Scratch::new();
    let folder = project("priv/models/emoji-clip");
    let model = load(&folder, cache.path());
    let pictures = pictures(&model);
    let picture = &slices(&pictures)[..1];
    let file = model.info().encoders.clone().unwrap().join("parts.pt");
    let whole = fs::metadata(&file).unwrap();
    assert!(whole.len() < 100_000, "{}", whole.len());
    let first = model.image_parts(picture).unwrap();
    assert_eq!(load(&folder, cache.path()).image_parts(picture).unwrap(), first);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), whole.modified().unwrap());

    // Damaged, it is made anew.
    fs::write(&file, b"PK").unwrap();
    assert_eq!(load(&folder, cache.path()).image_parts(picture).unwrap(), first);
    assert_eq!(fs::metadata(&file).unwrap().len(), whole.len());
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_the_cache() {
    let scratch = Scratch::new();
    let file = scratch.path().join("not-a-folder");
    fs::write(&file, "").unwrap();
    let model = load(&project("priv/models/emoji-clip"), &file);
    let pictures = pictures(&model);
    assert!(!model.image_parts(&slices(&pictures)[..1]).unwrap().is_empty());
}

#[test]
fn many_first_calls_at_once_all_get_their_parts() {
    let cache = Scratch::new();
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    options.concurrency = 4;
    options.threads = 1;
    let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
    let pictures = pictures(&model);
    let answers: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let one = || model.image_parts(&slices(&pictures)[..1]).unwrap();
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]));
}

#[test]
fn models_whose_embedding_is_no_such_sum_are_refused() {
    let cache = Scratch::new();
    for name in ["siglip", "siglip2"] {
        let model = load(&fixture("families").join(name), cache.path());
        let picture = vec![0; 3 * model.info().image_size.pow(2)];
        let error = model.image_parts(&[&picture]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedModel);
        assert!(error.to_string().contains("would not sum to the score"), "{error}");
    }
}
