//! The head of SigLIP's image tower: a trained query that attends to all patches.

use clip::checkpoint::transformer::TransformerConfig;
use tch::Tensor;

use crate::error::Result;
use crate::towers::feed_forward::FeedForward;
use crate::towers::layers::{LayerNorm, Linear};
use crate::towers::loader::Loader;
use crate::towers::transformer::{Values, attend_alone};

/// `SiglipMultiheadAttentionPoolingHead`. The query is the same for every picture, so that it and the
/// keys' weights are one small matrix.
#[derive(Debug)]
pub(crate) struct Probe {
    /// `[heads, width]`.
    query: Tensor,
    values: Values,
    out: Linear,
    norm: LayerNorm,
    mlp: FeedForward,
}

impl Probe {
    /// Reads `vision_model.head.*`.
    pub(crate) fn load(loader: &Loader<'_>, config: &TransformerConfig) -> Result<Self> {
        let (name, width) = ("vision_model.head", config.width);
        let probe = loader.read(&format!("{name}.probe"), &[1, 1, width])?;
        let part = |part: &str| loader.dense(&format!("{name}.attention.{part}"), [width; 2]);
        let (query, key) = (part("q_proj")?, part("k_proj")?);
        let query = probe.f_linear(&query.weight, query.bias.as_ref())?;
        Ok(Self {
            query: loader.keep(folded(&query, &key.weight, config)?)?,
            values: Values::keep(loader, part("v_proj")?, config.heads)?,
            out: loader.linear(&format!("{name}.attention.out_proj"), [width; 2])?,
            norm: loader.norm(&format!("{name}.layernorm"), width, config.layer_norm_eps)?,
            mlp: FeedForward::load(loader, &format!("{name}.mlp"), config)?,
        })
    }

    /// Patches `[n, patches, width]` to `[n, width]`.
    pub(crate) fn forward(&self, patches: &Tensor) -> Result<Tensor> {
        let attended = attend_alone(&self.query, patches, &self.values)?;
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
