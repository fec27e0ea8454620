//! An index: its entries, and the searches that wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::block::{Prepared, Vector, row_bytes};
use super::model::Model;
use super::pass::{Asked, Pass, Query, Search};
use super::state::{Rows, State};
use super::turns::Turns;
use super::{Id, MAX_DIM, MAX_ID, Storage};
use crate::error::{Error, ErrorKind, Remedy, Result};

/// Most searches that wait for one index.
const MAX_WAITING: usize = 4096;
/// Most searches that share one reading of the rows.
const MAX_TOGETHER: usize = 64;
/// Most candidates that these searches keep, on each thread.
const MAX_KEPT: usize = 1 << 20;
/// How far the length of a vector may be from 1.
const TOLERANCE: f64 = 0.01;

/// How an index stores its vectors, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How vectors are stored.
    pub storage: Storage,
    /// Most vectors that it holds.
    pub max_size: u32,
}

/// Vectors by id, shared by all threads.
pub struct Index {
    settings: Settings,
    /// The model of the first vector.
    model: OnceLock<Model>,
    state: Mutex<Option<State>>,
    size: AtomicUsize,
    changes: AtomicUsize,
    waiting: Mutex<Waiting>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut index = f.debug_struct("Index");
        index.field("settings", &self.settings).field("model", &self.model.get());
        index.field("size", &self.size()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    turns: Turns<Search>,
    /// Whether a thread has been told to begin them.
    is_called: bool,
}

impl Index {
    /// An empty index.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            model: OnceLock::new(),
            state: Mutex::new(None),
            size: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// The model of its vectors, `None` before the first one.
    pub fn model(&self) -> Option<&Model> {
        self.model.get()
    }

    /// How many vectors it holds.
    pub fn size(&self) -> usize {
        self.size.load(Ordering::Acquire)
    }

    /// The number of changes so far.
    pub fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// How many searches wait.
    pub fn waiting(&self) -> usize {
        self.queue().turns.len()
    }

    /// The memory of the vectors in bytes, without ids.
    pub fn bytes(&self) -> usize {
        self.model().map_or(0, |model| self.size() * row_bytes(self.settings.storage, model.dim))
    }

    /// Puts vectors in, all of them or none. A vector replaces the one that has the same id.
    ///
    /// # Errors
    /// `WrongModel`, `IndexFull`, and `InvalidArgument` for a vector that does not have length 1.
    pub fn put(&self, model: &Model, ids: Vec<Id>, values: &[f32]) -> Result<()> {
        check_vectors(model, ids.len(), values)?;
        let vectors: Vec<Vector> = values
            .chunks_exact(model.dim)
            .map(|values| Vector::new(self.settings.storage, values))
            .collect();
        let too_long = ids.iter().position(|id| id.len() > MAX_ID);
        if let Some(index) = too_long {
            let message = format!("expected an id of at most {MAX_ID} bytes at index {index}");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        self.check_model(model)?;
        self.store(model, ids, vectors)
    }

    /// Puts vectors in that were checked before.
    pub(super) fn store(&self, model: &Model, ids: Vec<Id>, vectors: Vec<Vector>) -> Result<()> {
        let mut state = self.state();
        if self.model.get_or_init(|| model.clone()) != model {
            return Err(self.wrong_model(model));
        }
        let state = state.get_or_insert_with(|| State::new(self.settings.storage, model.dim));
        self.check_size(state.rows().size + state.count_new(ids.iter()))?;
        for (id, vector) in ids.into_iter().zip(vectors) {
            state.put(id, vector);
        }
        self.changed(state);
        Ok(())
    }

    /// Deletes ids, and returns how many of them were there.
    pub fn delete<'a>(&self, ids: impl IntoIterator<Item = &'a [u8]>) -> usize {
        let mut state = self.state();
        let Some(state) = state.as_mut() else { return 0 };
        let deleted = ids.into_iter().filter(|id| state.delete(id)).count();
        self.changed(state);
        deleted
    }

    /// Whether there is a vector of this id.
    pub fn has(&self, id: &[u8]) -> bool {
        self.state().as_ref().is_some_and(|state| state.slot(id).is_some())
    }

    /// The ids with the numbers `from` to `to`, in no particular order.
    pub fn ids(&self, from: usize, to: usize) -> Vec<Id> {
        let Some(rows) = self.rows() else { return Vec::new() };
        let slots = from.min(rows.size)..to.min(rows.size);
        slots.map(|slot| rows.blocks[slot / rows.each].ids[slot % rows.each].clone()).collect()
    }

    /// The rows as they are now.
    pub(super) fn rows(&self) -> Option<Rows> {
        self.state().as_ref().map(|state| state.rows().clone())
    }

    /// Queues a search. Returns `true` if a thread has to be told to begin it.
    pub(super) fn queue_up(&self, owner: u64, search: Search) -> Result<bool> {
        let mut waiting = self.queue();
        if waiting.turns.len() >= MAX_WAITING {
            let message = format!(
                "too many searches wait for this index (limit: {MAX_WAITING}); try again later"
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        waiting.turns.push(owner, search);
        Ok(!std::mem::replace(&mut waiting.is_called, true))
    }

    /// Takes waiting searches and prepares them. Also returns whether others are left.
    pub(super) fn begin(&self) -> (Vec<Pass>, bool) {
        let (searches, is_more) = self.take_some();
        let state = self.state();
        let rows = state.as_ref().map(|state| state.rows().clone());
        let resolve = |search: Search| {
            let asked = self.resolve(&search, state.as_ref());
            (search, asked)
        };
        let resolved = searches.into_iter().map(resolve).collect();
        drop(state);
        (Pass::all(rows, self.settings.storage, resolved), is_more)
    }

    fn take_some(&self) -> (Vec<Search>, bool) {
        let mut waiting = self.queue();
        let (mut searches, mut kept) = (Vec::new(), 0);
        while searches.len() < MAX_TOGETHER && kept < MAX_KEPT {
            let Some(search) = waiting.turns.pop() else { break };
            if search.is_wanted() {
                kept += search.most.min(self.size());
                searches.push(search);
            }
        }
        waiting.is_called = waiting.turns.len() > 0;
        (searches, waiting.is_called)
    }

    /// Resolves a search to the rows of this moment.
    fn resolve(&self, search: &Search, state: Option<&State>) -> Result<Asked> {
        let storage = self.settings.storage;
        let (values, itself) = match &search.query {
            Query::Vector(model, values) => {
                check_vectors(model, 1, values)?;
                self.check_model(model)?;
                (values.clone(), None)
            }
            Query::Id(id) => {
                let found = state.and_then(|state| state.slot(id).map(|slot| (state, slot)));
                let Some((state, slot)) = found else {
                    let message = "the index has no entry of this id; put it first";
                    return Err(Error::new(ErrorKind::NotFound, message));
                };
                let (block, at) = state.rows().at(slot);
                (block.vector(at).values(state.dim()), Some(slot))
            }
        };
        let only = search.only.as_ref().map(|ids| {
            let slots = ids.iter().filter_map(|id| state.and_then(|state| state.slot(id)));
            let mut slots: Vec<u32> = slots.collect();
            slots.sort_unstable();
            slots.dedup();
            slots
        });
        Ok(Asked { query: Prepared::new(storage, &values), itself, only })
    }

    fn changed(&self, state: &State) {
        self.size.store(state.rows().size, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn check_model(&self, model: &Model) -> Result<()> {
        match self.model.get() {
            Some(own) if own != model => Err(self.wrong_model(model)),
            _ => Ok(()),
        }
    }

    fn wrong_model(&self, model: &Model) -> Error {
        let own = self.model.get().map(ToString::to_string).unwrap_or_default();
        let message = format!(
            "the index holds embeddings of {own}, and this one is of {model}; embed it with the \
            model of the index, or make another index"
        );
        Error::new(ErrorKind::WrongModel, message)
    }

    pub(super) fn check_size(&self, size: usize) -> Result<()> {
        let most = self.settings.max_size;
        if size <= most as usize {
            return Ok(());
        }
        let message =
            format!("the index would hold {size} entries, the limit is {most}; delete some or");
        Err(Error::new(ErrorKind::IndexFull, message).with_remedy(Remedy::RaiseMaxSize))
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that these are unit vectors of the model.
pub(super) fn check_vectors(model: &Model, count: usize, values: &[f32]) -> Result<()> {
    let dim = model.dim;
    if dim == 0 || dim > MAX_DIM || values.len() != count * dim {
        let message = format!(
            "expected {count} vectors of {dim} components, of 1 to {MAX_DIM} each, got {} numbers",
            values.len()
        );
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    for (index, values) in values.chunks_exact(dim).enumerate() {
        let square: f64 = values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let off = (square.sqrt() - 1.0).abs();
        if off.is_nan() || off > TOLERANCE {
            let message = format!(
                "expected a vector of length 1 at index {index}, got one of length {}",
                square.sqrt()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
    }
    Ok(())
}
