//! One reading of the rows for one or several searches, shared by any number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::block::Prepared;
use super::model::Model;
use super::state::Rows;
use super::top::{Candidate, Top};
use super::{Id, Ids, Storage};
use crate::error::{Error, ErrorKind, Result, caught};
use crate::pool::Ticket;

/// Rows in one part, if a search names its rows.
const SOME: usize = 1024;

/// A result of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: Id,
    /// Its cosine with the query, from -1 to 1.
    pub score: f32,
}

/// The caller of a search.
pub trait Asker: Send + 'static {
    /// Whether the caller still waits. Checked before the search begins.
    fn wanted(&self) -> bool;

    /// Sends the results, best first.
    fn reply(self: Box<Self>, result: Result<Vec<Hit>>);
}

/// The vector that results resemble.
#[derive(Debug, Clone)]
pub enum Query {
    /// A unit vector, and the model that made it.
    Vector(Model, Vec<f32>),
    /// The vector of the entry with this id, which is not its own neighbour.
    Id(Vec<u8>),
}

/// A search.
pub struct Search {
    /// The vector that results resemble.
    pub query: Query,
    /// The most results.
    pub most: usize,
    /// Results below this score are left out.
    pub least: Option<f32>,
    /// The only ids that may be results, if given. Unknown ids are skipped.
    pub only: Option<Ids>,
    /// The caller, who gets the results.
    pub asker: Box<dyn Asker>,
    /// Cancels the search.
    pub ticket: Ticket,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Search").field("query", &self.query).finish_non_exhaustive()
    }
}

impl Search {
    pub(super) fn is_wanted(&self) -> bool {
        !self.ticket.is_cancelled() && self.asker.wanted()
    }

    pub(super) fn reply(self, result: Result<Vec<Hit>>) {
        if self.ticket.reply() {
            self.asker.reply(result);
        }
    }
}

/// A search with its ids resolved to rows.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: Prepared,
    /// The row that was asked for by its id, and is left out.
    pub(super) itself: Option<u32>,
    pub(super) only: Option<Vec<u32>>,
}

/// One reading of the rows.
#[derive(Debug)]
pub(super) struct Pass {
    rows: Rows,
    /// Whether the first scores are estimates.
    estimates: bool,
    asked: Vec<Asked>,
    limits: Vec<(usize, f32)>,
    /// The next part to take.
    next: AtomicUsize,
    parts: usize,
    merged: Mutex<Merged>,
}

#[derive(Debug)]
struct Merged {
    /// `None` once a thread replies to them.
    searches: Option<Vec<Search>>,
    tops: Vec<Top>,
    helpers: usize,
    failure: Option<String>,
}

impl Pass {
    /// Makes passes for searches that begin at the same moment. Replies to those that need none.
    pub(super) fn all(
        rows: Option<Rows>,
        storage: Storage,
        resolved: Vec<(Search, Result<Asked>)>,
    ) -> Vec<Self> {
        let (mut passes, mut together) = (Vec::new(), Vec::new());
        for (search, asked) in resolved {
            match (asked, &rows) {
                (Err(error), _) => search.reply(Err(error)),
                (Ok(_), None) => search.reply(Ok(Vec::new())),
                (Ok(asked), Some(rows)) if asked.only.is_some() => {
                    passes.push(Self::new(rows.clone(), storage, vec![(search, asked)]));
                }
                (Ok(asked), Some(_)) => together.push((search, asked)),
            }
        }
        match rows {
            Some(rows) if !together.is_empty() => passes.push(Self::new(rows, storage, together)),
            _ => {}
        }
        passes
    }

    fn new(rows: Rows, storage: Storage, searches: Vec<(Search, Asked)>) -> Self {
        let (searches, asked): (Vec<_>, Vec<_>) = searches.into_iter().unzip();
        let parts = match &asked[0].only {
            Some(slots) => slots.len().div_ceil(SOME),
            None => rows.blocks.len(),
        };
        // Estimates choose the candidates; their exact scores choose the results.
        let estimates = storage == Storage::I8 && asked[0].only.is_none();
        let limits: Vec<_> = searches
            .iter()
            .map(|search| match estimates {
                true => (search.most.saturating_mul(4).saturating_add(100), f32::NEG_INFINITY),
                false => (search.most, search.least.unwrap_or(f32::NEG_INFINITY)),
            })
            .collect();
        let tops = tops(&limits);
        let merged = Merged { searches: Some(searches), tops, helpers: 0, failure: None };
        let (next, merged) = (AtomicUsize::new(0), Mutex::new(merged));
        Self { rows, estimates, asked, limits, next, parts, merged }
    }

    /// Whether parts are left to take.
    pub(super) fn is_open(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.parts
    }

    /// Reads parts until none are left. The last thread to finish replies.
    pub(super) fn help(&self) {
        self.merged().helpers += 1;
        let found = caught(|| self.read());
        let mut merged = self.merged();
        merged.helpers -= 1;
        match found {
            Ok(tops) => merged.tops.iter_mut().zip(tops).for_each(|(all, some)| all.merge(some)),
            Err(panic) => merged.failure = Some(panic),
        }
        if merged.helpers > 0 || (self.is_open() && merged.failure.is_none()) {
            return;
        }
        let (searches, tops) = (merged.searches.take(), std::mem::take(&mut merged.tops));
        let failure = merged.failure.clone();
        drop(merged);
        for (index, (search, top)) in searches.into_iter().flatten().zip(tops).enumerate() {
            let result = failure.as_ref().map_or_else(
                || Ok(self.hits(index, &search, top)),
                |panic| Err(Error::new(ErrorKind::Internal, format!("a search failed: {panic}"))),
            );
            let _ = caught(|| search.reply(result));
        }
    }

    fn read(&self) -> Vec<Top> {
        let mut tops = tops(&self.limits);
        let mut scores = Vec::new();
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= self.parts {
                return tops;
            }
            match &self.asked[0].only {
                Some(slots) => self.read_some(&slots[part * SOME..], &mut tops[0]),
                None => self.read_block(part, &mut tops, &mut scores),
            }
        }
    }

    fn read_block(&self, part: usize, tops: &mut [Top], scores: &mut Vec<f32>) {
        let block = &self.rows.blocks[part];
        let queries: Vec<&Prepared> = self.asked.iter().map(|asked| &asked.query).collect();
        block.scores(&queries, scores);
        let first = part * self.rows.each;
        for ((asked, top), scores) in
            self.asked.iter().zip(tops).zip(scores.chunks_exact(block.len()))
        {
            let mut floor = top.floor();
            for (at, score) in scores.iter().enumerate() {
                if *score >= floor {
                    // A slot fits.
                    #[allow(clippy::cast_possible_truncation)]
                    let slot = (first + at) as u32;
                    if asked.itself != Some(slot) {
                        top.offer(Candidate { score: *score, number: block.numbers[at], slot });
                        floor = top.floor();
                    }
                }
            }
        }
    }

    fn read_some(&self, slots: &[u32], top: &mut Top) {
        let asked = &self.asked[0];
        for &slot in slots.iter().take(SOME).filter(|slot| asked.itself != Some(**slot)) {
            let (block, at) = self.rows.at(slot);
            let score = block.score(at, &asked.query);
            top.offer(Candidate { score, number: block.numbers[at], slot });
        }
    }

    fn hits(&self, index: usize, search: &Search, top: Top) -> Vec<Hit> {
        let top = if self.estimates { self.exact(index, search, top) } else { top };
        let hit = |found: Candidate| {
            let (block, at) = self.rows.at(found.slot);
            Hit { id: block.ids[at].clone(), score: found.score }
        };
        top.sorted().into_iter().map(hit).collect()
    }

    fn exact(&self, index: usize, search: &Search, top: Top) -> Top {
        let mut exact = Top::new(search.most, search.least.unwrap_or(f32::NEG_INFINITY));
        for candidate in top.sorted() {
            let (block, at) = self.rows.at(candidate.slot);
            let score = block.exact(at, &self.asked[index].query);
            exact.offer(Candidate { score, ..candidate });
        }
        exact
    }

    fn merged(&self) -> MutexGuard<'_, Merged> {
        self.merged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tops(limits: &[(usize, f32)]) -> Vec<Top> {
    limits.iter().map(|(most, least)| Top::new(*most, *least)).collect()
}
