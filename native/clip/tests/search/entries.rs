//! What an index holds.

use std::sync::Arc;

use clip::search::{Index, Model, Settings, Storage};

use crate::support::*;

fn error(result: clip::Result<()>) -> (&'static str, String) {
    let error = result.unwrap_err();
    (error.kind().as_str(), error.to_string())
}

#[test]
fn entries_are_put_replaced_and_deleted() {
    let mut noise = Noise::new(3);
    for storage in STORAGES {
        let index = empty(storage);
        let vectors: Vec<_> = (0..5000).map(|_| noise.vector(128)).collect();
        put(&index, 0, &vectors).unwrap();
        put(&index, 100, &vectors[..50]).unwrap();
        assert_eq!(index.size(), 5000);
        for at in 0..5000 {
            assert!(index.has(&id(at)));
        }
        let gone: Vec<_> = (0..5000).filter(|at| at % 7 != 0).map(id).collect();
        assert_eq!(index.delete(gone.iter().map(|id| &id[..])), gone.len());
        assert_eq!(index.delete(gone.iter().map(|id| &id[..])), 0);
        assert_eq!(index.size(), 5000 - gone.len());
        for at in (0..5000).step_by(7) {
            let row = if (100..150).contains(&at) { at - 100 } else { at };
            let hits = nearest(&index, like(&vectors[row]), 1);
            assert!(names(&hits)[0] == format!("id {at}") && hits[0].score > 0.999, "{at}");
        }
        let rest: Vec<_> = (0..5000).map(id).collect();
        index.delete(rest.iter().map(|id| &id[..]));
        assert_eq!((index.size(), index.bytes()), (0, 0));
        put(&index, 0, &vectors[..1]).unwrap();
        assert_eq!(names(&nearest(&index, like(&vectors[0]), 5)), ["id 0"]);
    }
}

#[test]
fn a_row_takes_the_bytes_that_its_storage_says() {
    let vectors: Vec<_> = (0..100).map(|_| Noise::new(1).vector(512)).collect();
    let bytes = |storage| filled(storage, &vectors).bytes();
    assert_eq!(bytes(Storage::F32), 100 * 512 * 4);
    assert_eq!(bytes(Storage::F16), 100 * 512 * 2);
    assert_eq!(bytes(Storage::I8), 100 * (512 * 2 + 4));
}

#[test]
fn ids_are_listed_in_parts() {
    let vectors: Vec<_> = (0..3000).map(|_| Noise::new(1).vector(256)).collect();
    let index = filled(Storage::F32, &vectors);
    let parts = [(0, 1000), (1000, 2999), (2999, 9999), (9999, 10_000)];
    let mut ids: Vec<_> = parts.iter().flat_map(|(from, to)| index.ids(*from, *to)).collect();
    ids.sort();
    let mut expected: Vec<_> = (0..3000).map(id).collect();
    expected.sort();
    assert_eq!(ids, expected);
}

#[test]
fn what_is_not_a_unit_vector_is_an_error() {
    let index = empty(Storage::F32);
    let put = |values: &[f32]| error(index.put(&model(2), vec![id(1)], values));
    for values in [[0.0, 0.0], [1.0, 1.0], [f32::NAN, 0.0], [f32::INFINITY, 0.0], [0.9, 0.0]] {
        let (kind, message) = put(&values);
        assert_eq!(kind, "invalid_argument");
        assert!(
            message.starts_with("expected a vector of length 1 at index 0, got one"),
            "{message}"
        );
    }
    assert_eq!(put(&[1.0]).0, "invalid_argument");
    assert_eq!(error(index.put(&model(0), vec![id(1)], &[])).0, "invalid_argument");
    let long = vec![0; 65_537].into();
    assert_eq!(error(index.put(&model(1), vec![long], &[1.0])).0, "invalid_argument");
    assert_eq!((index.size(), index.model()), (0, None));
}

#[test]
fn an_error_names_both_models() {
    let index = filled(Storage::F32, &[vec![1.0, 0.0]]);
    let other = Model { name: "n".to_owned(), commit: Some("c".to_owned()), dim: 2 };
    let expected = "the index holds embeddings of \"m\" (2 dimensions), and this one is of \"n\" at c; \
        embed it with the model of the index, or make another index";
    let put = error(index.put(&other, vec![id(2)], &[0.0, 1.0]));
    assert_eq!(put, ("wrong_model", expected.to_owned()));
    let query = clip::search::Query::Vector(other, vec![0.0, 1.0]);
    let (search, answer) = search(query, 1);
    let asked = error(ask(&index, search, &answer).map(drop));
    assert_eq!(asked, ("wrong_model", expected.to_owned()));
    assert_eq!(error(put_dim(&index)).0, "wrong_model");
    assert_eq!(index.size(), 1);
}

fn put_dim(index: &Index) -> clip::Result<()> {
    index.put(&model(3), vec![id(2)], &[0.0, 0.0, 1.0])
}

#[test]
fn a_full_index_takes_none_of_what_is_too_much() {
    let index = Arc::new(Index::new(Settings { storage: Storage::F32, max_size: 3 }));
    let vectors = vec![vec![1.0, 0.0]; 3];
    put(&index, 0, &vectors[..2]).unwrap();
    let expected = "the index would hold 4 entries, the limit is 3; delete some or raise max_size";
    assert_eq!(error(put(&index, 2, &vectors[..2])), ("index_full", expected.to_owned()));
    assert_eq!(index.size(), 2);
    // Those that are there take no room, nor does one that comes twice.
    put(&index, 0, &vectors).unwrap();
    let ids = vec![id(1), id(1), id(1)];
    index.put(&model(2), ids, &vectors.concat()).unwrap();
    assert_eq!(index.size(), 3);
}
