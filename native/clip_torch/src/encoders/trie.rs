//! Prompts as tries: what several of them begin with is computed once.
//!
//! Under a causal mask a token's state depends only on the tokens before it, so prompts that begin
//! alike share the states of that beginning. Their tokens form a tree, which is laid out in
//! depth-first order: the tokens that follow one, in whichever prompt, are a stretch right behind
//! it. Two numbers say who attends to whom, a token's place and where its stretch ends.
//!
//! Beside a separate pass for the prefix, this finds every prefix by itself (several templates,
//! labels that begin alike), needs no padding and no groups by length, and reads the weights once
//! for a few labels. What it costs is attention to tokens that are then masked, little while a pass
//! is short.

use tch::{Device, Kind, Tensor};

use crate::encoders::encoder::TextPass;
use crate::error::Result;
use crate::tensor::from_bytes;

/// Tokens of a trie. Fewer make slow products of matrices, more make much attention that is masked:
/// from 256 to 512 the time is the same, with 128 or 1,024 a tenth more. Masks grow with its square.
const MAX_TOKENS_CPU: usize = 256;
/// The same on a GPU (bench/README.md).
const MAX_TOKENS_GPU: usize = 2048;

/// Rows of token ids, none of them empty, as our text tower takes them.
pub(crate) fn passes(rows: &[Vec<u32>], device: Device, _threads: usize) -> Result<Vec<TextPass>> {
    let most = if device.is_cuda() { MAX_TOKENS_GPU } else { MAX_TOKENS_CPU };
    let padded = if device == Device::Cpu { padded } else { |count| count };
    tries(rows, most).into_iter().map(|trie| trie.pass(padded)).collect()
}

/// Numbers of tokens, and of prompts, that passes on a CPU have. oneDNN makes and keeps kernels, up to
/// 1 MB, for each number of rows: of all numbers to 256 they would take more memory than the model.
const SIZES: [usize; 10] = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256];

/// The next of these sizes. The one prompt that is longer than a trie has few lengths.
fn padded(count: usize) -> usize {
    SIZES.into_iter().find(|size| *size >= count).unwrap_or(count)
}

/// Prompts that go through the text tower together.
#[derive(Debug, Default)]
struct Trie {
    ids: Vec<u32>,
    /// For each token, the place behind the last one that follows it in a prompt.
    ends: Vec<usize>,
    /// Places of the last prompt's tokens.
    path: Vec<usize>,
    /// For each prompt, its row.
    rows: Vec<usize>,
    /// For each prompt, the place of its last token.
    pooled: Vec<usize>,
}

impl Trie {
    /// Ids and ends `[1, tokens]`, and pooled places `[1, prompts]`, padded: tokens that see themselves
    /// alone, and prompts that nobody asks for.
    fn pass(mut self, padded: fn(usize) -> usize) -> Result<TextPass> {
        for place in self.ids.len()..padded(self.ids.len()) {
            self.ids.push(0);
            self.ends.push(place + 1);
        }
        self.pooled.resize(padded(self.pooled.len()), 0);
        let inputs = vec![
            integers(self.ids.iter().map(|id| i64::from(*id)))?,
            integers(self.ends.iter().map(|end| *end as i64))?,
            integers(self.pooled.iter().map(|place| *place as i64))?,
        ];
        Ok(TextPass { inputs, rows: self.rows })
    }

    /// How many tokens of a prompt are those that the last one began with.
    fn shared(&self, prompt: &[u32]) -> usize {
        let same = |(place, id): &(&usize, &u32)| self.ids[**place] == **id;
        self.path.iter().zip(prompt).take_while(same).count()
    }

    /// Rows count too: the same prompt a million times has few tokens.
    fn fits(&self, prompt: &[u32], most: usize) -> bool {
        let tokens = self.ids.len() + prompt.len() - self.shared(prompt);
        tokens.max(self.rows.len() + 1) <= most
    }

    fn push(&mut self, row: usize, prompt: &[u32]) {
        let shared = self.shared(prompt);
        let new = self.ids.len()..self.ids.len() + prompt.len() - shared;
        self.ids.extend(&prompt[shared..]);
        self.ends.resize(new.end, 0);
        self.path.truncate(shared);
        self.path.extend(new.clone());
        for place in &self.path {
            self.ends[*place] = new.end;
        }
        self.rows.push(row);
        self.pooled.extend(self.path.last());
    }
}

/// Rows as tries of at most so many tokens and rows, or of one row.
fn tries(rows: &[Vec<u32>], most: usize) -> Vec<Trie> {
    // Sorted, a row begins as the one before it does, as far as with any other.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*a].cmp(&rows[*b]));
    let mut tries: Vec<Trie> = Vec::new();
    for row in order {
        let prompt = &rows[row];
        match tries.last_mut() {
            Some(trie) if trie.fits(prompt, most) => trie.push(row, prompt),
            _ => {
                let mut trie = Trie::default();
                trie.push(row, prompt);
                tries.push(trie);
            }
        }
    }
    tries
}

fn integers(values: impl Iterator<Item = i64>) -> Result<Tensor> {
    let bytes: Vec<u8> = values.flat_map(i64::to_ne_bytes).collect();
    from_bytes(&bytes, &[1, (bytes.len() / size_of::<i64>()) as i64], Kind::Int64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rows(rows: &[&[u32]]) -> Vec<Vec<u32>> {
        rows.iter().map(|row| row.to_vec()).collect()
    }

    /// The tokens that the last one of each prompt sees, by the rule that the tower applies.
    fn seen(trie: &Trie) -> Vec<Vec<u32>> {
        let sees = |query: usize, place: &usize| *place <= query && query < trie.ends[*place];
        let of = |query: &usize| (0..trie.ids.len()).filter(|place| sees(*query, place)).collect();
        let ids = |places: Vec<usize>| places.into_iter().map(|place| trie.ids[place]).collect();
        trie.pooled.iter().map(of).map(ids).collect()
    }

    #[test]
    fn every_prompt_sees_its_own_tokens() {
        let rows =
            rows(&[&[1, 2, 9], &[1, 9], &[1, 2, 3, 9], &[1, 2, 9], &[7], &[1], &[1, 2, 3, 4]]);
        for most in 1..14 {
            let mut met = vec![0; rows.len()];
            for trie in tries(&rows, most) {
                assert!(trie.ids.len().max(trie.rows.len()) <= most || trie.rows.len() == 1);
                for (row, seen) in trie.rows.iter().zip(seen(&trie)) {
                    assert_eq!(seen, rows[*row]);
                    met[*row] += 1;
                }
            }
            assert_eq!(met, vec![1; rows.len()]);
        }
    }

    #[test]
    fn what_is_shared_is_there_once() {
        let rows = rows(&[&[1, 2, 3, 9], &[1, 2, 9], &[1, 2, 3, 9], &[1, 2, 3, 4, 9]]);
        let tries = tries(&rows, 100);
        assert_eq!(tries.len(), 1);
        assert_eq!(tries[0].ids, [1, 2, 3, 4, 9, 9, 9]);
        assert_eq!(tries[0].rows, [3, 0, 2, 1]);
        assert_eq!(tries[0].pooled, [4, 5, 5, 6]);
    }

    #[test]
    fn passes_have_few_sizes_and_padding_is_nobody_s() {
        let mut sizes = std::collections::BTreeSet::new();
        for count in 1..200u32 {
            let rows: Vec<Vec<u32>> = (0..count).map(|row| vec![1, row + 2]).collect();
            for pass in passes(&rows, Device::Cpu, 1).unwrap() {
                let tokens = pass.inputs[0].size()[1] as usize;
                let ends = Vec::<Vec<i64>>::try_from(&pass.inputs[1]).unwrap();
                // One beginning and an end for each prompt; what follows ends with itself.
                let padding = pass.rows.len() + 1..tokens;
                assert!(padding.clone().all(|place| ends[0][place] == place as i64 + 1));
                assert!(ends[0][..padding.start].iter().all(|end| *end <= padding.start as i64));
                sizes.extend([tokens, pass.inputs[2].size()[1] as usize]);
            }
        }
        assert!(sizes.iter().all(|size| SIZES.contains(size)), "{sizes:?}");
        let on_gpu = passes(&rows(&[&[1, 2, 3]]), Device::Cuda(0), 1).unwrap();
        assert_eq!(on_gpu[0].inputs[0].size(), [1, 3]);
    }

    #[test]
    fn no_rows_are_no_tries() {
        assert!(tries(&[], 100).is_empty());
    }
}
