//! Vectors in memory: whole lines of numbers, so that the kernels need no code for a remainder.
//!
//! A vector is padded with zeros, which change no sum.

use half::f16;

/// 16 numbers of a vector or of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C, align(64))]
pub struct F32x16(pub [f32; 16]);

/// 16 numbers of a vector, as the bits of f16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct F16x16(pub [u16; 16]);

/// 64 numbers of a vector from -128 to 127, plus 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct U8x64(pub [u8; 64]);

/// 64 numbers of a query from -127 to 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct I8x64(pub [i8; 64]);

/// Splits values into lines, and pads the last one with `rest`.
fn lines<T: Copy, const N: usize, L>(values: &[T], rest: T, line: fn([T; N]) -> L) -> Vec<L> {
    let chunks = values.chunks(N).map(|chunk| {
        let mut full = [rest; N];
        full[..chunk.len()].copy_from_slice(chunk);
        line(full)
    });
    chunks.collect()
}

pub(super) fn singles(values: &[f32]) -> Vec<F32x16> {
    lines(values, 0.0, F32x16)
}

pub(super) fn halves(bits: &[u16]) -> Vec<F16x16> {
    lines(bits, 0, F16x16)
}

/// The bits of the nearest f16.
pub(super) fn half(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

pub(super) fn unsigned(values: &[u8]) -> Vec<U8x64> {
    lines(values, 128, U8x64)
}

pub(super) fn signed(values: &[i8]) -> Vec<I8x64> {
    lines(values, 0, I8x64)
}

/// The f32 of a finite f16. The exponents differ by 112; a multiplication corrects that for every
/// number, subnormal ones included.
#[inline(always)]
pub(super) fn single(bits: u16) -> f32 {
    const SHIFT: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * SHIFT;
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_becomes_the_same_single() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if half.is_finite() {
                assert_eq!(single(bits).to_bits(), half.to_f32().to_bits(), "{bits:#x}");
            }
        }
    }

    #[test]
    fn lines_are_filled_up_at_the_end() {
        let values: Vec<f32> = (0..20u8).map(f32::from).collect();
        let lines = singles(&values);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].0[..5], [16.0, 17.0, 18.0, 19.0, 0.0]);
        assert_eq!(unsigned(&[1])[0].0[..2], [1, 128]);
        assert_eq!(signed(&[1])[0].0[..2], [1, 0]);
    }
}
