//! What both towers are: a transformer.

/// Sizes that both towers have.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    /// Length of a hidden state.
    pub width: i64,
    /// Number of blocks.
    pub layers: i64,
    /// Attention heads of a block.
    pub heads: i64,
    /// Length of the hidden state inside the feed-forward part.
    pub mlp_width: i64,
    /// Activation of the feed-forward part.
    pub activation: Activation,
    /// Epsilon of every layer normalisation.
    pub layer_norm_eps: f64,
}

/// Activation of the feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's and MetaCLIP's checkpoints.
    QuickGelu,
    /// `x * Φ(x)`: LAION's checkpoints.
    Gelu,
    /// The tanh approximation of [`Activation::Gelu`].
    GeluTanh,
}
