//! The image tower: a vision transformer from u8 pixels to unit embeddings.

use clip::checkpoint::config::Config;
use clip::checkpoint::family::{Heads, ImagePooling};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::preprocess::Preprocessing;
use crate::tensor::float;
use crate::towers::layers::{Dense, LayerNorm, Linear, unit};
use crate::towers::loader::Loader;
use crate::towers::probe::Probe;
use crate::towers::transformer::{Attention, Transformer, Wanted};

/// The image tower of every family, normalisation of the pixels included. What a family does not
/// have is `None`.
#[derive(Debug)]
pub(crate) struct VisionTower {
    /// Mean of the pixels in 0..255, shape `[3, 1, 1]`.
    mean: Tensor,
    /// Standard deviation of the pixels in 0..255, shape `[3, 1, 1]`.
    std: Tensor,
    /// The patch convolution as a matrix: its stride is its size, so patches do not overlap.
    patch_embedding: Linear,
    /// Position table, with the class embedding added to its first row if there is one.
    positions: Tensor,
    norm_before: Option<LayerNorm>,
    pub(super) transformer: Transformer,
    pub(super) norm_after: LayerNorm,
    /// Instead of a class token.
    probe: Option<Probe>,
    pub(super) projection: Option<Linear>,
    /// Patches along a side, and a patch's side in pixels.
    grid: [i64; 2],
    /// Whether the picture is larger than its patches.
    is_cut: bool,
}

impl VisionTower {
    /// Reads `vision_model.*` and `visual_projection`.
    pub(crate) fn load(
        loader: &Loader<'_>,
        config: &Config,
        preprocessing: &Preprocessing,
    ) -> Result<Self> {
        let (family, vision) = (config.family, &config.vision);
        let transformer = &vision.transformer;
        let (width, eps) = (transformer.width, transformer.layer_norm_eps);
        let has_probe = family.vision.pooling == ImagePooling::Probe;
        let wanted = if has_probe { Wanted::All } else { Wanted::Pooled };
        Ok(Self {
            mean: loader.keep_as(channels(preprocessing.mean)?, Kind::Float)?,
            std: loader.keep_as(channels(preprocessing.std)?, Kind::Float)?,
            patch_embedding: patch_embedding(loader, config)?,
            positions: positions(loader, config)?,
            // The name is misspelt in every checkpoint.
            norm_before: (family.vision.norm_before)
                .then(|| loader.norm("vision_model.pre_layrnorm", width, eps))
                .transpose()?,
            transformer: Transformer::load(loader, "vision_model", transformer, wanted)?,
            norm_after: loader.norm("vision_model.post_layernorm", width, eps)?,
            probe: has_probe.then(|| Probe::load(loader, transformer)).transpose()?,
            projection: match family.heads {
                Heads::TextHead => None,
                Heads::Projections => {
                    let shape = [config.projection_dim, width];
                    let weight = loader.read("visual_projection.weight", &shape)?;
                    Some(loader.keep_edge(Dense { weight, bias: None })?)
                }
            },
            grid: [vision.grid(), vision.patch_size],
            is_cut: vision.grid() * vision.patch_size < vision.image_size,
        })
    }

    /// u8 pixels `[n, 3, image_size, image_size]` to unit embeddings `[n, projection_dim]`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let hidden = self.first_hidden(pixels)?;
        let pooled = match &self.probe {
            Some(probe) => {
                let hidden = self.transformer.forward(hidden, &Attention::Full)?;
                probe.forward(&self.norm_after.forward(&hidden)?)?
            }
            None => {
                let pooled = self.transformer.forward(hidden, &Attention::FullPoolFirst)?;
                self.norm_after.forward(&pooled.f_squeeze_dim(1)?)?
            }
        };
        match &self.projection {
            Some(projection) => unit(&projection.forward(&pooled)?),
            None => unit(&pooled),
        }
    }

    /// What goes into the first block, `[n, positions, width]`.
    pub(super) fn first_hidden(&self, pixels: &Tensor) -> Result<Tensor> {
        let pixels = float(pixels)?.f_sub_(&self.mean)?.f_div_(&self.std)?;
        let mut patches = self.patch_embedding.forward(&self.patches(&pixels)?)?;
        if self.probe.is_none() {
            // A zero row for the class token, which lies in the position table.
            patches = patches.f_constant_pad_nd([0, 0, 1, 0])?;
        }
        let hidden = patches.f_add_(&self.positions)?;
        self.norm_before.as_ref().map_or(Ok(hidden.shallow_clone()), |norm| norm.forward(&hidden))
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

fn patch_embedding(loader: &Loader<'_>, config: &Config) -> Result<Linear> {
    let (name, vision) = ("vision_model.embeddings.patch_embedding", &config.vision);
    let (width, patch) = (vision.transformer.width, vision.patch_size);
    let weight = loader.read(&format!("{name}.weight"), &[width, 3, patch, patch])?;
    let bias = (config.family.vision.patch_bias)
        .then(|| loader.read(&format!("{name}.bias"), &[width]))
        .transpose()?;
    loader.keep_edge(Dense { weight: weight.f_flatten(1, 3)?, bias })
}

fn positions(loader: &Loader<'_>, config: &Config) -> Result<Tensor> {
    let (name, vision) = ("vision_model.embeddings", &config.vision);
    let width = vision.transformer.width;
    let has_class = config.family.vision.pooling == ImagePooling::ClassToken;
    let shape = [vision.patches() + i64::from(has_class), width];
    let positions = loader.read(&format!("{name}.position_embedding.weight"), &shape)?;
    if has_class {
        let class = loader.read(&format!("{name}.class_embedding"), &[width])?;
        let _ = positions.f_select(0, 0)?.f_add_(&class)?;
    }
    loader.keep(positions)
}

/// Three values of pixels in 0..1 as a tensor `[3, 1, 1]` of pixels in 0..255.
fn channels(values: [f32; 3]) -> Result<Tensor> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| (value * 255.0).to_ne_bytes()).collect();
    crate::tensor::from_bytes(&bytes, &[3, 1, 1], Kind::Float)
}
