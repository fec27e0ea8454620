//! The text tower: a causal transformer from token ids to unit embeddings.

use tch::{Kind, Tensor};

use crate::config::Config;
use crate::error::Result;
use crate::transformer::{Attention, LayerNorm, Linear, Transformer, embed};
use crate::weights::Weights;

/// `CLIPTextTransformer` and the text projection.
///
/// Rows end with the pooled token: under a causal mask nothing after it can change it, so the
/// caller cuts rows there and batches rows of one length, and nothing is padded.
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
    pub(crate) fn load(weights: &mut Weights, config: &Config) -> Result<Self> {
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
            transformer: Transformer::load(
                weights,
                "text_model",
                &text.transformer,
                Attention::CausalPoolLast,
            )?,
            norm_after: LayerNorm::load(weights, "text_model.final_layer_norm", &text.transformer)?,
            projection: Linear::without_bias(
                weights.tensor("text_projection.weight", &[config.projection_dim, width])?,
            ),
        })
    }

    /// Token ids `[n, length]` to unit embeddings `[n, projection_dim]`.
    pub(crate) fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        // Positions 0, 1, 2, … as a sum of ones: a length read here would be fixed in the trace.
        let positions = ids.f_ones_like()?.f_cumsum(1, Kind::Int64)?.f_sub_scalar(1)?;
        let hidden = lookup(&self.tokens, ids)?.f_add_(&lookup(&self.positions, &positions)?)?;
        let pooled = self.norm_after.forward(&self.transformer.forward(hidden)?)?;
        embed(&pooled, &self.projection)
    }
}

fn lookup(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(table, indices, -1, false, false)?)
}
