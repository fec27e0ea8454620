//! The entries of an index.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::block::{Block, Vector, rows_of_block};
use super::{Id, Storage};

/// The rows of an index. A clone shares its blocks until one of the two changes them.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) blocks: Vec<Arc<Block>>,
    /// The number of rows of each block except the last one.
    pub(super) each: usize,
    pub(super) size: usize,
}

impl Rows {
    /// The block of a slot, and the position in it.
    pub(super) fn at(&self, slot: u32) -> (&Block, usize) {
        let slot = slot as usize;
        (&self.blocks[slot / self.each], slot % self.each)
    }
}

/// The rows, and where each id is.
#[derive(Debug)]
pub(super) struct State {
    storage: Storage,
    dim: usize,
    rows: Rows,
    slots: HashMap<Id, u32>,
    /// The number of the next id.
    next: u64,
}

impl State {
    pub(super) fn new(storage: Storage, dim: usize) -> Self {
        let rows = Rows { blocks: Vec::new(), each: rows_of_block(storage, dim), size: 0 };
        Self { storage, dim, rows, slots: HashMap::new(), next: 0 }
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(super) fn slot(&self, id: &[u8]) -> Option<u32> {
        self.slots.get(id).copied()
    }

    /// How many of these ids are new.
    pub(super) fn count_new<'a>(&self, ids: impl Iterator<Item = &'a Id>) -> usize {
        ids.filter(|id| !self.slots.contains_key(*id)).collect::<HashSet<_>>().len()
    }

    /// Puts a vector in. If it replaces another one, it keeps its position among equal scores.
    pub(super) fn put(&mut self, id: Id, vector: Vector) {
        if let Some(slot) = self.slot(&id) {
            let (block, at) = self.block(slot);
            block.set(at, &vector);
            return;
        }
        let slot = self.rows.size;
        if slot / self.rows.each == self.rows.blocks.len() {
            self.rows.blocks.push(Arc::new(Block::new(self.storage, self.dim)));
        }
        // The size of an index is limited to that of a slot.
        #[allow(clippy::cast_possible_truncation)]
        let slot = slot as u32;
        self.slots.insert(id.clone(), slot);
        let number = self.next;
        self.block(slot).0.push(id, number, vector);
        self.next += 1;
        self.rows.size += 1;
    }

    /// Deletes an id, and moves the last row to its slot.
    pub(super) fn delete(&mut self, id: &[u8]) -> bool {
        let Some(slot) = self.slots.remove(id) else { return false };
        let Some(last) = self.rows.blocks.last_mut().map(Arc::make_mut) else { return false };
        let Some((moved, number, vector)) = last.pop() else { return false };
        if last.len() == 0 {
            self.rows.blocks.pop();
        }
        self.rows.size -= 1;
        if slot as usize != self.rows.size {
            let (block, at) = self.block(slot);
            block.set(at, &vector);
            block.ids[at] = moved.clone();
            block.numbers[at] = number;
            self.slots.insert(moved, slot);
        }
        true
    }

    /// The block of a slot, to change. If a search reads it, this is a copy.
    fn block(&mut self, slot: u32) -> (&mut Block, usize) {
        let slot = slot as usize;
        let block = &mut self.rows.blocks[slot / self.rows.each];
        (Arc::make_mut(block), slot % self.rows.each)
    }
}
