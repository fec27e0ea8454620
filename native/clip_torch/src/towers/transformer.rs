//! The transformer that both towers are built from.
//!
//! The arithmetic is that of transformers' `CLIPEncoder`, arranged for speed without changing the
//! result beyond rounding (largest difference of an embedding's component: 2e-7):
//!
//! - queries, keys and values in one matrix product;
//! - quick_gelu, `x * sigmoid(1.702 x)`, as `silu(1.702 x) / 1.702`, the factors folded into the
//!   two matrices around it;
//! - the last block computes the positions that are pooled alone;
//! - matrices lie in memory as suits who multiplies them, see [`Matmul`].
//!
//! Everything here is traced to TorchScript, so sizes of the batch and the sequence must never be
//! read: a number read while tracing becomes a constant of the graph.

use clip::checkpoint::config::{Activation, TransformerConfig};
use tch::Tensor;

use crate::error::Result;
use crate::tensor::float;
use crate::towers::matmul::Matmul;
use crate::weights::Weights;

/// Factor inside quick_gelu's sigmoid.
const QUICK_GELU: f64 = 1.702;

/// `x W^T + b`, with a weight of the checkpoint's shape, `[out, in]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    fn load(weights: &mut Weights, name: &str, shape: [i64; 2], matmul: Matmul) -> Result<Self> {
        let weight = weights.tensor(&format!("{name}.weight"), &shape)?;
        let bias = weights.tensor(&format!("{name}.bias"), &shape[..1])?;
        Self::new(&weight, Some(bias), matmul)
    }

    pub(crate) fn without_bias(weight: &Tensor, matmul: Matmul) -> Result<Self> {
        Self::new(weight, None, matmul)
    }

    fn new(weight: &Tensor, bias: Option<Tensor>, matmul: Matmul) -> Result<Self> {
        Ok(Self { weight: matmul.arrange(weight)?, bias })
    }

    /// Several layers of one input as a single product, outputs one after the other.
    fn fused(layers: &[Self], matmul: Matmul) -> Result<Self> {
        let weights: Vec<_> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Vec<_> = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect();
        Self::new(&Tensor::f_cat(&weights, 0)?, Some(Tensor::f_cat(&biases, 0)?), matmul)
    }

    /// The first or the last rows of the output alone.
    fn rows(&self, start: i64, length: i64) -> Result<Self> {
        Ok(Self {
            weight: self.weight.f_narrow(0, start, length)?,
            bias: self.bias.as_ref().map(|bias| bias.f_narrow(0, start, length)).transpose()?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn load(
        weights: &mut Weights,
        name: &str,
        config: &TransformerConfig,
    ) -> Result<Self> {
        Ok(Self {
            weight: weights.tensor(&format!("{name}.weight"), &[config.width])?,
            bias: weights.tensor(&format!("{name}.bias"), &[config.width])?,
            width: config.width,
            eps: config.layer_norm_eps,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        Ok(x.f_layer_norm([self.width], weight, bias, self.eps, true)?)
    }
}

/// Which positions attend to which, and which ones are pooled.
#[derive(Debug)]
pub(crate) enum Attention {
    /// Every position to every other; the first one (the class token) is pooled.
    FullPoolFirst,
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
            Self::FullPoolFirst => (None, None),
            Self::Masked { mask, pooled_mask, .. } => (Some(mask), Some(pooled_mask)),
        }
    }

    /// `[n, positions, width]` to `[n, pooled, width]`.
    fn pool(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::FullPoolFirst => hidden.f_narrow(1, 0, 1)?,
            Self::Masked { pooled, .. } => hidden.f_take_along_dim(&pooled.f_unsqueeze(2)?, 1)?,
        })
    }
}

/// A stack of pre-norm blocks.
#[derive(Debug)]
pub(crate) struct Transformer {
    blocks: Vec<Block>,
}

impl Transformer {
    /// Reads `{tower}.encoder.layers.*`.
    pub(crate) fn load(
        weights: &mut Weights,
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
        last.forward_pooled(&hidden, &attention.pool(&hidden)?, pooled_mask)
    }
}

/// Attention and feed-forward, each behind a layer normalisation and a residual connection.
#[derive(Debug)]
struct Block {
    norm_attention: LayerNorm,
    query_key_value: Linear,
    attention_out: Linear,
    norm_mlp: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    activation: Activation,
    heads: i64,
    width: i64,
}

impl Block {
    fn load(
        weights: &mut Weights,
        name: &str,
        config: &TransformerConfig,
        matmul: Matmul,
    ) -> Result<Self> {
        let (width, mlp_width) = (config.width, config.mlp_width);
        let mut linear =
            |part: &str, shape| Linear::load(weights, &format!("{name}.{part}"), shape, matmul);
        let query_key_value = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
            .iter()
            .map(|part| linear(part, [width; 2]))
            .collect::<Result<Vec<_>>>()?;
        let attention_out = linear("self_attn.out_proj", [width; 2])?;
        let mut mlp_in = linear("mlp.fc1", [mlp_width, width])?;
        let mut mlp_out = linear("mlp.fc2", [width, mlp_width])?;
        if config.activation == Activation::QuickGelu {
            mlp_in.weight = mlp_in.weight.f_mul_scalar(QUICK_GELU)?;
            mlp_in.bias = mlp_in.bias.map(|bias| bias.f_mul_scalar(QUICK_GELU)).transpose()?;
            mlp_out.weight = mlp_out.weight.f_div_scalar(QUICK_GELU)?;
        }
        Ok(Self {
            norm_attention: LayerNorm::load(weights, &format!("{name}.layer_norm1"), config)?,
            query_key_value: Linear::fused(&query_key_value, matmul)?,
            attention_out,
            norm_mlp: LayerNorm::load(weights, &format!("{name}.layer_norm2"), config)?,
            mlp_in,
            mlp_out,
            activation: config.activation,
            heads: config.heads,
            width,
        })
    }

    fn forward(&self, hidden: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let normed = self.norm_attention.forward(hidden)?;
        let parts = self.split_heads(&self.query_key_value.forward(&normed)?, 3)?;
        let (query, key, value) =
            (parts.f_select(0, 0)?, parts.f_select(0, 1)?, parts.f_select(0, 2)?);
        let attended = attend(&query, &key, &value, mask)?;
        self.finish(hidden, &attended)
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

    /// `[n, positions, parts * width]` to `[parts, n, heads, positions, width / heads]`.
    fn split_heads(&self, x: &Tensor, parts: i64) -> Result<Tensor> {
        let sizes = [parts, self.heads, self.width / self.heads];
        Ok(x.f_unflatten(-1, sizes)?.f_permute([2, 0, 3, 1, 4])?)
    }

    /// Everything of a block after the attention.
    fn finish(&self, hidden: &Tensor, attended: &Tensor) -> Result<Tensor> {
        let attended = attended.f_transpose(1, 2)?.f_flatten(2, 3)?;
        let hidden = self.attention_out.forward(&attended)?.f_add_(hidden)?;
        let normed = self.norm_mlp.forward(&hidden)?;
        let inner = self.activate(self.mlp_in.forward(&normed)?)?;
        Ok(self.mlp_out.forward(&inner)?.f_add_(&hidden)?)
    }

    fn activate(&self, mut x: Tensor) -> Result<Tensor> {
        Ok(match self.activation {
            Activation::QuickGelu => x.f_silu_()?,
            Activation::Gelu => x.f_gelu_("none")?,
            Activation::GeluTanh => x.f_gelu_("tanh")?,
        })
    }
}

/// Scaled dot-product attention, heads apart.
fn attend(query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    Ok(Tensor::f_scaled_dot_product_attention(query, key, value, mask, 0.0, false, None, false)?)
}

/// Projects pooled states into the common space and scales them to length 1, in f32.
pub(crate) fn embed(pooled: &Tensor, projection: &Linear) -> Result<Tensor> {
    let embedding = float(&projection.forward(pooled)?)?;
    let length = embedding.f_norm_scalaropt_dim(2, [-1], true)?;
    Ok(embedding.f_div(&length)?)
}
