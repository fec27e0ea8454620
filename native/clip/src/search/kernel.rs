//! Dot products of many vectors with one or several queries, as fast as memory can be read.
//!
//! Every path returns the same bits. Products go to 16 separate sums, with a rounding after each step
//! (no fused multiply-add, which not every processor has), and the sums are added in a fixed order. So
//! a score depends neither on the processor nor on how the work was divided. Reading memory takes the
//! time, so the second rounding costs nothing.

mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::LazyLock;

use super::lines::{F16x16, F32x16, I8x64, U8x64};

/// Instruction sets, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Those of every processor of the target, which the compiler vectorizes for.
    Portable,
    /// AVX2 and F16C.
    Avx2,
    /// AVX-512.
    Avx512,
    /// AVX-512 with products of bytes (VNNI).
    Avx512Vnni,
}

impl Instructions {
    /// All sets that this processor has.
    pub fn available() -> Vec<Self> {
        let all = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Vnni];
        all.into_iter().filter(|instructions| instructions.detected()).collect()
    }

    /// The best set that this processor has.
    pub fn best() -> Self {
        static BEST: LazyLock<Instructions> = LazyLock::new(|| {
            Instructions::available().into_iter().max().unwrap_or(Instructions::Portable)
        });
        *BEST
    }

    #[cfg(target_arch = "x86_64")]
    fn detected(self) -> bool {
        match self {
            Self::Portable => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"),
            Self::Avx512 => Self::Avx2.detected() && is_x86_feature_detected!("avx512f"),
            Self::Avx512Vnni => Self::Avx512.detected() && is_x86_feature_detected!("avx512vnni"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn detected(self) -> bool {
        self == Self::Portable
    }
}

/// A running sum of products.
trait Dot: Copy {
    /// A line of a vector.
    type Row;
    /// A line of a query.
    type Query;
    type Sum: Copy + Default;

    fn zero() -> Self;
    fn add(self, row: &Self::Row, query: &Self::Query) -> Self;
    fn sum(self) -> Self::Sum;
}

/// Rows that stay in the processor's cache while they are compared with all queries.
const CHUNK: usize = 32;

/// The products of each row with each query: those of the first query first.
///
/// `R` rows with `Q` queries are under way at once, as many sums as the registers hold.
#[inline(always)]
fn scan<D: Dot, const R: usize, const Q: usize>(
    rows: &[D::Row],
    queries: &[&[D::Query]],
    products: &mut [D::Sum],
) {
    let lines = queries[0].len();
    let count = rows.len() / lines;
    for first in (0..count).step_by(CHUNK) {
        let last = count.min(first + CHUNK);
        // The first query goes alone: memory that is read row after row comes twice as fast.
        let alone = 1 + (queries.len() - 1) % Q;
        for q in 0..alone {
            strip::<D, 1, 1>(rows, &[queries[q]], first..last, count, &mut products[q * count..]);
        }
        let (groups, _) = queries[alone..].as_chunks::<Q>();
        for (queries, products) in
            groups.iter().zip(products[alone * count..].chunks_mut(Q * count))
        {
            strip::<D, R, Q>(rows, queries, first..last, count, products);
        }
    }
}

#[inline(always)]
fn strip<D: Dot, const R: usize, const Q: usize>(
    rows: &[D::Row],
    queries: &[&[D::Query]; Q],
    range: std::ops::Range<usize>,
    count: usize,
    products: &mut [D::Sum],
) {
    let mut row = range.start;
    while row + R <= range.end {
        tile::<D, R, Q>(rows, queries, row, count, products);
        row += R;
    }
    while row < range.end {
        tile::<D, 1, Q>(rows, queries, row, count, products);
        row += 1;
    }
}

#[inline(always)]
fn tile<D: Dot, const R: usize, const Q: usize>(
    rows: &[D::Row],
    queries: &[&[D::Query]; Q],
    row: usize,
    count: usize,
    products: &mut [D::Sum],
) {
    let lines = queries[0].len();
    let rows = &rows[row * lines..][..R * lines];
    let mut sums = [[D::zero(); R]; Q];
    for line in 0..lines {
        for q in 0..Q {
            for r in 0..R {
                sums[q][r] = sums[q][r].add(&rows[r * lines + line], &queries[q][line]);
            }
        }
    }
    for q in 0..Q {
        for r in 0..R {
            products[q * count + row + r] = sums[q][r].sum();
        }
    }
}

/// A line of stored rows, and how it is multiplied.
pub trait Row: Sized {
    /// A line of a query.
    type Query;
    /// The type of a product.
    type Sum: Copy + Default;

    /// The products of each row with each query: those of the first query first, as many as there
    /// are rows.
    ///
    /// # Panics
    /// If there are no queries, or they are empty.
    fn products(
        instructions: Instructions,
        rows: &[Self],
        queries: &[&[Self::Query]],
        products: &mut [Self::Sum],
    );
}

macro_rules! row {
    ($row:ty, $query:ty, $sum:ty, $portable:ty, $avx2:ident, $avx512:ident) => {
        impl Row for $row {
            type Query = $query;
            type Sum = $sum;

            fn products(
                instructions: Instructions,
                rows: &[Self],
                queries: &[&[$query]],
                products: &mut [$sum],
            ) {
                let lines = queries[0].len();
                assert!(lines > 0 && rows.len().is_multiple_of(lines));
                assert!(queries.iter().all(|query| query.len() == lines));
                assert_eq!(products.len(), rows.len() / lines * queries.len());
                #[cfg(target_arch = "x86_64")]
                if let Some(()) = x86::$avx512(instructions, rows, queries, products)
                    .or_else(|| x86::$avx2(instructions, rows, queries, products))
                {
                    return;
                }
                let _ = instructions;
                scan::<$portable, 2, 1>(rows, queries, products);
            }
        }
    };
}

row!(F32x16, F32x16, f32, portable::Singles, avx2_singles, avx512_singles);
row!(F16x16, F32x16, f32, portable::Halves, avx2_halves, avx512_halves);
row!(U8x64, I8x64, i32, portable::Bytes, avx2_bytes, avx512_bytes);

/// Adds up 16 sums, one half to the other until one is left.
#[inline(always)]
fn folded(mut sums: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}
