//! The layers that towers are built from.

use clip::checkpoint::config::{Activation, TransformerConfig};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::float;
use crate::towers::matmul::Matmul;
use crate::weights::Weights;

/// Factor inside quick_gelu's sigmoid.
const QUICK_GELU: f64 = 1.702;

/// `x W^T + b`, with a weight of the checkpoint's shape, `[out, in]`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        shape: [i64; 2],
        matmul: Matmul,
    ) -> Result<Self> {
        let weight = weights.tensor(&format!("{name}.weight"), &shape)?;
        let bias = weights.tensor(&format!("{name}.bias"), &shape[..1])?;
        Self::new(&weight, Some(bias), matmul)
    }

    pub(crate) fn without_bias(weight: &Tensor, matmul: Matmul) -> Result<Self> {
        Self::new(weight, None, matmul)
    }

    pub(crate) fn new(weight: &Tensor, bias: Option<Tensor>, matmul: Matmul) -> Result<Self> {
        Ok(Self { weight: matmul.arrange(weight)?, bias })
    }

    /// Several layers of one input as a single product, outputs one after the other.
    pub(crate) fn fused(layers: &[Self], matmul: Matmul) -> Result<Self> {
        let weights: Vec<_> = layers.iter().map(|layer| &layer.weight).collect();
        let biases: Vec<_> = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect();
        Self::new(&Tensor::f_cat(&weights, 0)?, Some(Tensor::f_cat(&biases, 0)?), matmul)
    }

    /// Some rows of the output.
    pub(crate) fn rows(&self, start: i64, length: i64) -> Result<Self> {
        Ok(Self {
            weight: self.weight.f_narrow(0, start, length)?,
            bias: self.bias.as_ref().map(|bias| bias.f_narrow(0, start, length)).transpose()?,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }

    /// The linear part alone: `x W^T`.
    pub(crate) fn forward_without_bias(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, None::<&Tensor>)?)
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
    pub(crate) fn load(weights: &Weights, name: &str, config: &TransformerConfig) -> Result<Self> {
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

    /// What summands of `at` add to its normalisation, the deviation of `at` held fixed: linear in
    /// `x`. Of all summands together it is `forward(at)` without the bias.
    pub(crate) fn forward_part(&self, x: &Tensor, at: &Tensor) -> Result<Tensor> {
        let deviation = at.f_var_dim(-1, false, true)?.f_add_scalar(self.eps)?.f_sqrt()?;
        let centred = x.f_sub(&x.f_mean_dim(-1, true, None::<Kind>)?)?;
        Ok(centred.f_mul(&self.weight)?.f_div(&deviation)?)
    }
}

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
        weights: &Weights,
        name: &str,
        config: &TransformerConfig,
        matmul: Matmul,
    ) -> Result<Self> {
        let (width, inner_width) = (config.width, config.mlp_width);
        let mut inner =
            Linear::load(weights, &format!("{name}.fc1"), [inner_width, width], matmul)?;
        let mut outer =
            Linear::load(weights, &format!("{name}.fc2"), [width, inner_width], matmul)?;
        if config.activation == Activation::QuickGelu {
            inner.weight = inner.weight.f_mul_scalar(QUICK_GELU)?;
            inner.bias = inner.bias.map(|bias| bias.f_mul_scalar(QUICK_GELU)).transpose()?;
            outer.weight = outer.weight.f_div_scalar(QUICK_GELU)?;
        }
        Ok(Self { inner, outer, activation: config.activation })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut inner = self.inner.forward(x)?;
        let inner = match self.activation {
            Activation::QuickGelu => inner.f_silu_()?,
            Activation::Gelu => inner.f_gelu_("none")?,
            Activation::GeluTanh => inner.f_gelu_("tanh")?,
        };
        self.outer.forward(&inner)
    }
}

/// Scales embeddings to length 1, in f32.
pub(crate) fn unit(embedding: &Tensor) -> Result<Tensor> {
    let embedding = float(embedding)?;
    let length = embedding.f_norm_scalaropt_dim(2, [-1], true)?;
    Ok(embedding.f_div(&length)?)
}
