//! Weights in fewer bits, in the memory that they have in 32: to touch new memory takes longer than the
//! arithmetic (bench/README.md).

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::tensor::{bytes_of_mut, floats_mut};

/// Largest absolute value of a weight in 8 bits.
const INT8_MOST: f32 = 127.0;
/// The scale of a row of zeros.
const LEAST_SCALE: f32 = 1e-12;
/// 1.5 * 2^23: added to a number below 2^22, it leaves the number, rounded half to even, in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// A weight `[out, in]` in 16 bits.
pub(super) fn bf16(weight: &mut Tensor) -> Result<Tensor> {
    each_row(weight, |row, narrow| {
        for (value, bytes) in row.iter().zip(narrow.chunks_exact_mut(2)) {
            let bits = value.to_bits();
            let rounded = bits + 0x7fff + (bits >> 16 & 1);
            bytes.copy_from_slice(&((rounded >> 16) as u16).to_ne_bytes());
        }
        2
    })?;
    seen_as(weight, Kind::BFloat16)
}

/// A weight `[out, in]` in 8 bits, and `[2, out]`: a scale for each row, and the sum of what the row stands for.
pub(super) fn int8(weight: &mut Tensor) -> Result<(Tensor, Tensor)> {
    let (mut scales, mut sums) = (Vec::new(), Vec::new());
    each_row(weight, |row, narrow| {
        let most = row.iter().fold(0f32, |most, value| most.max(value.abs()));
        let scale = (most / INT8_MOST).max(LEAST_SCALE);
        let mut sum = 0i32;
        for (value, byte) in row.iter().zip(narrow) {
            *byte = (value / scale + ROUNDER).to_bits() as u8;
            sum += i32::from(*byte as i8);
        }
        scales.push(scale);
        sums.push(sum as f32 * scale);
        1
    })?;
    scales.append(&mut sums);
    Ok((seen_as(weight, Kind::Int8)?, Tensor::f_from_slice(&scales)?.f_view([2, -1])?))
}

/// Calls `write` with each row and the place of its bytes in the new type, of which it says how many it
/// takes for a number.
fn each_row(weight: &mut Tensor, mut write: impl FnMut(&[f32], &mut [u8]) -> usize) -> Result<()> {
    let width = weight.size().last().copied().unwrap_or_default() as usize;
    let mut row = vec![0f32; width];
    let bytes = bytes_of_mut(floats_mut(weight)?);
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        bytes_of_mut(&mut row).copy_from_slice(&bytes[from..from + 4 * width]);
        from += 4 * width;
        to += width * write(&row, &mut bytes[to..from]);
    }
    Ok(())
}

/// The beginning of a tensor's memory, as the same shape of another type.
fn seen_as(weight: &Tensor, kind: Kind) -> Result<Tensor> {
    let numbers = weight.numel() as i64;
    let flat = weight.f_flatten(0, -1)?.f_view_dtype(kind)?;
    Ok(flat.f_narrow(0, 0, numbers)?.f_view(weight.size().as_slice())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tch::Device;

    use super::*;

    fn weight() -> Tensor {
        tch::manual_seed(5);
        let weight = Tensor::randn([7, 33], (Kind::Float, Device::Cpu));
        // A row of zeros, and one that is all rounding: halves lie between two numbers of 8 bits.
        let _ = weight.get(2).fill_(0.0);
        let halves = Tensor::arange(33, (Kind::Float, Device::Cpu)) * 0.5 - 8.0;
        weight.get(3).copy_(&halves);
        let _ = weight.get(3).get(0).fill_(127.0);
        weight
    }

    #[test]
    fn sixteen_bits_are_libtorchs() {
        let mut weight = weight();
        let expected = weight.to_kind(Kind::BFloat16);
        assert_eq!(bf16(&mut weight).unwrap(), expected);
    }

    #[test]
    fn eight_bits_are_libtorchs() {
        let mut weight = weight();
        let most = weight.abs().amax(1, true);
        let scales = (most / 127.0).clamp_min(1e-12);
        let expected = (&weight / &scales).round().to_kind(Kind::Int8);
        let (values, found) = int8(&mut weight).unwrap();
        assert_eq!(values, expected);
        assert_eq!(found.get(0), scales.flatten(0, 1));
        let sums = (expected * scales).sum_dim_intlist(1, false, Kind::Double);
        let most = (found.get(1) - sums).abs().max().double_value(&[]);
        assert!(most < 1e-4, "{most}");
    }
}
