//! The encoders of every family against transformers, from token ids on.
//!
//! `test/oracle/families.py` writes `test/fixtures/families`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use clip::score::{self, Kind, Scoring};
use safetensors::SafeTensors;
use serde_json::Value;
use tch::Device;

use super::cache::unfinished;
use super::encoder::Encoders;
use super::export::encoders;
use super::table::TABLE;
use crate::checkpoint::Checkpoint;
use crate::error::ErrorKind;
use crate::runtime::workers::Workers;

/// Most that a component of a unit embedding may differ.
const TOLERANCE: f32 = 1e-5;

const NAMES: [&str; 8] = [
    "siglip",
    "siglip-so400m",
    "siglip2-giant",
    "siglip2",
    "siglip-bin",
    "metaclip-2",
    "metaclip-2-squash",
    "tinyclip",
];

/// A checkpoint with the answers of transformers.
struct Fixture {
    folder: PathBuf,
    checkpoint: Checkpoint,
    goldens: Vec<u8>,
}

impl Fixture {
    fn open(name: &str) -> Self {
        let families = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/families");
        let folder = families.join(name);
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let goldens = fs::read(folder.join("goldens.safetensors")).unwrap();
        Self { folder, checkpoint, goldens }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.goldens).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn fact(&self, name: &str) -> f64 {
        let facts = fs::read(self.folder.join("goldens.json")).unwrap();
        let facts: Value = serde_json::from_slice(&facts).unwrap();
        facts[name].as_f64().unwrap()
    }

    /// Ids as the tokenizer gives them: whole rows where padding counts, else up to the pooled one.
    fn ids(&self) -> Vec<Vec<u32>> {
        let text = &self.checkpoint.config.text;
        let ids = self.bytes("input_ids");
        let ids: Vec<u32> = ids
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u32::try_from(i64::from_le_bytes(*bytes)).unwrap())
            .collect();
        let row = |row: &[u32]| row[..=text.pooling.position(row).unwrap()].to_vec();
        ids.chunks(text.max_positions as usize).map(row).collect()
    }

    fn images(&self, encoders: &Encoders) -> Vec<f32> {
        let side = self.checkpoint.config.vision.image_size;
        let pixels = self.bytes("pixels");
        let pictures: Vec<&[u8]> = pixels.chunks((3 * side * side) as usize).collect();
        encoders.images(&Workers::new(1), &pictures, side).unwrap()
    }
}

fn load(fixture: &Fixture, cache: Option<&Path>) -> Encoders {
    encoders(&fixture.checkpoint, cache, Device::Cpu).unwrap().0
}

#[track_caller]
fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    let most = differences.fold(0.0, f32::max);
    assert!(most <= TOLERANCE && ours.iter().all(|value| value.is_finite()), "{name}: {most}");
}

#[test]
fn embeddings_are_those_of_transformers() {
    for name in NAMES {
        let fixture = Fixture::open(name);
        let encoders = load(&fixture, None);
        close(name, &fixture.images(&encoders), &fixture.floats("image_embeddings"));
        let texts = encoders.texts(&Workers::new(1), &fixture.ids()).unwrap();
        close(name, &texts, &fixture.floats("text_embeddings"));
    }
}

#[test]
fn prompts_of_unlike_lengths_are_together_what_each_is_alone() {
    for name in NAMES {
        let fixture = Fixture::open(name);
        let (encoders, workers) = (load(&fixture, None), Workers::new(1));
        let rows = fixture.ids();
        let together = encoders.texts(&workers, &rows).unwrap();
        let alone: Vec<f32> =
            rows.chunks(1).flat_map(|row| encoders.texts(&workers, row).unwrap()).collect();
        close(name, &together, &alone);
        let dim = together.len() / rows.len();
        for (a, b) in together.chunks(dim).zip(together.chunks(dim).skip(1)) {
            assert!(
                a.iter().zip(b).any(|(a, b)| (a - b).abs() > 1e-3),
                "{name}: prompts are alike"
            );
        }
    }
}

#[test]
fn probabilities_of_labels_alone_are_those_of_transformers() {
    for name in NAMES.into_iter().filter(|name| name.starts_with("siglip")) {
        let fixture = Fixture::open(name);
        let encoders = load(&fixture, None);
        let images = fixture.images(&encoders);
        let texts = encoders.texts(&Workers::new(1), &fixture.ids()).unwrap();
        let scoring = Scoring {
            kind: Kind::Sigmoid,
            logit_scale: fixture.fact("logit_scale"),
            logit_bias: Some(fixture.fact("logit_bias")),
            threshold: None,
            top: None,
            least: None,
        };
        let dim = fixture.checkpoint.config.projection_dim as usize;
        let expected = fixture.floats("probabilities");
        for (image, expected) in images.chunks(dim).zip(expected.chunks(texts.len() / dim)) {
            let ranked = score::rank(image, &texts, &[], &scoring).unwrap();
            assert_eq!(ranked.len(), expected.len());
            for (label, ours) in ranked {
                let theirs = f64::from(expected[label]);
                assert!((ours - theirs).abs() <= 1e-4, "{name}: {ours} {theirs}");
            }
        }
    }
}

#[test]
fn a_token_table_that_is_damaged_is_noticed_when_the_row_is_used() {
    let fixture = Fixture::open("siglip2");
    let cache = unfinished(&std::env::temp_dir(), "clip-table").unwrap();
    let (encoders, workers) = (load(&fixture, Some(cache.path())), Workers::new(1));
    let rows = fixture.ids();
    let sound = encoders.texts(&workers, &rows).unwrap();
    let folder = fs::read_dir(cache.path().join("encoders")).unwrap();
    let folder = folder.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let table = folder.join(TABLE);
    let mut bytes = fs::read(&table).unwrap();

    let width = fixture.checkpoint.config.text.transformer.width as usize;
    let row = rows[1][0] as usize * (width * 4 + 4);
    bytes[row + 5] ^= 1;
    fs::write(&table, &bytes).unwrap();
    let error = encoders.texts(&workers, &rows[1..2]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("tokens.bin is damaged; remove its folder"), "{error}");
    assert!(encoders.texts(&workers, &rows[..1]).is_ok());

    // Cut short, it is made anew by the next load.
    fs::write(&table, &bytes[1..]).unwrap();
    let repaired = load(&fixture, Some(cache.path()));
    assert_eq!(repaired.texts(&workers, &rows).unwrap(), sound);
}
