//! The few ways in which plain data becomes a tensor and comes back.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};

/// A CPU tensor from bytes.
pub(crate) fn from_bytes(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor> {
    from_pieces(&[bytes], shape, kind)
}

/// A CPU tensor from bytes that lie in several places.
///
/// tch's own `f_from_data_size` trusts the shape and reads past a slice that is too short, and it
/// takes one slice only.
#[allow(unsafe_code)]
pub(crate) fn from_pieces(pieces: &[&[u8]], shape: &[i64], kind: Kind) -> Result<Tensor> {
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let elements = shape
        .iter()
        .try_fold(1usize, |product, side| product.checked_mul(usize::try_from(*side).ok()?));
    let expected = elements.and_then(|count| count.checked_mul(kind.elt_size_in_bytes()));
    if expected != Some(length) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{length} bytes do not fill a tensor of shape {shape:?}"),
        ));
    }
    let tensor = Tensor::f_empty(shape, (kind, Device::Cpu))?;
    let mut place = tensor.data_ptr().cast::<u8>();
    for piece in pieces {
        // SAFETY: the tensor is new and contiguous, and holds exactly as many bytes as all pieces.
        unsafe {
            std::ptr::copy_nonoverlapping(piece.as_ptr(), place, piece.len());
            place = place.add(piece.len());
        }
    }
    Ok(tensor)
}

/// The numbers of a new tensor of f32 on the CPU, in the order of memory.
#[allow(unsafe_code)]
pub(crate) fn floats_mut(tensor: &mut Tensor) -> Result<&mut [f32]> {
    if tensor.f_kind()? != Kind::Float || tensor.device() != Device::Cpu || !tensor.is_contiguous()
    {
        return Err(Error::new(ErrorKind::Internal, "expected a contiguous tensor of f32"));
    }
    if tensor.numel() == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as many numbers of this type lie there, one after the other, and they live as long as
    // the tensor, which is borrowed. No other tensor shares them, as it is new.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast(), tensor.numel()) })
}

/// The bytes of numbers, to read them from a file: little-endian, as all platforms of libtorch are.
#[allow(unsafe_code)]
pub(crate) fn bytes_of_mut(floats: &mut [f32]) -> &mut [u8] {
    // SAFETY: it is the same memory, every f32 is four bytes, and every four bytes are an f32.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), size_of_val(floats)) }
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
    let tensor = float(&tensor.f_to_device(Device::Cpu)?)?.f_contiguous()?;
    let mut values = vec![0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}
