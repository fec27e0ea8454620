//! How long a search takes, beside reading the rows once: `search COUNT DIM f32|f16|i8 [TOGETHER]`.
//! `bench/search.py` compares the whole library with others.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use clip::pool::Ticket;
use clip::search::{Asker, Hit, Index, Model, Query, Search, Settings, Storage, Team};

struct Reply(std::sync::mpsc::Sender<clip::Result<Vec<Hit>>>);

impl Asker for Reply {
    fn wanted(&self) -> bool {
        true
    }

    fn reply(self: Box<Self>, result: clip::Result<Vec<Hit>>) {
        let _ = self.0.send(result);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map_or(1, |text| text.parse::<usize>().unwrap());
    let (count, dim, together) = (number(0), number(1), number(3));
    let storage = match &arguments[2][..] {
        "f32" => Storage::F32,
        "f16" => Storage::F16,
        _ => Storage::I8,
    };
    let model = Model { name: "m".to_owned(), commit: None, dim };
    let index = Arc::new(Index::new(Settings { storage, max_size: u32::MAX }));
    let mut state = 1u64;
    let mut vector = || {
        let mut values: Vec<f32> = (0..dim)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        let length = values.iter().map(|x| x * x).sum::<f32>().sqrt();
        values.iter_mut().for_each(|x| *x /= length);
        values
    };
    for at in 0..count {
        index.put(&model, vec![at.to_le_bytes().to_vec().into()], &vector()).unwrap();
    }
    let threads: usize = available_parallelism().unwrap().into();
    let team = Team::new(threads);
    let memory = vec![1u64; index.bytes() / 8];
    let (mut searches, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let query = vector();
        let start = Instant::now();
        let answers: Vec<_> = (0..together)
            .map(|_| {
                let (sender, answer) = channel();
                let query = Query::Vector(model.clone(), query.clone());
                let (asker, ticket) = (Box::new(Reply(sender)), Ticket::default());
                let search = Search { query, most: 10, least: None, only: None, asker, ticket };
                team.search(&index, 1, search).unwrap();
                answer
            })
            .collect();
        answers.iter().for_each(|answer| assert!(answer.recv().unwrap().unwrap().len() <= 10));
        searches.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        scope(|scope| {
            for part in memory.chunks(memory.len().div_ceil(threads)) {
                scope.spawn(|| std::hint::black_box(part.iter().fold(0, |all, x| all ^ x)));
            }
        });
        reads.push(start.elapsed().as_secs_f64());
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (search, read) = (median(&mut searches), median(&mut reads));
    println!(
        "{count} x {dim}, {together} together: {:.2} ms, best {:.2}; reading {} MB: {:.2} ms ({:.1} GB/s), best {:.2}; ratio {:.2}",
        search * 1e3,
        searches[0] * 1e3,
        index.bytes() / 1_000_000,
        read * 1e3,
        index.bytes() as f64 / read / 1e9,
        reads[0] * 1e3,
        search / read
    );
}
