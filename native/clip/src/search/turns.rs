//! A queue in which owners take turns.

use std::collections::{HashMap, VecDeque};

/// Items by owner. Each owner has one turn after the other, however many items it has.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// No owner's list is empty, and `owners` has each of these owners once.
    lists: HashMap<u64, VecDeque<T>>,
    owners: VecDeque<u64>,
    len: usize,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { lists: HashMap::new(), owners: VecDeque::new(), len: 0 }
    }
}

impl<T> Turns<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, owner: u64, item: T) {
        let list = self.lists.entry(owner).or_insert_with(|| {
            self.owners.push_back(owner);
            VecDeque::new()
        });
        list.push_back(item);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let owner = self.owners.pop_front()?;
        let list = self.lists.get_mut(&owner)?;
        let item = list.pop_front();
        if list.is_empty() {
            self.lists.remove(&owner);
        } else {
            self.owners.push_back(owner);
        }
        self.len -= usize::from(item.is_some());
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_owner_comes_before_the_second_of_any() {
        let mut turns = Turns::default();
        for (owner, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            turns.push(owner, item);
        }
        assert_eq!(turns.len(), 6);
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!(turns.len(), 0);
    }
}
