//! What the numbers of a picture are, as a term.

use clip::image::{NumberType, Numbers, Scale};
use rustler::{NifMap, NifUnitEnum};

#[derive(NifMap)]
pub(crate) struct Layout {
    number: NumberTerm,
    scale: ScaleTerm,
    shape: (u32, u32, u32),
    strides: (u64, u64, u64),
    inks: bool,
}

impl Layout {
    pub(crate) fn numbers<'a>(&self, data: &'a [u8]) -> Numbers<'a> {
        Numbers {
            data,
            number: self.number.into(),
            scale: match self.scale {
                ScaleTerm::Told => Scale::Told,
                ScaleTerm::Bytes => Scale::Bytes,
            },
            shape: self.shape.into(),
            strides: self.strides.into(),
            inks: self.inks,
        }
    }
}

#[derive(NifUnitEnum)]
enum ScaleTerm {
    Told,
    Bytes,
}

macro_rules! number_terms {
    ($($name:ident),+) => {
        #[derive(Clone, Copy, NifUnitEnum)]
        enum NumberTerm { $($name),+ }

        impl From<NumberTerm> for NumberType {
            fn from(term: NumberTerm) -> Self {
                match term { $(NumberTerm::$name => Self::$name),+ }
            }
        }
    };
}

number_terms!(U8, U16, U32, U64, S8, S16, S32, S64, F16, Bf16, F32, F64);
