//! The text tower: a transformer from token ids to unit embeddings.

use clip::checkpoint::config::Config;
use clip::checkpoint::family::{Heads, TextAttention};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::float;
use crate::towers::layers::{Dense, LayerNorm, Linear, unit};
use crate::towers::loader::Loader;
use crate::towers::transformer::{Attention, Transformer, Wanted};

/// Name of the table of token embeddings.
pub(crate) const TOKENS: &str = "text_model.embeddings.token_embedding.weight";

/// The text tower of every family, and what leads from it to the common space.
///
/// A causal one takes prompts as a trie (`trie.rs`), which end with the pooled token: under a
/// causal mask nothing after it can change it. Others take rows of one length.
#[derive(Debug)]
pub(crate) struct TextTower {
    attention: TextAttention,
    positions: Tensor,
    transformer: Transformer,
    norm_after: LayerNorm,
    head: Linear,
}

impl TextTower {
    /// Reads `text_model.*` and `text_projection`.
    pub(crate) fn load(loader: &Loader<'_>, config: &Config) -> Result<Self> {
        let text = &config.text;
        let (width, eps) = (text.transformer.width, text.transformer.layer_norm_eps);
        let wanted = match text.family.attention {
            TextAttention::Causal => Wanted::Pooled,
            TextAttention::Full => Wanted::One,
        };
        let positions = "text_model.embeddings.position_embedding.weight";
        Ok(Self {
            attention: text.family.attention,
            positions: loader.keep(loader.read(positions, &[text.max_positions, width])?)?,
            transformer: Transformer::load(loader, "text_model", &text.transformer, wanted)?,
            norm_after: loader.norm("text_model.final_layer_norm", width, eps)?,
            head: head(loader, config)?,
        })
    }

    /// The tensors of a pass to unit embeddings, `[n, prompts, dim]` of a trie and `[n, dim]` of rows.
    /// The rows of its tokens come last, `[tokens, width]` in f32, and its ids are places in them
    /// (`table.rs`).
    pub(crate) fn forward(&self, inputs: &[Tensor]) -> Result<Tensor> {
        // In the type that the tower computes in.
        let rows = &inputs[inputs.len() - 1];
        let hidden = lookup(rows, &inputs[0])?.f_type_as(&self.positions)?;
        let pooled = match self.attention {
            TextAttention::Causal => self.trie(hidden, &inputs[0], &inputs[1], &inputs[2])?,
            TextAttention::Full => {
                let hidden = { hidden }.f_add_(&self.positions)?;
                self.transformer.forward(hidden, &Attention::FullPoolLast)?.f_squeeze_dim(1)?
            }
        };
        unit(&self.head.forward(&self.norm_after.forward(&pooled)?)?)
    }

    /// Ids and ends `[n, tokens]` and pooled places `[n, prompts]`, to the pooled states.
    fn trie(
        &self,
        mut hidden: Tensor,
        ids: &Tensor,
        ends: &Tensor,
        pooled: &Tensor,
    ) -> Result<Tensor> {
        // 0, 1, 2, … as a sum of ones: a length read here would be fixed in the trace.
        let places = ids.f_ones_like()?.f_cumsum(1, Kind::Int64)?.f_sub_scalar(1)?;
        let seen = sees(&places, &places, ends)?;
        // A token's position in its prompt: how many it sees before itself.
        let positions = seen.f_sum_dim_intlist([2].as_slice(), false, Kind::Int64)?;
        let positions = lookup(&self.positions, &positions.f_sub_scalar(1)?)?;
        let attention = Attention::Masked {
            mask: mask(&seen)?,
            pooled: pooled.shallow_clone(),
            pooled_mask: mask(&sees(pooled, &places, ends)?)?,
        };
        self.transformer.forward(hidden.f_add_(&positions)?, &attention)
    }
}

fn head(loader: &Loader<'_>, config: &Config) -> Result<Linear> {
    let shape = [config.projection_dim, config.text.transformer.width];
    match config.family.heads {
        Heads::TextHead => loader.keep_edge(loader.dense("text_model.head", shape)?),
        Heads::Projections => {
            let weight = loader.read("text_projection.weight", &shape)?;
            loader.keep_edge(Dense { weight, bias: None })
        }
    }
}

/// Whether queries at `[n, queries]` see places `[n, tokens]`, which are followed up to `ends`:
/// `[n, queries, tokens]`.
fn sees(queries: &Tensor, places: &Tensor, ends: &Tensor) -> Result<Tensor> {
    let queries = queries.f_unsqueeze(2)?;
    let begun = queries.f_ge_tensor(&places.f_unsqueeze(1)?)?;
    Ok(begun.f_logical_and(&queries.f_lt_tensor(&ends.f_unsqueeze(1)?)?)?)
}

/// What is added to the scores of all heads alike: 0 where a place is seen, and minus infinity.
fn mask(seen: &Tensor) -> Result<Tensor> {
    Ok(float(&seen.f_unsqueeze(1)?)?.f_log()?)
}

fn lookup(table: &Tensor, indices: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_embedding(table, indices, -1, false, false)?)
}
