//! Which patches an embedding comes from: parts that sum to it.
//!
//! The decomposition of the class token after Gandelsman, Efros and Steinhardt, "Interpreting CLIP's
//! Image Representation via Text-Based Decomposition" (ICLR 2024). The last state of the class token is
//! a sum: of what it began with, and of what every block's attention and MLP added. What an attention
//! added is again a sum, over the tokens that the class token looked at. Of the last layer
//! normalisation, this picture's mean and deviation are held fixed, which makes it linear, as the
//! projection is. So every token has a part of the embedding, and the rest is what no patch added: MLPs,
//! biases, the class token's own values.
//!
//! These are direct effects only: what a patch tells another one, which then tells the class token,
//! counts for the other one.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::float;
use crate::towers::layers::unit;
use crate::towers::transformer::{Block, attend};
use crate::towers::vision::VisionTower;

impl VisionTower {
    /// u8 pixels `[n, 3, image_size, image_size]` to the parts of unit embeddings,
    /// `[n, 1 + patches, projection_dim]`: first the rest, then the patches row by row. The parts of a
    /// picture sum to its embedding.
    ///
    /// For towers with a class token. A pooling head's MLP is not linear.
    pub(crate) fn parts(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut hidden = self.first_hidden(pixels)?;
        let mut added: Option<Tensor> = None;
        for (i, block) in self.transformer.blocks.iter().enumerate() {
            let is_last = i + 1 == self.transformer.blocks.len();
            let (next, by_token) = block.forward_parts(&hidden, is_last)?;
            hidden = next;
            added = Some(match added {
                Some(sum) => sum.f_add(&by_token)?,
                None => by_token,
            });
        }
        // A tower without blocks has seen nothing.
        let added = added.map_or_else(|| hidden.f_sub(&hidden), Ok)?;
        let pooled = hidden.f_narrow(1, 0, 1)?;
        let whole = self.projected(&self.norm_after.forward(&pooled)?)?;
        let length = whole.f_norm_scalaropt_dim(2, [-1], true)?;
        let by_token = self.projected(&self.norm_after.forward_part(&added, &pooled)?)?;
        // What the class token took from itself is no patch's.
        let by_patch = by_token.f_slice(1, 1, None::<i64>, 1)?.f_div(&length)?;
        let rest = unit(&whole)?.f_sub(&by_patch.f_sum_dim_intlist(1, true, None::<Kind>)?)?;
        Ok(Tensor::f_cat(&[rest, by_patch], 1)?)
    }

    /// In the common space, and in f32: what follows are small differences.
    fn projected(&self, x: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(projection) => float(&projection.forward_without_bias(x)?),
            None => float(x),
        }
    }
}

impl Block {
    /// States `[n, positions, width]` to the next ones, of the last block only the first position's, and
    /// to what each position added to the first by attention, `[n, positions, width]`.
    fn forward_parts(&self, hidden: &Tensor, is_last: bool) -> Result<(Tensor, Tensor)> {
        let wanted = if is_last { &hidden.f_narrow(1, 0, 1)? } else { hidden };
        let [query, key, value] = self.query_key_value(hidden, wanted)?;
        let by_token = self.by_token(&query.f_narrow(2, 0, 1)?, &key, &value)?;
        let next = self.finish(wanted, &attend(&query, &key, &value, None)?)?;
        Ok((next, by_token))
    }

    /// The sum that [`attend`] makes for one query `[n, heads, 1, size]`, not yet added up, through the
    /// layer behind it.
    fn by_token(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let scale = (self.head_size() as f64).powf(-0.5);
        let scores = query.f_mul_scalar(scale)?.f_matmul(&key.f_transpose(2, 3)?)?;
        let weights = scores.f_softmax(-1, Kind::Float)?.f_type_as(value)?.f_transpose(2, 3)?;
        let values = value.f_mul(&weights)?.f_transpose(1, 2)?.f_flatten(2, 3)?;
        self.attention_out.forward_without_bias(&values)
    }
}
