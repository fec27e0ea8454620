//! The best of many candidates.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A row and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) score: f32,
    /// When its id was first put. Of equal scores, the lower number is better.
    pub(super) number: u64,
    pub(super) slot: u32,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    /// The better one is greater.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.number.cmp(&self.number))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best candidates of those that were offered.
#[derive(Debug)]
pub(super) struct Top {
    most: usize,
    least: f32,
    /// The worst one first.
    heap: BinaryHeap<Reverse<Candidate>>,
}

impl Top {
    /// Keeps at most `most` candidates, and none below `least`.
    pub(super) fn new(most: usize, least: f32) -> Self {
        Self { most, least, heap: BinaryHeap::new() }
    }

    /// A candidate below this score would not be kept.
    pub(super) fn floor(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() >= self.most => worst.0.score,
            _ => self.least,
        }
    }

    pub(super) fn offer(&mut self, candidate: Candidate) {
        if candidate.score < self.least {
            return;
        }
        if self.heap.len() < self.most {
            self.heap.push(Reverse(candidate));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate > worst.0
        {
            *worst = Reverse(candidate);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        other.heap.into_iter().for_each(|candidate| self.offer(candidate.0));
    }

    /// The best first.
    pub(super) fn sorted(self) -> Vec<Candidate> {
        let mut all: Vec<_> = self.heap.into_iter().map(|candidate| candidate.0).collect();
        all.sort_unstable_by_key(|candidate| Reverse(*candidate));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(scores: &[f32]) -> Vec<Candidate> {
        let numbered = (0u32..).zip(scores);
        numbered
            .map(|(slot, score)| Candidate { score: *score, number: slot.into(), slot })
            .collect()
    }

    fn best(scores: &[f32], most: usize, least: f32) -> Vec<u32> {
        let mut top = Top::new(most, least);
        candidates(scores).into_iter().rev().for_each(|candidate| top.offer(candidate));
        top.sorted().iter().map(|candidate| candidate.slot).collect()
    }

    #[test]
    fn the_best_come_first_and_equals_in_the_order_in_which_they_came() {
        let scores = [0.1, 0.5, 0.5, 0.9, 0.5];
        assert_eq!(best(&scores, 3, -1.0), [3, 1, 2]);
        assert_eq!(best(&scores, 9, -1.0), [3, 1, 2, 4, 0]);
        assert_eq!(best(&scores, 9, 0.5), [3, 1, 2, 4]);
        assert_eq!(best(&scores, 9, 0.91), [0u32; 0]);
    }

    #[test]
    fn the_parts_of_a_list_have_the_best_of_the_whole() {
        let scores: Vec<f32> = (0u16..100).map(|i| f32::from(i * 37 % 11)).collect();
        let mut parts = Top::new(7, -1.0);
        for part in candidates(&scores).chunks(13) {
            let mut top = Top::new(7, -1.0);
            part.iter().for_each(|candidate| top.offer(*candidate));
            parts.merge(top);
        }
        let parts: Vec<u32> = parts.sorted().iter().map(|candidate| candidate.slot).collect();
        assert_eq!(parts, best(&scores, 7, -1.0));
    }
}
