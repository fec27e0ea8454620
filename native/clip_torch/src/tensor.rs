//! The few ways in which plain data becomes a tensor and comes back.

use std::ffi::c_char;
use std::ptr;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::cpp::owned;
use crate::error::{Error, ErrorKind, Result};

#[allow(unsafe_code)]
unsafe extern "C" {
    fn image_zero_shot_pinned(
        sizes: *const i64,
        rank: usize,
        error: *mut *mut c_char,
    ) -> *mut C_tensor;
}

/// A CPU tensor from bytes.
///
/// tch's own `f_from_data_size` trusts the shape and reads past a slice that is too short.
pub(crate) fn from_bytes(bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor> {
    filled(Tensor::f_empty(shape, (kind, Device::Cpu))?, &[bytes])
}

/// A tensor of u8 from pieces, to be copied to a device.
///
/// For a GPU it lies in pinned memory where there is some, which the GPU reads while it computes. It reads
/// other memory only after all that was begun before, and the host waits.
pub(crate) fn for_device(pieces: &[&[u8]], shape: &[i64], device: Device) -> Result<Tensor> {
    let tensor = match device {
        Device::Cuda(_) => pinned(shape).ok(),
        _ => None,
    };
    let plain = || Tensor::f_empty(shape, (Kind::Uint8, Device::Cpu));
    filled(tensor.map_or_else(plain, Ok)?, pieces)
}

#[allow(unsafe_code)]
fn pinned(shape: &[i64]) -> Result<Tensor> {
    let mut error = ptr::null_mut();
    // SAFETY: the sizes live, and the function only reads so many of them.
    let pinned = unsafe { image_zero_shot_pinned(shape.as_ptr(), shape.len(), &raw mut error) };
    owned(pinned, error)
}

/// Copies bytes into a new tensor on the CPU, one piece behind the other.
#[allow(unsafe_code)]
fn filled(tensor: Tensor, pieces: &[&[u8]]) -> Result<Tensor> {
    let length = pieces.iter().map(|piece| piece.len()).sum::<usize>();
    if tensor.numel() * tensor.f_kind()?.elt_size_in_bytes() != length {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{length} bytes do not fill a tensor of shape {:?}", tensor.size()),
        ));
    }
    let mut place = tensor.data_ptr().cast::<u8>();
    for piece in pieces {
        // SAFETY: the tensor is new and contiguous, and holds exactly as many bytes as all pieces.
        unsafe {
            ptr::copy_nonoverlapping(piece.as_ptr(), place, piece.len());
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
