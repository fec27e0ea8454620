//! Many searches and changes at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use clip::Result;
use clip::pool::Ticket;
use clip::search::{Asker, Hit, Index, Search, SearchThreads, Storage};

use crate::support::*;

#[test]
fn a_search_sees_all_of_a_change_or_nothing() {
    let mut noise = Noise::new(1);
    let pairs: Vec<_> = (0..2).map(|_| noise.vector(64)).collect();
    for storage in STORAGES {
        let index = empty(storage);
        let others: Vec<_> = (0..5000).map(|_| noise.vector(64)).collect();
        put(&index, 10, &others).unwrap();
        put(&index, 0, &[pairs[0].clone(), pairs[0].clone()]).unwrap();
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = [0; 2];
                        while !ended.load(Ordering::Acquire) {
                            let hits = nearest(&index, like(&pairs[0]), 5002);
                            let of = |name: &str| {
                                hits.iter()
                                    .find(|hit| &hit.id[..] == name.as_bytes())
                                    .unwrap()
                                    .score
                            };
                            let (first, second) = (of("id 0"), of("id 1"));
                            assert_eq!(first, second, "{storage:?}");
                            seen[usize::from(first < 0.9)] += 1;
                        }
                        seen
                    })
                })
                .collect();
            for round in 0..200 {
                let pair = &pairs[round % 2];
                put(&index, 0, &[pair.clone(), pair.clone()]).unwrap();
                put(&index, 6000 + round, &others[..1]).unwrap();
                index.delete([&id(6000 + round)[..]]);
            }
            ended.store(true, Ordering::Release);
            readers.into_iter().for_each(|reader| {
                reader.join().unwrap();
            });
        });
        assert_eq!(index.size(), 5002);
    }
}

#[test]
fn thousands_search_at_once_and_those_beyond_the_limit_hear_so() {
    // Nobody works, so that all of them wait.
    let index = filled(Storage::F32, &[vec![1.0, 0.0], vec![0.0, 1.0]]);
    let (blocked, go_on) = channel::<()>();
    let threads = SearchThreads::new(1);
    threads.run(move || go_on.recv().unwrap_or_default()).unwrap();
    let mut answers = Vec::new();
    let refused = loop {
        let (search, answer) = search(like(&[1.0, 0.0]), 1);
        match threads.search(&index, 7, search) {
            Ok(_) => answers.push(answer),
            Err(error) => break error,
        }
        assert!(answers.len() < 10_000);
    };
    assert_eq!(refused.kind().as_str(), "overloaded");
    assert_eq!(
        refused.to_string(),
        "too many searches wait for this index (limit: 4096); try again later"
    );
    assert_eq!((answers.len(), index.waiting()), (4096, 4096));
    drop(blocked);
    for answer in answers {
        assert_eq!(names(&answer.recv().unwrap().unwrap()), ["id 0"]);
    }
    assert_eq!(index.waiting(), 0);
}

struct Ordered(Arc<AtomicUsize>, std::sync::mpsc::Sender<(u64, usize)>, u64);

impl Asker for Ordered {
    fn wanted(&self) -> bool {
        true
    }

    fn reply(self: Box<Self>, _result: Result<Vec<Hit>>) {
        let _ = self.1.send((self.2, self.0.fetch_add(1, Ordering::AcqRel)));
    }
}

#[test]
fn one_search_does_not_wait_behind_a_thousand_of_another_owner() {
    let index = filled(Storage::F32, &[vec![1.0, 0.0]]);
    let threads = SearchThreads::new(1);
    let (blocked, go_on) = channel::<()>();
    threads.run(move || go_on.recv().unwrap_or_default()).unwrap();
    let (count, (sender, replies)) = (Arc::new(AtomicUsize::new(0)), channel());
    let ask = |owner| {
        let asker = Box::new(Ordered(Arc::clone(&count), sender.clone(), owner));
        let query = like(&[1.0, 0.0]);
        let search =
            Search { query, most: 1, least: None, only: None, asker, ticket: Ticket::default() };
        threads.search(&index, owner, search).unwrap();
    };
    (0..1000).for_each(|_| ask(1));
    ask(2);
    drop(blocked);
    let all: Vec<_> = replies.iter().take(1001).collect();
    let place = all.iter().find(|(owner, _)| *owner == 2).unwrap().1;
    assert!(place < 64, "{place}");
}

struct Unwanted(std::sync::mpsc::Sender<()>);

impl Asker for Unwanted {
    fn wanted(&self) -> bool {
        false
    }

    fn reply(self: Box<Self>, _result: Result<Vec<Hit>>) {
        let _ = self.0.send(());
    }
}

#[test]
fn a_search_that_nobody_waits_for_is_not_made() {
    let index = filled(Storage::F32, &[vec![1.0, 0.0]]);
    let (sender, replies) = channel();
    let query = || like(&[1.0, 0.0]);
    let asker = Box::new(Unwanted(sender));
    let (gone, _) = search(query(), 1);
    THREADS.search(&index, 1, Search { asker, ..gone }).unwrap();
    assert!(replies.recv().is_err());

    let threads = SearchThreads::new(1);
    let (blocked, go_on) = channel::<()>();
    threads.run(move || go_on.recv().unwrap_or_default()).unwrap();
    let (taken_back, answer) = search(query(), 1);
    let ticket = threads.search(&index, 1, taken_back).unwrap();
    assert!(ticket.cancel());
    drop(blocked);
    assert!(answer.recv().is_err());
}

struct Panics;

impl Asker for Panics {
    fn wanted(&self) -> bool {
        true
    }

    fn reply(self: Box<Self>, _result: Result<Vec<Hit>>) {
        panic!("drill");
    }
}

#[test]
fn a_panic_costs_no_thread_and_no_other_search() {
    let index: Arc<Index> = filled(Storage::F32, &[vec![1.0, 0.0]]);
    let threads = SearchThreads::new(1);
    for _ in 0..10 {
        let (search, _) = search(like(&[1.0, 0.0]), 1);
        threads.search(&index, 1, Search { asker: Box::new(Panics), ..search }).unwrap();
        threads.run(|| panic!("drill")).unwrap();
    }
    let (search, answer) = search(like(&[1.0, 0.0]), 1);
    threads.search(&index, 1, search).unwrap();
    assert_eq!(names(&answer.recv().unwrap().unwrap()), ["id 0"]);
}
