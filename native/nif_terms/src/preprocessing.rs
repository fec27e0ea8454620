//! How pictures are prepared, as a term.

use clip::Preprocessing;
use clip::preprocess::{Filter, Resize};
use rustler::{NifMap, NifTaggedEnum, NifUnitEnum};

/// The part of a model's preprocessing that happens before its encoder: plain data, so that a node
/// without the model can prepare pictures for one that has it.
#[derive(Debug, NifMap)]
pub struct PreprocessingTerm {
    resize: ResizeTerm,
    crop: Option<(u32, u32)>,
    filter: FilterTerm,
}

#[derive(Debug, NifTaggedEnum)]
enum ResizeTerm {
    ShortestEdge(u32),
    Exact(u32, u32),
}

#[derive(Debug, NifUnitEnum)]
enum FilterTerm {
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

impl From<&Preprocessing> for PreprocessingTerm {
    fn from(preprocessing: &Preprocessing) -> Self {
        Self {
            resize: match preprocessing.resize {
                Resize::ShortestEdge(size) => ResizeTerm::ShortestEdge(size),
                Resize::Exact { height, width } => ResizeTerm::Exact(height, width),
            },
            crop: preprocessing.crop,
            filter: match preprocessing.filter {
                Filter::Lanczos => FilterTerm::Lanczos,
                Filter::Bilinear => FilterTerm::Bilinear,
                Filter::Bicubic => FilterTerm::Bicubic,
                Filter::Box => FilterTerm::Box,
                Filter::Hamming => FilterTerm::Hamming,
            },
        }
    }
}

impl From<PreprocessingTerm> for Preprocessing {
    fn from(term: PreprocessingTerm) -> Self {
        // Mean and standard deviation belong to the encoder and stay there.
        let mut preprocessing = Self::clip(0);
        preprocessing.resize = match term.resize {
            ResizeTerm::ShortestEdge(size) => Resize::ShortestEdge(size),
            ResizeTerm::Exact(height, width) => Resize::Exact { height, width },
        };
        preprocessing.crop = term.crop;
        preprocessing.filter = match term.filter {
            FilterTerm::Lanczos => Filter::Lanczos,
            FilterTerm::Bilinear => Filter::Bilinear,
            FilterTerm::Bicubic => Filter::Bicubic,
            FilterTerm::Box => Filter::Box,
            FilterTerm::Hamming => Filter::Hamming,
        };
        preprocessing
    }
}
