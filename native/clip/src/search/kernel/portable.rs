//! For every processor. The compiler vectorizes it.

use super::super::lines::{F16x16, F32x16, I8x64, U8x64, single};
use super::{Dot, folded};

#[derive(Clone, Copy)]
pub(super) struct Singles([f32; 16]);

impl Dot for Singles {
    type Row = F32x16;
    type Query = F32x16;
    type Sum = f32;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; 16])
    }

    #[inline(always)]
    fn add(mut self, row: &F32x16, query: &F32x16) -> Self {
        for lane in 0..16 {
            self.0[lane] += row.0[lane] * query.0[lane];
        }
        self
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        folded(self.0)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Halves([f32; 16]);

impl Dot for Halves {
    type Row = F16x16;
    type Query = F32x16;
    type Sum = f32;

    #[inline(always)]
    fn zero() -> Self {
        Self([0.0; 16])
    }

    #[inline(always)]
    fn add(mut self, row: &F16x16, query: &F32x16) -> Self {
        for lane in 0..16 {
            self.0[lane] += single(row.0[lane]) * query.0[lane];
        }
        self
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        folded(self.0)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Bytes([i32; 16]);

impl Dot for Bytes {
    type Row = U8x64;
    type Query = I8x64;
    type Sum = i32;

    #[inline(always)]
    fn zero() -> Self {
        Self([0; 16])
    }

    #[inline(always)]
    fn add(mut self, row: &U8x64, query: &I8x64) -> Self {
        for part in 0..4 {
            for lane in 0..16 {
                let at = part * 16 + lane;
                self.0[lane] += i32::from(row.0[at]) * i32::from(query.0[at]);
            }
        }
        self
    }

    #[inline(always)]
    fn sum(self) -> i32 {
        self.0.iter().sum()
    }
}
