//! The text tower: a causal transformer from token ids to unit embeddings.

use clip::checkpoint::config::Config;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::float;
use crate::towers::matmul::Matmul;
use crate::towers::transformer::{Attention, LayerNorm, Linear, Transformer, embed};
use crate::weights::Weights;

/// `CLIPTextTransformer` and the text projection.
///
/// It takes prompts as a trie (`trie.rs`), which end with the pooled token: under a
/// causal mask nothing after it can change it.
#[derive(Debug)]
pub(crate) struct TextTower {
    tokens: Tensor,
    positions: Tensor,
    transformer: Transformer,
    norm_after: LayerNorm,
    projection: Linear,
}

impl TextTower {
    /// Reads `text_model.*` and `text_projection`.
    pub(crate) fn load(weights: &mut Weights, config: &Config, matmul: Matmul) -> Result<Self> {
        let text = &config.text;
        let width = text.transformer.width;
        let name = "text_model.embeddings";
        Ok(Self {
            tokens: weights
                .tensor(&format!("{name}.token_embedding.weight"), &[text.vocab_size, width])?,
            positions: weights.tensor(
                &format!("{name}.position_embedding.weight"),
                &[text.max_positions, width],
            )?,
            transformer: Transformer::load(weights, "text_model", &text.transformer, matmul)?,
            norm_after: LayerNorm::load(weights, "text_model.final_layer_norm", &text.transformer)?,
            projection: Linear::without_bias(
                &weights.tensor("text_projection.weight", &[config.projection_dim, width])?,
                matmul,
            )?,
        })
    }

    /// The tensors of a trie, ids and ends `[n, tokens]` and pooled places `[n, prompts]`, to unit
    /// embeddings `[n, prompts, projection_dim]`.
    pub(crate) fn forward(&self, [ids, ends, pooled]: [&Tensor; 3]) -> Result<Tensor> {
        // 0, 1, 2, … as a sum of ones: a length read here would be fixed in the trace.
        let places = ids.f_ones_like()?.f_cumsum(1, Kind::Int64)?.f_sub_scalar(1)?;
        let seen = sees(&places, &places, ends)?;
        // A token's position in its prompt: how many it sees before itself.
        let positions = seen.f_sum_dim_intlist([2].as_slice(), false, Kind::Int64)?;
        let positions = lookup(&self.positions, &positions.f_sub_scalar(1)?)?;
        let hidden = lookup(&self.tokens, ids)?.f_add_(&positions)?;
        let attention = Attention::Masked {
            mask: mask(&seen)?,
            pooled: pooled.shallow_clone(),
            pooled_mask: mask(&sees(pooled, &places, ends)?)?,
        };
        let pooled = self.norm_after.forward(&self.transformer.forward(hidden, &attention)?)?;
        embed(&pooled, &self.projection)
    }
}

/// Whether queries at `[n, queries]` see places `[n, tokens]`, which are followed up to `ends`:
/// `[n, queries, tokens]`.
fn sees(queries: &Tensor, places: &Tensor, ends: &Tensor) -> Result<Tensor> {
    let queries = queries.f_unsqueeze(2)?;
    let begun = queries.f_ge_tensor(&places.f_unsqueeze(1)?)?;
    Ok(begun.f_logical_and(&queries.f_lt_tensor(&ends.f_unsqueeze(1)?)?)?)
}

/// What is added to the scores of all heads alike: 0 where a place is seen, and minus infinity.
fn mask(seen: &Tensor) -> Result<Tensor> {
    Ok(float(&seen.f_unsqueeze(1)?)?.f_log()?)
}

fn lookup(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(table, indices, -1, false, false)?)
}
