//! The few ways in which plain data becomes a tensor and comes back.

use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};

/// A CPU tensor from bytes.
///
/// The only caller of tch's `f_from_data_size`, which trusts the shape and reads past a slice that
/// is too short.
#[allow(clippy::disallowed_methods)]
pub(crate) fn from_bytes(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor> {
    let elements = shape
        .iter()
        .try_fold(1usize, |product, side| product.checked_mul(usize::try_from(*side).ok()?));
    let expected = elements.and_then(|count| count.checked_mul(kind.elt_size_in_bytes()));
    if expected != Some(bytes.len()) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{} bytes do not fill a tensor of shape {shape:?}", bytes.len()),
        ));
    }
    Ok(Tensor::f_from_data_size(bytes, shape, kind)?)
}

/// A CPU tensor of token ids from rows of one length.
pub(crate) fn from_rows(rows: &[&[u32]]) -> Result<Tensor> {
    let length = rows.first().map_or(0, |row| row.len());
    let bytes: Vec<u8> = rows
        .iter()
        .flat_map(|row| row.iter())
        .flat_map(|id| i64::from(*id).to_ne_bytes())
        .collect();
    from_bytes(&bytes, &[rows.len() as i64, length as i64], Kind::Int64)
}

/// A tensor in f32 on its device.
///
/// Not by `f_to_kind`: a trace records that together with the device that it was made on, and the
/// exported encoder would fail on any other.
pub(crate) fn float(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_dtype(Kind::Float, false, false)?)
}

/// The f32 values of a tensor, row after row.
pub(crate) fn to_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    let tensor = float(&tensor.f_to_device(tch::Device::Cpu)?)?.f_contiguous()?;
    let mut values = vec![0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}
