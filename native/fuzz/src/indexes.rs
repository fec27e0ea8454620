//! The file of an index of neighbours.

use clip::search::{Index, Model, Settings, Storage};

use crate::{Outcome, Target};

pub(crate) const NEIGHBOURS: Target = Target {
    name: "neighbours",
    seeds: || {
        let storages = [Storage::F32, Storage::F16, Storage::I8];
        storages
            .into_iter()
            .flat_map(|storage| [0, 1, 7].map(|count| seed(storage, count)))
            .collect()
    },
    mend,
    run,
    stack: 1 << 20,
    memory: 16 << 20,
};

fn seed(storage: Storage, count: u8) -> Vec<u8> {
    let index = Index::new(Settings { storage, max_size: 1_000 });
    let commit = (count > 1).then(|| "c".to_owned());
    let model = Model { name: "m".to_owned(), commit, dim: usize::from(count) + 1 };
    for at in 0..count {
        let mut vector = vec![0.0; model.dim];
        vector[usize::from(at)] = 1.0;
        index.put(&model, vec![vec![131, 97, at].into()], &vector).unwrap();
    }
    let mut bytes = Vec::new();
    index.write(&mut bytes).unwrap();
    bytes
}

/// Corrects the checksums of all sections whose lengths fit.
fn mend(bytes: &mut [u8]) {
    let number = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).map(|n| u32::from_le_bytes(*n.first_chunk().unwrap()) as usize)
    };
    let mut at = 24;
    while let Some(end) = number(bytes, at).and_then(|len| (at + 4).checked_add(len)) {
        if end + 4 > bytes.len() {
            return;
        }
        let crc = crc32fast::hash(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        at = end + 4;
    }
}

fn run(bytes: &[u8]) -> Outcome {
    let index = Index::read(bytes, bytes.len() as u64, 1_000)
        .map_err(|error| (error.kind().as_str(), error.to_string()))?;
    // What is sound is written as something that is sound again.
    let mut again = Vec::new();
    index.write(&mut again).unwrap();
    let read = Index::read(&again[..], again.len() as u64, 1_000).unwrap();
    assert_eq!((read.size(), read.model()), (index.size(), index.model()));
    Ok(format!("{:?} {}", index.settings().storage, "e".repeat(index.size().min(20))))
}
