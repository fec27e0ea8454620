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
        fine: bool,
        error: *mut *mut c_char,
    ) -> *mut C_tensor;
}

/// Where a tower's tensors are, and of what type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) device: Device,
    pub(crate) precision: Precision,
    /// With weights of 8 bits, inputs have 16: two products instead of one.
    pub(crate) fine: bool,
}

/// The weight of a product.
#[derive(Debug)]
pub(crate) struct Weight {
    pub(crate) values: Tensor,
    /// Of a weight in 8 bits a scale and the sum of each row, `[2, out]`. Others have an empty tensor, so that encoders
    /// take the same number of arguments in every precision.
    pub(crate) scales: Tensor,
    fine: bool,
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
        if !self.packs() {
            let values = weight.f_to_device(self.device)?.f_to_kind(self.kind())?.f_contiguous()?;
            return self.without_scales(values);
        }
        *weight = weight.f_contiguous()?;
        match self.precision {
            Precision::Int8 => {
                let (values, scales) = narrow::int8(weight)?;
                Ok(Weight { values: pack(&values)?, scales, fine: self.fine })
            }
            Precision::Bf16 => self.without_scales(pack(&narrow::bf16(weight)?)?),
            Precision::F16 | Precision::F32 => self.without_scales(pack(weight)?),
        }
    }

    fn without_scales(self, values: Tensor) -> Result<Weight> {
        let scales = Tensor::f_empty([0], (Kind::Float, self.device))?;
        Ok(Weight { values, scales, fine: self.fine })
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
            weight.fine,
            &raw mut error,
        )
    };
    owned(result, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `None` where the processor has no instructions for it.
    fn int8(fine: bool) -> Option<Storage> {
        let exactly = PrecisionRequest::Exactly(Precision::Int8);
        let precision = precision::choose(exactly, Device::Cpu, false).ok()?;
        Some(Storage { device: Device::Cpu, precision, fine })
    }

    /// Inputs, a weight and a bias. A column is far from zero, and a row is large.
    fn layer() -> (Tensor, Tensor, Tensor) {
        tch::manual_seed(7);
        let normal = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let x = normal(&[3, 5, 96]);
        let _ = x.select(2, 4).g_add_scalar_(6.0);
        let _ = x.get(1).get(2).g_mul_scalar_(1000.0);
        (x, normal(&[40, 96]), normal(&[40]))
    }

    /// The largest error of each row, in standard deviations of the row.
    fn errors(found: &Tensor, expected: &Tensor) -> Vec<f64> {
        let error = (found - expected).abs().amax(-1, false) / expected.std_dim(-1, true, false);
        error.flatten(0, -1).try_into().unwrap()
    }

    #[test]
    fn eight_bits_are_near_and_sixteen_nearer() {
        register().unwrap();
        for (fine, most) in [(false, 0.1), (true, 0.001)] {
            let Some(storage) = int8(fine) else { return };
            let (x, weight, bias) = layer();
            let packed = storage.weight(&mut weight.copy()).unwrap();
            // The weights' own rounding is not what is tested.
            let (values, scales) = narrow::int8(&mut weight.copy()).unwrap();
            let weight =
                values.to_kind(Kind::Double) * scales.get(0).to_kind(Kind::Double).view([-1, 1]);
            for bias in [None, Some(&bias)] {
                for activation in [None, Some(Activation::QuickGelu), Some(Activation::GeluTanh)] {
                    let found = linear(&x, &packed, bias, activation, false).unwrap();
                    assert_eq!(found.size(), [3, 5, 40]);
                    let wide = bias.map(|bias| bias.to_kind(Kind::Double));
                    let plain = x.to_kind(Kind::Double).linear(&weight, wide.as_ref());
                    let expected = match activation {
                        None => plain,
                        Some(Activation::QuickGelu) => plain.silu(),
                        Some(Activation::Gelu) => plain.gelu("none"),
                        Some(Activation::GeluTanh) => plain.gelu("tanh"),
                    };
                    let errors = errors(&found, &expected);
                    assert!(errors.iter().all(|error| *error < most), "{fine}: {errors:?}");
                }
            }
        }
    }

    #[test]
    fn a_row_keeps_to_itself() {
        register().unwrap();
        for fine in [false, true] {
            let Some(storage) = int8(fine) else { return };
            let (x, mut weight, bias) = layer();
            let packed = storage.weight(&mut weight).unwrap();
            let product = |x: &Tensor| linear(x, &packed, Some(&bias), None, false).unwrap();
            let expected = product(&x);
            for odd in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let _ = x.get(0).get(3).get(9).fill_(odd);
                let found = product(&x);
                let row = found.get(0).get(3);
                assert_eq!(row.isfinite().any().int64_value(&[]), 0, "{odd}: {row:?}");
                found.get(0).get(3).copy_(&expected.get(0).get(3));
                assert_eq!(found, expected, "{odd}");
            }
            // All values alike: nothing is rounded.
            let same = Tensor::full([1, 96], 0.3, (Kind::Float, Device::Cpu));
            let sum = product(&same) - product(&Tensor::zeros_like(&same));
            let errors = errors(&sum, &(packed.scales.get(1) * 0.3).view([1, -1]));
            assert!(errors[0] < 1e-5, "{errors:?}");
        }
    }
}
