//! Products with weights in the order and the type that suit the processor.
//!
//! libtorch's `linear` brings a plain weight into its library's own order in every call, which for a few
//! rows takes longer than the product. oneDNN's weights can be packed once, for any number of rows
//! (bench/README.md). A packed weight cannot be saved, so it is made by every load and handed to
//! the exported tower as an argument.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use clip::checkpoint::transformer::Activation;
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::cpp::{owned, taken};
use crate::error::Result;
use crate::runtime::precision::{self, Precision, PrecisionRequest};
use crate::towers::narrow;

unsafe extern "C" {
    fn image_zero_shot_register(error: *mut *mut c_char);
    fn image_zero_shot_pack(weight: *const C_tensor, error: *mut *mut c_char) -> *mut C_tensor;
    fn image_zero_shot_linear(
        x: *const C_tensor,
        weight: *const C_tensor,
        scales: *const C_tensor,
        bias: *const C_tensor,
        activation: *const c_char,
        narrow: bool,
        error: *mut *mut c_char,
    ) -> *mut C_tensor;
}

/// Where a tower's tensors are, and of what type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) device: Device,
    pub(crate) precision: Precision,
}

/// The weight of a product.
#[derive(Debug)]
pub(crate) struct Weight {
    pub(crate) values: Tensor,
    /// A scale for each row of a weight in 8 bits. Others have an empty tensor, so that encoders take the
    /// same number of arguments in every precision.
    pub(crate) scales: Tensor,
}

impl Storage {
    /// The same for the layers at a tower's edges, which are not in 8 bits.
    pub(crate) fn at_edges(self) -> Self {
        let precision = match self.precision {
            Precision::Int8 => {
                precision::choose(PrecisionRequest::Auto, self.device, false).unwrap_or_default()
            }
            other => other,
        };
        Self { precision, ..self }
    }

    /// The type of everything but the products' weights.
    ///
    /// A CPU computes the rest in f32, which is more exact and as fast.
    pub(crate) fn kind(self) -> Kind {
        match self.precision {
            Precision::F16 => Kind::Half,
            Precision::Bf16 if self.device != Device::Cpu => Kind::BFloat16,
            Precision::F32 | Precision::Bf16 | Precision::Int8 => Kind::Float,
        }
    }

    /// A weight `[out, in]` in f32, as products here take it. The given one is of no use afterwards.
    pub(crate) fn weight(self, weight: &mut Tensor) -> Result<Weight> {
        let none = || Tensor::f_empty([0], (Kind::Float, self.device));
        if !self.packs() {
            let values = weight.f_to_device(self.device)?.f_to_kind(self.kind())?.f_contiguous()?;
            return Ok(Weight { values, scales: none()? });
        }
        *weight = weight.f_contiguous()?;
        match self.precision {
            Precision::Int8 => {
                let (values, scales) = narrow::int8(weight)?;
                Ok(Weight { values: pack(&values)?, scales: Tensor::f_from_slice(&scales)? })
            }
            Precision::Bf16 => {
                Ok(Weight { values: pack(&narrow::bf16(weight)?)?, scales: none()? })
            }
            Precision::F16 | Precision::F32 => {
                Ok(Weight { values: pack(weight)?, scales: none()? })
            }
        }
    }

    /// Whether libtorch has oneDNN here.
    fn packs(self) -> bool {
        self.device == Device::Cpu && cfg!(all(target_arch = "x86_64", target_os = "linux"))
    }
}

/// Makes the operator known to libtorch, once. To be called before a tower is loaded.
pub(crate) fn register() -> Result<()> {
    static REGISTERING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = REGISTERING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut error = ptr::null_mut();
    // SAFETY: the function only writes to `error`.
    unsafe { image_zero_shot_register(&raw mut error) };
    if error.is_null() { Ok(()) } else { Err(taken(error)) }
}

fn pack(weight: &Tensor) -> Result<Tensor> {
    let mut error = ptr::null_mut();
    // SAFETY: the tensor lives, and the function only reads it.
    let packed = unsafe { image_zero_shot_pack(weight.as_ptr(), &raw mut error) };
    owned(packed, error)
}

/// `x W^T + b`, activated. With packed weights of 16 bits, `narrow` leaves the result in them.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Weight,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    narrow: bool,
) -> Result<Tensor> {
    let activation: &CStr = match activation {
        None => c"none",
        Some(Activation::QuickGelu) => c"silu",
        Some(Activation::Gelu) => c"gelu",
        Some(Activation::GeluTanh) => c"gelu_tanh",
    };
    let mut error = ptr::null_mut();
    // SAFETY: all tensors live, and the function only reads them. A null pointer is none.
    let result = unsafe {
        image_zero_shot_linear(
            x.as_ptr(),
            weight.values.as_ptr(),
            weight.scales.as_ptr(),
            bias.map_or(ptr::null(), Tensor::as_ptr),
            activation.as_ptr(),
            narrow,
            &raw mut error,
        )
    };
    owned(result, error)
}
