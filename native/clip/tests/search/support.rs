//! Vectors that look random, and searches that wait for their answer.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock};

use clip::Result;
use clip::pool::Ticket;
use clip::search::{Asker, Hit, Id, Index, Model, Query, Search, SearchThreads, Settings, Storage};

pub(crate) const STORAGES: [Storage; 3] = [Storage::F32, Storage::F16, Storage::I8];

pub(crate) static THREADS: LazyLock<SearchThreads> = LazyLock::new(|| SearchThreads::new(3));

pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 to 1.
    pub(crate) fn even(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Around 0, with a deviation of about 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    pub(crate) fn vector(&mut self, dim: usize) -> Vec<f32> {
        let values: Vec<f64> = (0..dim).map(|_| self.normal()).collect();
        unit(&values)
    }
}

pub(crate) fn unit(values: &[f64]) -> Vec<f32> {
    let length = values.iter().map(|x| x * x).sum::<f64>().sqrt();
    values.iter().map(|x| (x / length) as f32).collect()
}

pub(crate) fn model(dim: usize) -> Model {
    Model { name: "m".to_owned(), commit: None, dim }
}

pub(crate) fn id(number: usize) -> Id {
    format!("id {number}").into_bytes().into()
}

pub(crate) fn empty(storage: Storage) -> Arc<Index> {
    Arc::new(Index::new(Settings { storage, max_size: 1_000_000 }))
}

/// An index with these vectors, whose ids are their numbers.
pub(crate) fn filled(storage: Storage, vectors: &[Vec<f32>]) -> Arc<Index> {
    let index = empty(storage);
    put(&index, 0, vectors).unwrap();
    index
}

pub(crate) fn put(index: &Index, first: usize, vectors: &[Vec<f32>]) -> Result<()> {
    let ids = (first..first + vectors.len()).map(id).collect();
    index.put(&model(vectors[0].len()), ids, &vectors.concat())
}

struct Reply(Sender<Result<Vec<Hit>>>);

impl Asker for Reply {
    fn wanted(&self) -> bool {
        true
    }

    fn reply(self: Box<Self>, result: Result<Vec<Hit>>) {
        let _ = self.0.send(result);
    }
}

pub(crate) type Answer = Receiver<Result<Vec<Hit>>>;

pub(crate) fn like(vector: &[f32]) -> Query {
    Query::Vector(model(vector.len()), vector.to_vec())
}

pub(crate) fn search(query: Query, most: usize) -> (Search, Answer) {
    let (sender, answer) = channel();
    let (asker, ticket) = (Box::new(Reply(sender)), Ticket::default());
    (Search { query, most, least: None, only: None, asker, ticket }, answer)
}

pub(crate) fn ask(index: &Arc<Index>, search: Search, answer: &Answer) -> Result<Vec<Hit>> {
    THREADS.search(index, 1, search)?;
    answer.recv().unwrap()
}

pub(crate) fn nearest(index: &Arc<Index>, query: Query, most: usize) -> Vec<Hit> {
    let (search, answer) = search(query, most);
    ask(index, search, &answer).unwrap()
}

pub(crate) fn names(hits: &[Hit]) -> Vec<String> {
    hits.iter().map(|hit| String::from_utf8(hit.id.to_vec()).unwrap()).collect()
}
