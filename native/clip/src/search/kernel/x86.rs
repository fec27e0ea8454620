//! AVX2 and AVX-512.
//!
//! Each function checks that the processor has the instructions it uses.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::lines::{F16x16, F32x16, I8x64, U8x64};
use super::{Dot, Instructions, folded, scan};

/// Defines a function that returns `None` if the processor lacks the instructions.
macro_rules! compiled {
    ($name:ident, $least:ident, $feature:literal, $dot:ty, $r:literal, $q:literal) => {
        pub(super) fn $name(
            instructions: Instructions,
            rows: &[<$dot as Dot>::Row],
            queries: &[&[<$dot as Dot>::Query]],
            products: &mut [<$dot as Dot>::Sum],
        ) -> Option<()> {
            #[target_feature(enable = $feature)]
            fn inner(
                rows: &[<$dot as Dot>::Row],
                queries: &[&[<$dot as Dot>::Query]],
                products: &mut [<$dot as Dot>::Sum],
            ) {
                scan::<$dot, $r, $q>(rows, queries, products);
            }
            let least = Instructions::$least;
            (instructions >= least && least.detected()).then(|| {
                // SAFETY: the processor has the instructions that `inner` needs.
                unsafe { inner(rows, queries, products) }
            })
        }
    };
}

// As many sums as fit the registers: 16 of 256 bits, 32 of 512.
compiled!(avx2_singles, Avx2, "avx2,f16c", Avx2Singles, 2, 2);
compiled!(avx2_halves, Avx2, "avx2,f16c", Avx2Halves, 2, 2);
compiled!(avx2_bytes, Avx2, "avx2,f16c", Avx2Bytes, 2, 2);
compiled!(avx512_singles, Avx512, "avx2,f16c,avx512f", Avx512Singles, 4, 4);
compiled!(avx512_halves, Avx512, "avx2,f16c,avx512f", Avx512Halves, 4, 4);
compiled!(avx512_bytes, Avx512Vnni, "avx2,f16c,avx512f,avx512vnni", Avx512Bytes, 4, 4);

// SAFETY of everything below: the types are made and used only inside the functions above, after the
// check of the processor. Each load reads a whole line, which has the length and the alignment of the load.

/// The sum of two halves of eight.
#[derive(Clone, Copy)]
pub(super) struct Eights(__m256, __m256);

impl Eights {
    #[inline(always)]
    fn zero() -> Self {
        unsafe { Self(_mm256_setzero_ps(), _mm256_setzero_ps()) }
    }

    #[inline(always)]
    fn add(self, low: __m256, high: __m256, query: &F32x16) -> Self {
        unsafe {
            let (low_query, high_query) =
                (_mm256_load_ps(query.0.as_ptr()), _mm256_load_ps(query.0.as_ptr().add(8)));
            Self(
                _mm256_add_ps(self.0, _mm256_mul_ps(low, low_query)),
                _mm256_add_ps(self.1, _mm256_mul_ps(high, high_query)),
            )
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut sums = [0.0; 16];
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), self.0);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), self.1);
        }
        folded(sums)
    }
}

macro_rules! floats {
    ($name:ident, $inner:ty, $row:ty, |$sums:ident, $line:ident, $query:ident| $add:expr) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name($inner);

        impl Dot for $name {
            type Row = $row;
            type Query = F32x16;
            type Sum = f32;

            #[inline(always)]
            fn zero() -> Self {
                Self(<$inner>::zero())
            }

            #[inline(always)]
            fn add(self, $line: &$row, $query: &F32x16) -> Self {
                let $sums = self.0;
                unsafe { Self($add) }
            }

            #[inline(always)]
            fn sum(self) -> f32 {
                self.0.sum()
            }
        }
    };
}

floats!(Avx2Singles, Eights, F32x16, |sums, row, query| sums.add(
    _mm256_load_ps(row.0.as_ptr()),
    _mm256_load_ps(row.0.as_ptr().add(8)),
    query
));

floats!(Avx2Halves, Eights, F16x16, |sums, row, query| sums.add(
    _mm256_cvtph_ps(_mm_load_si128(row.0.as_ptr().cast())),
    _mm256_cvtph_ps(_mm_load_si128(row.0.as_ptr().add(8).cast())),
    query
));

#[derive(Clone, Copy)]
pub(super) struct Sixteen(__m512);

impl Sixteen {
    #[inline(always)]
    fn zero() -> Self {
        unsafe { Self(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    fn add(self, row: __m512, query: &F32x16) -> Self {
        unsafe {
            let query = _mm512_load_ps(query.0.as_ptr());
            Self(_mm512_add_ps(self.0, _mm512_mul_ps(row, query)))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut sums = [0.0; 16];
        unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), self.0) };
        folded(sums)
    }
}

floats!(Avx512Singles, Sixteen, F32x16, |sums, row, query| sums
    .add(_mm512_load_ps(row.0.as_ptr()), query));

floats!(Avx512Halves, Sixteen, F16x16, |sums, row, query| sums
    .add(_mm512_cvtph_ps(_mm256_load_si256(row.0.as_ptr().cast())), query));

#[derive(Clone, Copy)]
pub(super) struct Avx2Bytes(__m256i);

impl Dot for Avx2Bytes {
    type Row = U8x64;
    type Query = I8x64;
    type Sum = i32;

    #[inline(always)]
    fn zero() -> Self {
        unsafe { Self(_mm256_setzero_si256()) }
    }

    /// By way of 16 bits: a product of bytes fits them, and the sum of two products fits 32.
    #[inline(always)]
    fn add(self, row: &U8x64, query: &I8x64) -> Self {
        let mut sums = self.0;
        for part in [0, 16, 32, 48] {
            unsafe {
                let row = _mm_load_si128(row.0.as_ptr().add(part).cast());
                let query = _mm_load_si128(query.0.as_ptr().add(part).cast());
                let products =
                    _mm256_madd_epi16(_mm256_cvtepu8_epi16(row), _mm256_cvtepi8_epi16(query));
                sums = _mm256_add_epi32(sums, products);
            }
        }
        Self(sums)
    }

    #[inline(always)]
    fn sum(self) -> i32 {
        let mut sums = [0; 8];
        unsafe { _mm256_storeu_si256(sums.as_mut_ptr().cast(), self.0) };
        sums.iter().sum()
    }
}

#[derive(Clone, Copy)]
pub(super) struct Avx512Bytes(__m512i);

impl Dot for Avx512Bytes {
    type Row = U8x64;
    type Query = I8x64;
    type Sum = i32;

    #[inline(always)]
    fn zero() -> Self {
        unsafe { Self(_mm512_setzero_si512()) }
    }

    #[inline(always)]
    fn add(self, row: &U8x64, query: &I8x64) -> Self {
        unsafe {
            let row = _mm512_load_si512(row.0.as_ptr().cast());
            let query = _mm512_load_si512(query.0.as_ptr().cast());
            Self(_mm512_dpbusd_epi32(self.0, row, query))
        }
    }

    #[inline(always)]
    fn sum(self) -> i32 {
        unsafe { _mm512_reduce_add_epi32(self.0) }
    }
}
