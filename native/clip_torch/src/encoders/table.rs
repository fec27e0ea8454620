//! The table of token embeddings in the checkpoint's file: a pass brings the rows that it needs.
//!
//! Most rows are never used. In memory, CLIP's table would take 101 MB, a sixth of the model, and SigLIP 2's
//! more than both towers.

use clip::checkpoint::config::TextConfig;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::from_bytes;
use crate::towers::text::TOKENS;
use crate::weights::Weights;

/// The table, in files that are open.
#[derive(Debug)]
pub(crate) struct Table {
    weights: Weights,
    /// Of the table: tokens and width.
    shape: [i64; 2],
}

impl Table {
    /// The table of weights that the towers were loaded from.
    pub(crate) fn new(weights: Weights, config: &TextConfig) -> Result<Self> {
        let table = Self { weights, shape: [config.vocab_size, config.transformer.width] };
        // Whether it is there and of this shape.
        let _ = table.rows(&[])?;
        Ok(table)
    }

    /// The inputs of a pass with the rows that it needs: the ids, which come first, are replaced by
    /// places in those rows, which come last.
    pub(crate) fn with_rows(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let ids = Vec::<i64>::try_from(&inputs[0].f_flatten(0, -1)?)?;
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let place = |id: &i64| distinct.binary_search(id).unwrap_or_default() as i64;
        let places: Vec<u8> = ids.iter().map(place).flat_map(i64::to_ne_bytes).collect();
        let places = from_bytes(&places, &inputs[0].size(), Kind::Int64)?;
        let rest = inputs[1..].iter().map(Tensor::shallow_clone);
        Ok([places].into_iter().chain(rest).chain([self.rows(&distinct)?]).collect())
    }

    /// Rows of token ids, `[ids, width]` in f32.
    fn rows(&self, ids: &[i64]) -> Result<Tensor> {
        self.weights.rows(TOKENS, self.shape, ids)
    }
}
