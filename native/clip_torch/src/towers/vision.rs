//! The image tower: a vision transformer from u8 pixels to unit embeddings.

use clip::checkpoint::config::Config;
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::preprocess::Preprocessing;
use crate::tensor::float;
use crate::towers::matmul::Matmul;
use crate::towers::transformer::{Attention, LayerNorm, Linear, Transformer, embed};
use crate::weights::Weights;

/// `CLIPVisionTransformer` and the visual projection, normalisation of the pixels included.
#[derive(Debug)]
pub(crate) struct VisionTower {
    /// Mean of the pixels in 0..255, shape `[3, 1, 1]`.
    mean: Tensor,
    /// Standard deviation of the pixels in 0..255, shape `[3, 1, 1]`.
    std: Tensor,
    /// The patch convolution as a matrix: its stride is its size, so patches do not overlap.
    patch_embedding: Linear,
    /// Position table with the class embedding added to its first row.
    positions: Tensor,
    norm_before: LayerNorm,
    transformer: Transformer,
    norm_after: LayerNorm,
    projection: Linear,
    /// Patches along a side, and a patch's side in pixels.
    grid: [i64; 2],
    /// Whether the picture is larger than its patches.
    is_cut: bool,
}

impl VisionTower {
    /// Reads `vision_model.*` and `visual_projection`.
    pub(crate) fn load(
        weights: &mut Weights,
        config: &Config,
        preprocessing: &Preprocessing,
        matmul: Matmul,
    ) -> Result<Self> {
        let vision = &config.vision;
        let (width, patch) = (vision.transformer.width, vision.patch_size);
        let name = "vision_model.embeddings";
        let patch_embedding = weights
            .tensor(&format!("{name}.patch_embedding.weight"), &[width, 3, patch, patch])?
            .f_flatten(1, 3)?;
        let class = weights.tensor(&format!("{name}.class_embedding"), &[width])?;
        let positions = weights
            .tensor(&format!("{name}.position_embedding.weight"), &[vision.patches() + 1, width])?;
        let _ = positions.f_select(0, 0)?.f_add_(&class)?;
        let projection = [config.projection_dim, width];
        Ok(Self {
            mean: channels(preprocessing.mean)?,
            std: channels(preprocessing.std)?,
            patch_embedding: Linear::without_bias(&patch_embedding, matmul)?,
            positions,
            // The name is misspelt in every checkpoint.
            norm_before: LayerNorm::load(
                weights,
                "vision_model.pre_layrnorm",
                &vision.transformer,
            )?,
            transformer: Transformer::load(weights, "vision_model", &vision.transformer, matmul)?,
            norm_after: LayerNorm::load(
                weights,
                "vision_model.post_layernorm",
                &vision.transformer,
            )?,
            projection: Linear::without_bias(
                &weights.tensor("visual_projection.weight", &projection)?,
                matmul,
            )?,
            grid: [vision.grid(), patch],
            is_cut: vision.grid() * patch < vision.image_size,
        })
    }

    /// u8 pixels `[n, 3, image_size, image_size]` to unit embeddings `[n, projection_dim]`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = float(pixels)?.f_sub_(&self.mean)?.f_div_(&self.std)?;
        let patches = self.patch_embedding.forward(&self.patches(&pixels)?)?;
        // A zero row for the class token, which lies in the position table.
        let hidden = patches.f_constant_pad_nd([0, 0, 1, 0])?.f_add_(&self.positions)?;
        let hidden = self.norm_before.forward(&hidden)?;
        let pooled =
            self.transformer.forward(hidden, &Attention::FullPoolFirst)?.f_squeeze_dim(1)?;
        embed(&self.norm_after.forward(&pooled)?, &self.projection)
    }

    /// `[n, 3, h, w]` to `[n, patches, 3 * patch * patch]`, patches row by row.
    fn patches(&self, pixels: &Tensor) -> Result<Tensor> {
        let side = self.grid.iter().product();
        let cut = match self.is_cut {
            true => Some(pixels.f_narrow(3, 0, side)?.f_narrow(2, 0, side)?),
            false => None,
        };
        let pixels = cut.as_ref().unwrap_or(pixels);
        let rows_and_columns = pixels.f_unflatten(3, self.grid)?.f_unflatten(2, self.grid)?;
        let patches = rows_and_columns.f_permute([0, 2, 4, 1, 3, 5])?;
        Ok(patches.f_flatten(3, 5)?.f_flatten(1, 2)?)
    }
}

/// Three values of pixels in 0..1 as a tensor `[3, 1, 1]` of pixels in 0..255.
fn channels(values: [f32; 3]) -> Result<Tensor> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| (value * 255.0).to_ne_bytes()).collect();
    crate::tensor::from_bytes(&bytes, &[3, 1, 1], Kind::Float)
}
