//! The transformer that both towers are built from.
//!
//! The arithmetic is that of transformers' `CLIPEncoder` and `SiglipEncoder`, arranged for speed without
//! changing the result beyond rounding (largest difference of an embedding's component: 2e-7):
//!
//! - queries, keys and values in one matrix product;
//! - the last block computes only the positions that are pooled;
//! - weights lie in memory as suits who multiplies them, see `matmul.rs`.
//!
//! Everything here is traced to TorchScript, so sizes of the batch and the sequence must never be
//! read: a number read while tracing becomes a constant of the graph.

use clip::checkpoint::transformer::TransformerConfig;
use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};
use crate::towers::feed_forward::FeedForward;
use crate::towers::layers::{Dense, LayerNorm, Linear};
use crate::towers::loader::Loader;

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

/// Of which positions the last block is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    /// Some that are pooled.
    Pooled,
    /// One, which sees all others.
    One,
}

/// A stack of pre-norm blocks.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub(super) blocks: Vec<Block>,
}

impl Transformer {
    /// Reads `{tower}.encoder.layers.*`.
    pub(crate) fn load(
        loader: &Loader<'_>,
        tower: &str,
        config: &TransformerConfig,
        wanted: Wanted,
    ) -> Result<Self> {
        let block = |loader: &Loader<'_>, i: i64| {
            let wanted = if i + 1 == config.layers { wanted } else { Wanted::All };
            let name = format!("{tower}.encoder.layers.{i}");
            let load = |loader: &Loader<'_>| Block::load(loader, &name, config, wanted);
            // The first block's rounding goes through all others.
            if i == 0 { loader.finely(load) } else { load(loader) }
        };
        Ok(Self { blocks: loader.each(config.layers, block)? })
    }

    /// Hidden states `[n, positions, width]` to the pooled positions' `[n, pooled, width]`.
    pub(crate) fn forward(&self, hidden: Tensor, attention: &Attention) -> Result<Tensor> {
        let Some((last, before)) = self.blocks.split_last() else {
            return attention.pool(&hidden);
        };
        let (mask, pooled_mask) = attention.masks();
        let mut hidden = hidden;
        for block in before {
            hidden = block.forward(&hidden, &hidden, mask)?;
        }
        last.forward(&hidden, &attention.pool(&hidden)?, pooled_mask)
    }
}

/// Attention and feed-forward, each behind a layer normalisation and a residual connection.
#[derive(Debug)]
pub(super) struct Block {
    norm_attention: LayerNorm,
    projections: Projections,
    pub(super) attention_out: Linear,
    norm_mlp: LayerNorm,
    mlp: FeedForward,
    heads: i64,
    width: i64,
}

/// Queries, keys and values of a block.
#[derive(Debug)]
enum Projections {
    /// Of all positions, in one product.
    Together(Linear),
    /// Queries of the pooled positions, and keys and values of all.
    Apart { query: Linear, key_value: Linear },
    /// The query of one position, and neither keys nor values, see [`attend_alone`].
    Alone { query: Linear, keys: Tensor, values: Values },
}

impl Projections {
    fn load(
        loader: &Loader<'_>,
        name: &str,
        config: &TransformerConfig,
        wanted: Wanted,
    ) -> Result<Self> {
        let (width, heads) = (config.width, config.heads);
        let read = |part: &str| loader.dense(&format!("{name}.self_attn.{part}"), [width; 2]);
        let (query, key, value) = (read("q_proj")?, read("k_proj")?, read("v_proj")?);
        let scale = ((width / heads) as f64).powf(-0.5);
        Ok(match wanted {
            Wanted::All => Self::Together(loader.keep_fused([query, key, value])?),
            Wanted::Pooled => Self::Apart {
                query: loader.keep_linear(query)?,
                key_value: loader.keep_fused([key, value])?,
            },
            Wanted::One => Self::Alone {
                query: loader.keep_linear(query)?,
                keys: loader.keep(key.weight.f_unflatten(0, [heads, -1])?.f_mul_scalar(scale)?)?,
                values: Values::keep(loader, value, heads)?,
            },
        })
    }
}

impl Block {
    fn load(
        loader: &Loader<'_>,
        name: &str,
        config: &TransformerConfig,
        wanted: Wanted,
    ) -> Result<Self> {
        let (width, eps) = (config.width, config.layer_norm_eps);
        let norm = |part: &str| loader.norm(&format!("{name}.{part}"), width, eps);
        Ok(Self {
            projections: Projections::load(loader, name, config, wanted)?,
            norm_attention: norm("layer_norm1")?,
            attention_out: loader.linear(&format!("{name}.self_attn.out_proj"), [width; 2])?,
            norm_mlp: norm("layer_norm2")?,
            mlp: FeedForward::load(loader, &format!("{name}.mlp"), config)?,
            heads: config.heads,
            width,
        })
    }

    /// All positions `[n, positions, width]` and those that are wanted `[n, wanted, width]`, to
    /// `[n, wanted, width]`.
    fn forward(&self, hidden: &Tensor, wanted: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let attended = match &self.projections {
            Projections::Alone { query, keys, values } => {
                let query = query.forward(&self.norm_attention.forward(wanted)?)?;
                // `[heads, n, width / heads]` and the keys' `[heads, width / heads, width]`.
                let query = query.f_squeeze_dim(1)?.f_unflatten(1, [self.heads, -1])?;
                let query = query.f_transpose(0, 1)?.f_bmm(keys)?.f_transpose(0, 1)?;
                let normed = self.norm_attention.forward(hidden)?;
                attend_alone(&query, &normed, values)?.f_unsqueeze(1)?
            }
            Projections::Together(_) | Projections::Apart { .. } => {
                let [query, key, value] = self.query_key_value(hidden, wanted)?;
                attend(&query, &key, &value, mask)?
            }
        };
        self.finish(wanted, &attended)
    }

    /// Queries of the wanted positions, and keys and values of all:
    /// `[n, heads, positions, width / heads]` each.
    pub(super) fn query_key_value(&self, hidden: &Tensor, wanted: &Tensor) -> Result<[Tensor; 3]> {
        let normed = self.norm_attention.forward(hidden)?;
        match &self.projections {
            Projections::Together(together) => {
                let parts = self.split_heads(&together.forward(&normed)?, 3)?;
                Ok([parts.f_select(0, 0)?, parts.f_select(0, 1)?, parts.f_select(0, 2)?])
            }
            Projections::Apart { query, key_value } => {
                let parts = self.split_heads(&key_value.forward(&normed)?, 2)?;
                let query = query.forward(&self.norm_attention.forward(wanted)?)?;
                let query = self.split_heads(&query, 1)?.f_select(0, 0)?;
                Ok([query, parts.f_select(0, 0)?, parts.f_select(0, 1)?])
            }
            Projections::Alone { .. } => {
                Err(Error::new(ErrorKind::Internal, "a lone query has no keys and values"))
            }
        }
    }

    /// Everything of a block after the attention.
    pub(super) fn finish(&self, hidden: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let hidden = self.attention_out.forward(attended)?.f_add_(hidden)?;
        let normed = self.norm_mlp.forward(&hidden)?;
        Ok(self.mlp.forward(&normed)?.f_add_(&hidden)?)
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
}

/// Scaled dot-product attention, heads apart, to `[n, positions, width]`.
pub(super) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let mask = mask.map(|mask| mask.f_type_as(query)).transpose()?;
    let (dropout, causal, scale, grouped) = (0.0, false, None, false);
    let attended = Tensor::f_scaled_dot_product_attention(
        query,
        key,
        value,
        mask.as_ref(),
        dropout,
        causal,
        scale,
        grouped,
    )?;
    Ok(attended.f_transpose(1, 2)?.f_flatten(2, 3)?)
}

/// The values' layer, for one query that attends to all.
#[derive(Debug)]
pub(crate) struct Values {
    /// `[heads, width, width / heads]`.
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Values {
    pub(crate) fn keep(loader: &Loader<'_>, values: Dense, heads: i64) -> Result<Self> {
        let weight = values.weight.f_unflatten(0, [heads, -1])?.f_transpose(1, 2)?;
        let weight = loader.keep(weight.f_contiguous()?)?;
        let bias = values.bias.map(|bias| loader.keep(bias)).transpose()?;
        Ok(Self { weight, bias })
    }
}

/// Attention of one query a head, `[n, heads, width]` with the keys' weights and the scale in it, to
/// all of `x` `[n, positions, width]`: `[n, width]`, heads side by side.
///
/// With `K = x W_k + b_k`, the scores `q K` are `(q W_k) x` and a constant, which cancels out in the
/// softmax. And a mean of values is the value of a mean, as weights sum to 1. So two products with
/// `[width, width]` take the place of two a position.
pub(crate) fn attend_alone(query: &Tensor, x: &Tensor, values: &Values) -> Result<Tensor> {
    let scores = query.f_matmul(&x.f_transpose(1, 2)?)?;
    let scores = scores.f_softmax(-1, Kind::Float)?.f_type_as(x)?;
    // `[heads, n, width]`.
    let means = scores.f_matmul(x)?.f_transpose(0, 1)?;
    let attended = means.f_bmm(&values.weight)?.f_transpose(0, 1)?.f_flatten(1, 2)?;
    match &values.bias {
        Some(bias) => Ok(attended.f_add(bias)?),
        None => Ok(attended),
    }
}
