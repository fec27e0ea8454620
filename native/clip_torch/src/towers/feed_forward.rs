//! The part of a transformer block that works on each token by itself.

use clip::checkpoint::transformer::{Activation, TransformerConfig};
use tch::Tensor;

use crate::error::Result;
use crate::towers::layers::Linear;
use crate::towers::loader::Loader;

/// Factor inside quick_gelu's sigmoid.
const QUICK_GELU: f64 = 1.702;

/// Two layers with an activation in between.
///
/// quick_gelu, `x * sigmoid(1.702 x)`, is `silu(1.702 x) / 1.702`, the factors folded into the two
/// matrices around it.
#[derive(Debug)]
pub(crate) struct FeedForward {
    inner: Linear,
    outer: Linear,
    activation: Activation,
}

impl FeedForward {
    /// Reads `{name}.fc1` and `{name}.fc2`.
    pub(crate) fn load(
        loader: &Loader<'_>,
        name: &str,
        config: &TransformerConfig,
    ) -> Result<Self> {
        let (width, inner_width) = (config.width, config.mlp_width);
        let mut inner = loader.dense(&format!("{name}.fc1"), [inner_width, width])?;
        if config.activation == Activation::QuickGelu {
            inner.weight = inner.weight.f_mul_scalar_(QUICK_GELU)?;
            inner.bias = inner.bias.map(|bias| bias.f_mul_scalar(QUICK_GELU)).transpose()?;
        }
        let inner = loader.keep_linear(inner)?;
        let mut outer = loader.dense(&format!("{name}.fc2"), [width, inner_width])?;
        if config.activation == Activation::QuickGelu {
            outer.weight = outer.weight.f_div_scalar_(QUICK_GELU)?;
        }
        Ok(Self { inner, outer: loader.keep_linear(outer)?, activation: config.activation })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.outer.forward(&self.inner.forward_narrow(x, Some(self.activation))?)
    }
}
