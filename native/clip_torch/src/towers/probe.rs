//! The head of SigLIP's image tower: a trained query that attends to all patches.

use clip::checkpoint::config::TransformerConfig;
use tch::Tensor;

use crate::error::Result;
use crate::towers::layers::{FeedForward, LayerNorm, Linear};
use crate::towers::matmul::Matmul;
use crate::towers::transformer::attend_alone;
use crate::weights::Weights;

/// `SiglipMultiheadAttentionPoolingHead`. The query is the same for every picture, so that it and the
/// keys' weights are one small matrix.
#[derive(Debug)]
pub(crate) struct Probe {
    /// `[heads, width]`.
    query: Tensor,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
    mlp: FeedForward,
    heads: i64,
}

impl Probe {
    /// Reads `vision_model.head.*`.
    pub(crate) fn load(
        weights: &Weights,
        config: &TransformerConfig,
        matmul: Matmul,
    ) -> Result<Self> {
        let (name, width) = ("vision_model.head", config.width);
        let probe = weights.tensor(&format!("{name}.probe"), &[1, 1, width])?;
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.attention.{part}");
            let weight = weights.tensor(&format!("{name}.weight"), &[width; 2])?;
            Ok((weight, weights.tensor(&format!("{name}.bias"), &[width])?))
        };
        let (query, query_bias) = part("q_proj")?;
        let ((key, _), (value, value_bias)) = (part("k_proj")?, part("v_proj")?);
        Ok(Self {
            query: folded(&probe.f_linear(&query, Some(&query_bias))?, &key, config)?,
            value: Linear::new(&value, Some(value_bias), matmul)?,
            out: Linear::load(weights, &format!("{name}.attention.out_proj"), [width; 2], matmul)?,
            norm: LayerNorm::load(weights, &format!("{name}.layernorm"), config)?,
            mlp: FeedForward::load(weights, &format!("{name}.mlp"), config, matmul)?,
            heads: config.heads,
        })
    }

    /// Patches `[n, patches, width]` to `[n, width]`.
    pub(crate) fn forward(&self, patches: &Tensor) -> Result<Tensor> {
        let attended = attend_alone(&self.query, patches, &self.value, self.heads)?;
        // The probe itself is not added.
        let attended = self.out.forward(&attended)?;
        Ok(self.mlp.forward(&self.norm.forward(&attended)?)?.f_add_(&attended)?)
    }
}

/// A query `[1, 1, width]` with the keys' weights and the scale in it: `[heads, width]`.
fn folded(query: &Tensor, key: &Tensor, config: &TransformerConfig) -> Result<Tensor> {
    let size = config.width / config.heads;
    let by_head = [config.heads, size];
    let query = query.f_view([config.heads, 1, size])?;
    let folded = query.f_bmm(&key.f_unflatten(0, by_head)?)?.f_squeeze_dim(1)?;
    Ok(folded.f_mul_scalar((size as f64).powf(-0.5))?)
}
