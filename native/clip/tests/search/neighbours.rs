//! What a search finds, compared with the plain computation.

use clip::search::{Hit, Query, Storage};
use half::f16;

use crate::support::*;

/// As the kernels promise to add.
fn score(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    a.iter().zip(b).enumerate().for_each(|(i, (x, y))| sums[i % 16] += x * y);
    for width in [8, 4, 2, 1] {
        (0..width).for_each(|lane| sums[lane] += sums[lane + width]);
    }
    sums[0].clamp(-1.0, 1.0)
}

fn plain(vectors: &[Vec<f32>], query: &[f32], most: usize) -> Vec<Hit> {
    let scored =
        vectors.iter().enumerate().map(|(i, row)| Hit { id: id(i), score: score(row, query) });
    let mut hits: Vec<Hit> = scored.collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    hits.truncate(most);
    hits
}

fn rounded(vectors: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let round = |x: &f32| f16::from_f32(*x).to_f32();
    vectors.iter().map(|vector| vector.iter().map(round).collect()).collect()
}

fn vectors(seed: u64, count: usize, dim: usize) -> Vec<Vec<f32>> {
    let mut noise = Noise::new(seed);
    (0..count).map(|_| noise.vector(dim)).collect()
}

#[test]
fn the_neighbours_are_those_of_the_plain_computation() {
    for (count, dim) in [(1, 1), (5, 3), (700, 128), (3000, 512), (900, 1000)] {
        let all = vectors(1, count, dim);
        let (index, halves) = (filled(Storage::F32, &all), filled(Storage::F16, &all));
        for query in vectors(2, 5, dim) {
            for most in [1, 10, 5000] {
                assert_eq!(nearest(&index, like(&query), most), plain(&all, &query, most));
                let expected = plain(&rounded(&all), &query, most);
                assert_eq!(nearest(&halves, like(&query), most), expected);
            }
        }
    }
}

#[test]
fn bytes_have_scores_that_are_right_to_four_digits() {
    let all = vectors(1, 3000, 512);
    let index = filled(Storage::I8, &all);
    for query in vectors(2, 5, 512) {
        let (found, expected) = (nearest(&index, like(&query), 3000), plain(&all, &query, 3000));
        assert_eq!(found.len(), 3000);
        for (ours, theirs) in found.iter().zip(expected) {
            assert!((ours.score - theirs.score).abs() < 3e-5, "{ours:?} {theirs:?}");
        }
    }
}

#[test]
fn equals_come_in_the_order_in_which_they_were_put_first() {
    let all = vectors(1, 4000, 64);
    for storage in STORAGES {
        let index = filled(storage, &all);
        // All the same, over several blocks, and put again in another order.
        for at in (0..4000).rev() {
            put(&index, at, &all[7..8]).unwrap();
        }
        let expected: Vec<String> = (0..50).map(|i| format!("id {i}")).collect();
        assert_eq!(names(&nearest(&index, like(&all[7]), 50)), expected, "{storage:?}");
        // The last row takes the place of one that goes, and stays the last among equals.
        index.delete([&id(1)[..], &id(0)]);
        let expected: Vec<String> = (2..52).map(|i| format!("id {i}")).collect();
        assert_eq!(names(&nearest(&index, like(&all[7]), 50)), expected, "{storage:?}");
        put(&index, 0, &all[7..8]).unwrap();
        let last = nearest(&index, like(&all[7]), 4000);
        assert_eq!(names(&last[3998..]), ["id 0"], "{storage:?}");
    }
}

#[test]
fn an_entry_is_not_its_own_neighbour() {
    let mut all = vectors(1, 500, 96);
    all[3] = all[400].clone();
    for storage in STORAGES {
        let index = filled(storage, &all);
        let hits = nearest(&index, Query::Id(id(400).to_vec()), 2);
        assert_eq!(names(&hits)[0], "id 3");
        assert!(hits[0].score > 0.9999 && hits[1].score < 0.9);
        assert_eq!(nearest(&index, Query::Id(id(400).to_vec()), 1000).len(), 499);
        let (unknown, answer) = search(Query::Id(b"?".to_vec()), 2);
        let error = ask(&index, unknown, &answer).unwrap_err();
        assert_eq!(error.kind().as_str(), "not_found");
    }
}

#[test]
fn only_some_ids_are_searched_if_that_is_asked_for() {
    let all = vectors(1, 4000, 64);
    for storage in STORAGES {
        let index = filled(storage, &all);
        for some in [vec![], vec![9], (0..4000).step_by(3).collect::<Vec<_>>()] {
            let query = &all[10];
            let (mut search, answer) = search(like(query), 20);
            // One that is unknown and one that comes twice change nothing.
            let more = some.first().into_iter().flat_map(|at| [b"?".to_vec(), id(*at).to_vec()]);
            search.only = Some(some.iter().map(|at| id(*at).to_vec()).chain(more).collect());
            let found = ask(&index, search, &answer).unwrap();
            let whole = nearest(&index, like(query), 4000);
            let among: Vec<_> = some.iter().map(|i| id(*i)).collect();
            let expected: Vec<_> =
                whole.into_iter().filter(|hit| among.contains(&hit.id)).take(20).collect();
            assert_eq!(found, expected, "{storage:?}");
        }
    }
}

#[test]
fn nothing_below_the_least_score_is_found() {
    let all = vectors(1, 2000, 64);
    for storage in STORAGES {
        let index = filled(storage, &all);
        let whole = nearest(&index, like(&all[0]), 2000);
        let (mut search, answer) = search(like(&all[0]), 2000);
        search.least = Some(0.2);
        let found = ask(&index, search, &answer).unwrap();
        let expected: Vec<_> = whole.into_iter().filter(|hit| hit.score >= 0.2).collect();
        assert!(found.len() > 10 && found.len() < 1000);
        assert_eq!(found, expected[..found.len()], "{storage:?}");
        // Estimates that decide who comes into question may lose some of the last ones.
        assert!(storage == Storage::I8 || found.len() == expected.len(), "{storage:?}");
    }
}

#[test]
fn an_empty_index_has_no_neighbours() {
    let index = empty(Storage::F32);
    assert_eq!(nearest(&index, like(&[1.0, 0.0]), 3), []);
    put(&index, 1, &[vec![1.0, 0.0]]).unwrap();
    index.delete([&id(1)[..]]);
    assert_eq!(nearest(&index, like(&[1.0, 0.0]), 3), []);
    assert_eq!(nearest(&index, like(&[1.0, 0.0]), 0), []);
}

#[test]
fn searches_that_read_together_find_what_each_finds_alone() {
    let all = vectors(1, 3000, 200);
    let queries = vectors(5, 300, 200);
    for storage in STORAGES {
        let index = filled(storage, &all);
        let asked: Vec<_> = queries
            .iter()
            .map(|query| {
                let (search, answer) = search(like(query), 7);
                THREADS.search(&index, 1, search).unwrap();
                answer
            })
            .collect();
        let together: Vec<_> = asked.iter().map(|answer| answer.recv().unwrap().unwrap()).collect();
        for (query, together) in queries.iter().zip(together) {
            assert_eq!(together, nearest(&index, like(query), 7), "{storage:?}");
        }
    }
}
