//! Which part of a picture speaks for a label: from the parts of an embedding to numbers and pictures.
//!
//! The image tower of `clip_torch` gives the parts of a picture's embedding, one for each patch and one
//! for the rest. They sum to the embedding, so their products with a label's embedding sum to the cosine.
//! [`accounts`] makes the maps, [`Preprocessing::window`](crate::Preprocessing::window) says where a map
//! lies in the picture, and [`Drawing`] lays it over the picture.

mod account;
mod ansi;
mod colour;
mod draw;
mod glyphs;
mod legend;
mod view;

pub use account::{Account, accounts, explain};
pub use ansi::Colours;
pub use draw::{Drawing, Layer};
pub use view::View;
