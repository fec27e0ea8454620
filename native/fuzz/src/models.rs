//! The files of a model, and prompts.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::LazyLock;

use clip::checkpoint::open_clip::{OpenClip, TimmSizes};
use clip_hub::{HubOptions, Repo};
use clip_torch::config::Config;
use clip_torch::{Checkpoint, Tokenizer};
use serde_json::{Map, Value};

use crate::{Outcome, Target, files};

/// Room to spare below the stack of the VM's threads that call.
const STACK: usize = 160 << 10;
const MEMORY: usize = 64 << 20;
const FIXTURES: &str = "test/fixtures/checkpoints";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

const fn model_file(
    name: &'static str,
    seeds: fn() -> Vec<Vec<u8>>,
    run: fn(&[u8]) -> Outcome,
) -> Target {
    Target { name, seeds, mend: |_| (), run, stack: STACK, memory: MEMORY }
}

pub(crate) const PROMPT: Target = model_file(
    "prompt",
    || {
        let labels = files("priv/samples", "labels.txt").concat();
        let more = ["", "a photo of a dog", "Ünïcödé \u{301}\u{200d}👩‍🚀 ﬁ", "<|endoftext|> 's\t\n0"];
        let more = more.iter().map(|text| text.as_bytes().to_vec());
        labels.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).chain(more).collect()
    },
    |bytes| {
        static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
            let config = Config::from_json(&files("priv/models/emoji-clip", "/config.json")[0]);
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../priv/models/emoji-clip");
            Tokenizer::open(folder.as_ref(), &config.unwrap().text).unwrap()
        });
        let tokens = TOKENIZER.encode(&String::from_utf8_lossy(bytes)).map_err(error)?;
        Ok(format!("{} {}", "i".repeat(tokens.ids.len()), tokens.truncated))
    },
);

pub(crate) const CONFIG: Target = model_file(
    "config",
    || files(FIXTURES, "/config.json"),
    |bytes| Config::from_json(bytes).map(|_| "config".to_owned()).map_err(|e| error(e.into())),
);

pub(crate) const PROCESSOR: Target = model_file(
    "processor",
    || {
        let old = files(FIXTURES, "/preprocessor_config.json");
        [files(FIXTURES, "/processor_config.json"), old].concat()
    },
    |bytes| {
        static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
            // Most seeds are for pictures of this size.
            let config = br#"{"model_type": "clip", "vision_config": {"image_size": 32}}"#;
            Folder::new("processor").with("config.json", config)
        });
        let is_new = bytes.windows(17).any(|part| part == b"\"image_processor\"");
        let [used, other] = if is_new {
            ["processor_config.json", "preprocessor_config.json"]
        } else {
            ["preprocessor_config.json", "processor_config.json"]
        };
        let _ = fs::remove_file(FOLDER.0.join(other));
        FOLDER.write(used, bytes);
        Checkpoint::open(&FOLDER.0).map(|_| "checkpoint".to_owned()).map_err(error)
    },
);

pub(crate) const TOKENIZER: Target = model_file(
    "tokenizer",
    || files(FIXTURES, "/tokenizer.json"),
    |bytes| {
        static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("tokenizer"));
        FOLDER.write("tokenizer.json", bytes);
        tokenize(&FOLDER)
    },
);

/// Read as SigLIP's or SigLIP 2's, and as MetaCLIP 2's.
pub(crate) const PIECES: Target = model_file(
    "pieces",
    || files("test/fixtures/tokenizers", "/tokenizer.json"),
    |bytes| {
        static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("pieces"));
        static CONFIGS: LazyLock<[Config; 2]> = LazyLock::new(|| {
            ["siglip", "metaclip_2"].map(|model_type| {
                let text = r#"{"vocab_size": 2000, "eos_token_id": 2}"#;
                let config = format!(r#"{{"model_type": "{model_type}", "text_config": {text}}}"#);
                Config::from_json(config.as_bytes()).unwrap()
            })
        });
        FOLDER.write("tokenizer.json", bytes);
        let [siglip, metaclip_2] = &*CONFIGS;
        tokens(&FOLDER, siglip).or_else(|_| tokens(&FOLDER, metaclip_2))
    },
);

pub(crate) const OPEN_CLIP: Target = model_file(
    "open-clip",
    || files("test/fixtures/open_clip", "/open_clip_config.json"),
    |bytes| {
        // The widths of the seeds' towers, which only weights say.
        let read = |width| {
            let timm = TimmSizes { width, layers: 2, mlp_width: 3 * width };
            OpenClip::from_json(bytes, || Some(timm))
        };
        let read = read(24).or_else(|_| read(32)).map_err(|e| error(e.into()))?;
        Ok(format!("{:?} {:?}", read.config.family, read.preprocessing))
    },
);

/// Both files, one behind the other.
pub(crate) const VOCABULARY: Target = model_file(
    "vocabulary",
    || {
        let merges = files(FIXTURES, "/merges.txt");
        files(FIXTURES, "/vocab.json").iter().map(|v| [v, &merges[0][..]].join(&0)).collect()
    },
    |bytes| {
        static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("vocabulary"));
        let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        FOLDER.write("vocab.json", &bytes[..at]);
        FOLDER.write("merges.txt", &bytes[(at + 1).min(bytes.len())..]);
        tokenize(&FOLDER)
    },
);

pub(crate) const SAFETENSORS: Target = Target {
    mend: mend_safetensors,
    ..model_file(
        "safetensors",
        || files(FIXTURES, "/model.safetensors").iter().map(|file| smaller(file)).collect(),
        |bytes| {
            static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("safetensors"));
            FOLDER.write("model.safetensors", bytes);
            weights(&FOLDER)
        },
    )
};

pub(crate) const PICKLE: Target = model_file(
    "pickle",
    || {
        let mut files = files(FIXTURES, ".bin");
        files.retain(|file| file.starts_with(b"PK"));
        files.sort_by_key(Vec::len);
        files.truncate(4);
        files
    },
    |bytes| {
        static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("pickle"));
        FOLDER.write("pytorch_model.bin", bytes);
        weights(&FOLDER)
    },
);

pub(crate) const INDEX: Target = model_file(
    "index",
    || files(FIXTURES, ".index.json"),
    |bytes| {
        static FOLDER: LazyLock<Folder> = LazyLock::new(|| Folder::new("index"));
        FOLDER.write("model.safetensors.index.json", bytes);
        weights(&FOLDER)
    },
);

pub(crate) const HUB_INDEX: Target = model_file(
    "hub-index",
    || files(FIXTURES, ".index.json"),
    |bytes| {
        static CACHE: LazyLock<Folder> = LazyLock::new(|| {
            let snapshot = format!("models--a--b/snapshots/{COMMIT}");
            let cache = Folder::new("hub-index").with("models--a--b/refs/main", COMMIT.as_bytes());
            ["config.json", "preprocessor_config.json", "tokenizer.json"]
                .iter()
                .fold(cache, |cache, name| cache.with(&format!("{snapshot}/{name}"), b"{}"))
        });
        let index = format!("models--a--b/snapshots/{COMMIT}/model.safetensors.index.json");
        CACHE.write(&index, bytes);
        let options = HubOptions { offline: true, ..HubOptions::new(&CACHE.0) };
        let repo = Repo::new("a/b", "main").unwrap();
        match clip_hub::fetch(&repo, &options, &mut |_| ControlFlow::Continue(())) {
            Ok(snapshot) => Ok(format!("{} files", snapshot.files.len())),
            Err(error) => Err((error.kind().as_str(), error.to_string())),
        }
    },
);

fn error(error: clip_torch::Error) -> (&'static str, String) {
    (error.kind().as_str(), error.to_string())
}

fn tokenize(folder: &Folder) -> Outcome {
    static CONFIG: LazyLock<Config> =
        LazyLock::new(|| Config::from_json(&files(FIXTURES, "/config.json")[0]).unwrap());
    tokens(folder, &CONFIG)
}

fn tokens(folder: &Folder, config: &Config) -> Outcome {
    let tokenizer = Tokenizer::open(&folder.0, &config.text).map_err(error)?;
    let prompt = format!("A photo of a Dog's 7 Ünïcödé 👩‍🚀\t{}", "x".repeat(300));
    // On a thread that ends, as those of a model do: the crate tokenizers keeps words for each thread and
    // each tokenizer there was.
    let encode = || tokenizer.encode(&prompt);
    let tokens = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, encode);
        thread.unwrap().join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let tokens = tokens.map_err(error)?;
    Ok(format!("{} {}", "i".repeat(tokens.ids.len()), tokens.truncated))
}

fn weights(folder: &Folder) -> Outcome {
    clip_torch::read_weights(&folder.0).map(|count| format!("{count} tensors")).map_err(error)
}

/// The same file with its first few tensors.
fn smaller(file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(*file.first_chunk().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&file[8..8 + length]).unwrap();
    let (mut kept, mut data) = (Map::new(), Vec::new());
    for (name, mut entry) in header.into_iter().filter(|(name, _)| name != "__metadata__").take(4) {
        let [from, to] = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize);
        let start = data.len();
        data.extend(&file[8 + length..][from..to]);
        entry["data_offsets"] = Value::from(vec![start, data.len()]);
        kept.insert(name, entry);
    }
    let header = Value::Object(kept).to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat()
}

/// Lets the header end where its JSON ends, more or less: at the last brace.
fn mend_safetensors(bytes: &mut [u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"}}").map(|at| at + 2);
    if let (Some(end), true) = (end, bytes.len() >= 8) {
        let length = (end as u64).saturating_sub(8);
        bytes[..8].copy_from_slice(&length.to_le_bytes());
    }
}

/// A folder for files that are written for every input.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = crate::scratch().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, content: &[u8]) -> Self {
        fs::create_dir_all(self.0.join(name).parent().unwrap()).unwrap();
        self.write(name, content);
        self
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.0.join(name), content).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_sound() {
        for target in
            [PROMPT, CONFIG, OPEN_CLIP, TOKENIZER, PIECES, VOCABULARY, SAFETENSORS, PICKLE]
        {
            for seed in (target.seeds)() {
                let outcome = (target.run)(&seed);
                assert!(outcome.is_ok(), "{}: {outcome:?}", target.name);
            }
        }
        fs::remove_dir_all(crate::scratch()).unwrap();
    }

    #[test]
    fn the_length_of_a_header_is_mended() {
        for sound in (SAFETENSORS.seeds)() {
            let mut bytes = sound.clone();
            bytes[..8].copy_from_slice(&[0xff; 8]);
            mend_safetensors(&mut bytes);
            assert_eq!(bytes, sound);
        }
    }
}
