//! Encoders that a user exported from Python: `training/export_open_clip.py`, and what breaks its
//! contract. `test/oracle/open_clip_export.py` writes `test/fixtures/open-clip`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::Path;

use clip_torch::{DeviceRequest, ErrorKind, LoadOptions, Model};
use safetensors::SafeTensors;
use support::{Scratch, copy_folder, fixture};

fn load(folder: &Path, torchscript: Option<&Path>) -> clip_torch::Result<Model> {
    let cache = Scratch::new();
    let mut options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    options.torchscript = torchscript.map(Path::to_owned);
    Model::load(folder, &options)
}

#[test]
fn exported_encoders_give_the_answers_of_open_clip() {
    let folder = fixture("open-clip");
    let model = load(&folder, Some(&folder)).unwrap();
    let info = model.info();
    assert_eq!((info.format, &info.weights), ("torchscript", &folder));
    assert_eq!((info.dim, info.context_length, info.image_size), (12, 24, 32));
    assert!((info.logit_scale - 4.2f64.exp()).abs() < 1e-3);
    assert_eq!(info.encoders.as_ref().unwrap(), &folder);

    let goldens = fs::read(folder.join("goldens.safetensors")).unwrap();
    let goldens = SafeTensors::deserialize(&goldens).unwrap();
    let compare = |ours: &[f32], name: &str| {
        let theirs = goldens.tensor(name).unwrap().data().as_chunks::<4>().0;
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours - f32::from_le_bytes(*theirs)).abs() <= 1e-5, "{name}");
        }
    };
    let pixels = goldens.tensor("pixels").unwrap();
    let pictures: Vec<&[u8]> = pixels.data().chunks(3 * 32 * 32).collect();
    compare(&model.encode_images(&pictures).unwrap(), "image_embeddings");
    let prompts = fs::read_to_string(folder.join("prompts.txt")).unwrap();
    let prompts: Vec<&str> = prompts.lines().collect();
    compare(&model.encode_texts(&prompts).unwrap().rows, "text_embeddings");
}

#[test]
fn programs_are_loaded_from_the_directory_that_is_named_alone() {
    let folder = fixture("open-clip");
    let error = load(&folder, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("no weights in "), "{error}");

    let empty = Scratch::new();
    let error = load(&folder, Some(empty.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("no image.pt in "), "{error}");
}

/// Why a copy of the directory is refused, after a change.
fn refusal(change: impl FnOnce(&Path)) -> String {
    let scratch = Scratch::new();
    copy_folder(&fixture("open-clip"), scratch.path());
    change(scratch.path());
    let error = load(scratch.path(), Some(scratch.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidWeights, "{error}");
    error.to_string()
}

#[test]
fn encoders_that_break_the_contract_are_refused() {
    let message = refusal(|folder| fs::write(folder.join("text.pt"), "no program").unwrap());
    assert!(message.contains("text.pt cannot be used: "), "{message}");

    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605157884\n";
    let message = refusal(|folder| fs::write(folder.join("image.pt"), pointer).unwrap());
    assert!(message.contains("image.pt cannot be used: it is a Git LFS pointer"), "{message}");

    // The text encoder in the image encoder's place takes no pixels.
    let message = refusal(|folder| {
        fs::copy(folder.join("text.pt"), folder.join("image.pt")).map(drop).unwrap();
    });
    assert!(message.contains("image.pt cannot be used: "), "{message}");

    let message = refusal(|folder| {
        let config = fs::read_to_string(folder.join("config.json")).unwrap();
        let other = config.replace("\"projection_dim\": 12", "\"projection_dim\": 16");
        fs::write(folder.join("config.json"), other).unwrap();
    });
    let expected =
        "image.pt cannot be used: the encoder gave a tensor of shape [2, 12], expected [2, 16]";
    assert!(message.contains(expected), "{message}");
}
