//! The transformer that both towers are built from.
//!
//! The arithmetic is that of transformers' `CLIPEncoder` and `SiglipEncoder`, arranged for speed without changing the
//! result beyond rounding (largest difference of an embedding's component: 2e-7):
//!
//! - queries, keys and values in one matrix product;
//! - the last block computes only the positions that are pooled;
//! - matrices lie in memory as suits who multiplies them, see [`Matmul`].
//!
//! Everything here is traced to TorchScript, so sizes of the batch and the sequence must never be
//! read: a number read while tracing becomes a constant of the graph.

use clip::checkpoint::config::TransformerConfig;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::towers::layers::{FeedForward, LayerNorm, Linear};
use crate::towers::matmul::Matmul;
use crate::weights::Weights;

/// Which positions attend to which, and which ones are pooled.
#[derive(Debug)]
pub(crate) enum Attention {
    /// Every position to every other; the first one (the class token) is pooled.
    FullPoolFirst,
    /// Every position to every other; the last one is pooled.
    FullPoolLast,
    /// Every position to every other, and all of them are wanted.
    Full,
    /// As masks `[n, 1, queries, positions]` say, which are added to the scores.
    Masked {
        mask: Tensor,
        /// Indices `[n, pooled]`.
        pooled: Tensor,
        /// The pooled positions' rows of `mask`.
        pooled_mask: Tensor,
    },
}

impl Attention {
    fn masks(&self) -> (Option<&Tensor>, Option<&Tensor>) {
        match self {
            Self::FullPoolFirst | Self::FullPoolLast | Self::Full => (None, None),
            Self::Masked { mask, pooled_mask, .. } => (Some(mask), Some(pooled_mask)),
        }
    }

    /// `[n, positions, width]` to `[n, pooled, width]`.
    fn pool(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::FullPoolFirst => hidden.f_narrow(1, 0, 1)?,
            Self::FullPoolLast => hidden.f_narrow(1, -1, 1)?,
            Self::Full => hidden.shallow_clone(),
            Self::Masked { pooled, .. } => hidden.f_take_along_dim(&pooled.f_unsqueeze(2)?, 1)?,
        })
    }
}

/// A stack of pre-norm blocks.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub(super) blocks: Vec<Block>,
}

impl Transformer {
    /// Reads `{tower}.encoder.layers.*`.
    pub(crate) fn load(
        weights: &Weights,
        tower: &str,
        config: &TransformerConfig,
        matmul: Matmul,
    ) -> Result<Self> {
        let blocks = (0..config.layers)
            .map(|i| Block::load(weights, &format!("{tower}.encoder.layers.{i}"), config, matmul))
            .collect::<Result<_>>()?;
        Ok(Self { blocks })
    }

    /// Hidden states `[n, positions, width]` to the pooled positions' `[n, pooled, width]`.
    pub(crate) fn forward(&self, hidden: Tensor, attention: &Attention) -> Result<Tensor> {
        let Some((last, before)) = self.blocks.split_last() else {
            return attention.pool(&hidden);
        };
        let (mask, pooled_mask) = attention.masks();
        let mut hidden = hidden;
        for block in before {
            hidden = block.forward(&hidden, mask)?;
        }
        match attention {
            Attention::Full => last.forward(&hidden, None),
            Attention::FullPoolLast => last.forward_one(&hidden, &attention.pool(&hidden)?),
            _ => last.forward_pooled(&hidden, &attention.pool(&hidden)?, pooled_mask),
        }
    }
}

/// Attention and feed-forward, each behind a layer normalisation and a residual connection.
#[derive(Debug)]
pub(super) struct Block {
    norm_attention: LayerNorm,
    query_key_value: Linear,
    pub(super) attention_out: Linear,
    norm_mlp: LayerNorm,
    mlp: FeedForward,
    heads: i64,
    width: i64,
}

impl Block {
    fn load(
        weights: &Weights,
        name: &str,
        config: &TransformerConfig,
        matmul: Matmul,
    ) -> Result<Self> {
        let width = config.width;
        let linear =
            |part: &str, shape| Linear::load(weights, &format!("{name}.{part}"), shape, matmul);
        let query_key_value = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
            .iter()
            .map(|part| linear(part, [width; 2]))
            .collect::<Result<Vec<_>>>()?;
        let attention_out = linear("self_attn.out_proj", [width; 2])?;
        Ok(Self {
            norm_attention: LayerNorm::load(weights, &format!("{name}.layer_norm1"), config)?,
            query_key_value: Linear::fused(&query_key_value, matmul)?,
            attention_out,
            norm_mlp: LayerNorm::load(weights, &format!("{name}.layer_norm2"), config)?,
            mlp: FeedForward::load(weights, &format!("{name}.mlp"), config, matmul)?,
            heads: config.heads,
            width,
        })
    }

    fn forward(&self, hidden: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let [query, key, value] = self.query_key_value(hidden)?;
        let attended = attend(&query, &key, &value, mask)?;
        self.finish(hidden, &attended)
    }

    /// `[n, positions, width]` to queries, keys and values `[n, heads, positions, width / heads]`.
    pub(super) fn query_key_value(&self, hidden: &Tensor) -> Result<[Tensor; 3]> {
        let normed = self.norm_attention.forward(hidden)?;
        let parts = self.split_heads(&self.query_key_value.forward(&normed)?, 3)?;
        Ok([parts.f_select(0, 0)?, parts.f_select(0, 1)?, parts.f_select(0, 2)?])
    }

    /// The same for the pooled positions alone: `[n, positions, width]` and `[n, pooled, width]` to
    /// `[n, pooled, width]`.
    fn forward_pooled(
        &self,
        hidden: &Tensor,
        pooled: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let normed = self.norm_attention.forward(hidden)?;
        let key_value = self.query_key_value.rows(self.width, 2 * self.width)?.forward(&normed)?;
        let key_value = self.split_heads(&key_value, 2)?;
        let normed = self.norm_attention.forward(pooled)?;
        let query = self.query_key_value.rows(0, self.width)?.forward(&normed)?;
        let query = self.split_heads(&query, 1)?.f_select(0, 0)?;
        let attended =
            attend(&query, &key_value.f_select(0, 0)?, &key_value.f_select(0, 1)?, mask)?;
        self.finish(pooled, &attended)
    }

    /// The same for one position that sees all: `[n, positions, width]` and `[n, 1, width]` to
    /// `[n, 1, width]`. Keys and values of the others are not computed, see [`attend_alone`].
    fn forward_one(&self, hidden: &Tensor, pooled: &Tensor) -> Result<Tensor> {
        let part = |part| self.query_key_value.rows(part * self.width, self.width);
        let query = part(0)?.forward(&self.norm_attention.forward(pooled)?)?;
        let by_head = [self.heads, self.width / self.heads];
        // `[heads, n, width / heads]` and the keys' `[heads, width / heads, width]`.
        let query = query.f_squeeze_dim(1)?.f_unflatten(1, by_head)?.f_transpose(0, 1)?;
        let query = query.f_bmm(&part(1)?.weight.f_unflatten(0, by_head)?)?.f_transpose(0, 1)?;
        let scale = ((self.width / self.heads) as f64).powf(-0.5);
        let normed = self.norm_attention.forward(hidden)?;
        let attended = attend_alone(&query.f_mul_scalar(scale)?, &normed, &part(2)?, self.heads)?;
        self.finish_attended(pooled, &attended.f_unsqueeze(1)?)
    }

    /// Components of a query, a key or a value.
    pub(super) fn head_size(&self) -> i64 {
        self.width / self.heads
    }

    /// `[n, positions, parts * width]` to `[parts, n, heads, positions, width / heads]`.
    fn split_heads(&self, x: &Tensor, parts: i64) -> Result<Tensor> {
        let sizes = [parts, self.heads, self.width / self.heads];
        Ok(x.f_unflatten(-1, sizes)?.f_permute([2, 0, 3, 1, 4])?)
    }

    /// Everything of a block after the attention.
    pub(super) fn finish(&self, hidden: &Tensor, attended: &Tensor) -> Result<Tensor> {
        self.finish_attended(hidden, &attended.f_transpose(1, 2)?.f_flatten(2, 3)?)
    }

    /// The same with the heads side by side.
    fn finish_attended(&self, hidden: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let hidden = self.attention_out.forward(attended)?.f_add_(hidden)?;
        let normed = self.norm_mlp.forward(&hidden)?;
        Ok(self.mlp.forward(&normed)?.f_add_(&hidden)?)
    }
}

/// Scaled dot-product attention, heads apart.
pub(super) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    Ok(Tensor::f_scaled_dot_product_attention(query, key, value, mask, 0.0, false, None, false)?)
}

/// Attention of one query a head, `[n, heads, width]` with the keys' weights and the scale in it, to
/// all of `x` `[n, positions, width]`: `[n, width]`, heads side by side.
///
/// With `K = x W_k + b_k`, the scores `q K` are `(q W_k) x` and a constant, which cancels out in the
/// softmax. And a mean of values is the value of a mean, as weights sum to 1. So two products with
/// `[width, width]` take the place of two a position.
pub(crate) fn attend_alone(
    query: &Tensor,
    x: &Tensor,
    value: &Linear,
    heads: i64,
) -> Result<Tensor> {
    let scores = query.f_matmul(&x.f_transpose(1, 2)?)?.f_softmax(-1, Kind::Float)?;
    // `[heads, n, width]` and the values' `[heads, width, width / heads]`.
    let means = scores.f_matmul(x)?.f_transpose(0, 1)?;
    let weight = value.weight.f_unflatten(0, [heads, -1])?.f_transpose(1, 2)?;
    let values = means.f_bmm(&weight)?.f_transpose(0, 1)?.f_flatten(1, 2)?;
    Ok(match &value.bias {
        Some(bias) => values.f_add(bias)?,
        None => values,
    })
}
