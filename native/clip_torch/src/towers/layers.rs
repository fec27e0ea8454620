//! The layers that towers are built from.

use clip::checkpoint::transformer::Activation;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::float;
use crate::towers::matmul::{self, Weight};

/// A layer as the checkpoint has it: a weight `[out, in]` and perhaps a bias, in f32 on the CPU.
#[derive(Debug)]
pub(crate) struct Dense {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// In the type that the tower computes in.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        matmul::linear(x, &self.weight, self.bias.as_ref(), None, false)
    }

    /// In the type of the weights, for what multiplies next.
    pub(crate) fn forward_narrow(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
    ) -> Result<Tensor> {
        matmul::linear(x, &self.weight, self.bias.as_ref(), activation, true)
    }

    /// The linear part alone: `x W^T`.
    pub(crate) fn forward_without_bias(&self, x: &Tensor) -> Result<Tensor> {
        matmul::linear(x, &self.weight, None, None, false)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) width: i64,
    pub(crate) eps: f64,
}

impl LayerNorm {
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

/// Scales embeddings to length 1, in f32.
pub(crate) fn unit(embedding: &Tensor) -> Result<Tensor> {
    let embedding = float(embedding)?;
    let length = embedding.f_norm_scalaropt_dim(2, [-1], true)?;
    Ok(embedding.f_div(&length)?)
}
