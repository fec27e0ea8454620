//! The type that a model computes in.

use tch::Device;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::device;

/// The precision that a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrecisionRequest {
    /// 16 bits where the device multiplies them faster, else f32.
    Auto,
    /// This one. Where the device does not multiply it natively, it is an error.
    Exactly(Precision),
}

/// The type of the numbers that matrices are multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32 bits: equal to the reference to 1e-5.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits with more digits and less range, on a GPU.
    F16,
    /// Weights and their inputs in 8 bits, with a scale for each row. The first and the last layer of a
    /// tower have 16 or 32 bits.
    Int8,
}

impl Precision {
    /// As callers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

impl std::str::FromStr for PrecisionRequest {
    type Err = Error;

    /// `f32`, `bf16`, `f16`, `int8` or `auto`.
    fn from_str(name: &str) -> Result<Self> {
        let all = [Precision::F32, Precision::Bf16, Precision::F16, Precision::Int8];
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let found = all.into_iter().find(|precision| precision.name() == name);
        found.map(Self::Exactly).ok_or_else(|| {
            let message =
                format!("expected a precision (f32, bf16, f16, int8, auto), got {name:?}");
            Error::new(ErrorKind::InvalidArgument, message)
        })
    }
}

impl Default for PrecisionRequest {
    fn default() -> Self {
        Self::Exactly(Precision::F32)
    }
}

/// What a processor multiplies natively, besides f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Native {
    bf16: Support,
    int8: bool,
}

/// Whether there are instructions, and whether they are faster than those of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    No,
    Slow,
    Fast,
}

impl Native {
    #[cfg(target_arch = "x86_64")]
    fn here() -> Self {
        Self {
            bf16: bf16(),
            int8: cfg!(target_os = "linux")
                && (is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni")),
        }
    }

    // Arm has bf16 too. Its products in libtorch are other ones, and have not been tried.
    #[cfg(not(target_arch = "x86_64"))]
    fn here() -> Self {
        Self { bf16: Support::No, int8: false }
    }
}

/// AVX512_BF16 takes 0.56 to 0.8 times as long as f32 on an AMD EPYC, and 1.4 to 1.6 times on an Intel Xeon without AMX
/// (bench/README.md). Intel's fast bf16 is AMX, which virtual machines may hide.
#[cfg(target_arch = "x86_64")]
fn bf16() -> Support {
    // Processors with AMX have it too.
    if !cfg!(target_os = "linux") || !is_x86_feature_detected!("avx512bf16") {
        return Support::No;
    }
    let processor = raw_cpuid::CpuId::new();
    let is_amd = processor.get_vendor_info().is_some_and(|name| name.as_str() == "AuthenticAMD");
    let has_amx =
        processor.get_extended_feature_info().is_some_and(|features| features.has_amx_bf16());
    if is_amd || has_amx { Support::Fast } else { Support::Slow }
}

/// Finds the precision for a request on a device.
///
/// `in_half` says whether the model's numbers fit f16, which ends at 65,504.
pub(crate) fn choose(
    request: PrecisionRequest,
    device: Device,
    in_half: bool,
) -> Result<Precision> {
    choose_with(request, device, in_half, Native::here())
}

fn choose_with(
    request: PrecisionRequest,
    device: Device,
    in_half: bool,
    native: Native,
) -> Result<Precision> {
    let precision = match request {
        PrecisionRequest::Exactly(precision) => precision,
        PrecisionRequest::Auto => match device {
            Device::Cuda(_) if in_half => Precision::F16,
            Device::Cuda(_) => Precision::Bf16,
            Device::Cpu if native.bf16 == Support::Fast => Precision::Bf16,
            _ => Precision::F32,
        },
    };
    let missing = match (precision, device) {
        (Precision::F32, _) | (Precision::F16 | Precision::Bf16, Device::Cuda(_)) => {
            return Ok(precision);
        }
        (Precision::Bf16, Device::Cpu) if native.bf16 != Support::No => return Ok(precision),
        (Precision::Int8, Device::Cpu) if native.int8 => return Ok(precision),
        (Precision::Bf16, Device::Cpu) => {
            "this processor has no instructions for it (AVX512_BF16 or AMX, on Linux)"
        }
        (Precision::Int8, Device::Cpu) => {
            "this processor has no instructions for it (AVX512_VNNI or AVX_VNNI, on Linux)"
        }
        (Precision::F16, Device::Cpu) => "it is for GPUs",
        _ => "CUDA devices compute in f32, f16 or bf16, Apple's in f32 only",
    };
    Err(Error::new(
        ErrorKind::DeviceUnavailable,
        format!(
            "precision {} is not available on {}: {missing}; precision auto takes the fastest there is",
            precision.name(),
            device::name(device)
        ),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NONE: Native = Native { bf16: Support::No, int8: false };
    const ALL: Native = Native { bf16: Support::Fast, int8: true };

    #[test]
    fn auto_takes_what_the_device_multiplies_fastest() {
        let auto =
            |device, native| choose_with(PrecisionRequest::Auto, device, true, native).unwrap();
        assert_eq!(auto(Device::Cpu, NONE), Precision::F32);
        assert_eq!(auto(Device::Cpu, ALL), Precision::Bf16);
        let slow = Native { bf16: Support::Slow, ..ALL };
        assert_eq!(auto(Device::Cpu, slow), Precision::F32);
        assert!(choose_with("bf16".parse().unwrap(), Device::Cpu, true, slow).is_ok());
        assert_eq!(auto(Device::Cuda(0), NONE), Precision::F16);
        assert_eq!(auto(Device::Mps, ALL), Precision::F32);
        let bf16 = choose_with(PrecisionRequest::Auto, Device::Cuda(0), false, NONE).unwrap();
        assert_eq!(bf16, Precision::Bf16);
    }

    #[test]
    fn what_would_be_slower_is_refused_with_the_reason() {
        for (precision, device, native, reason) in [
            ("bf16", Device::Cpu, NONE, "AVX512_BF16"),
            ("int8", Device::Cpu, NONE, "AVX512_VNNI"),
            ("f16", Device::Cpu, ALL, "for GPUs"),
            ("int8", Device::Cuda(0), ALL, "compute in f32"),
            ("bf16", Device::Mps, ALL, "compute in f32"),
        ] {
            let error = choose_with(precision.parse().unwrap(), device, true, native).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DeviceUnavailable);
            let message = error.to_string();
            assert!(message.contains(reason) && message.contains("precision auto"), "{message}");
        }
        let error = "fp16".parse::<PrecisionRequest>().unwrap_err();
        assert!(error.to_string().contains("f32, bf16, f16, int8, auto"), "{error}");
    }

    #[test]
    fn every_name_is_read_back() {
        for precision in [Precision::F32, Precision::Bf16, Precision::F16, Precision::Int8] {
            let request: PrecisionRequest = precision.name().parse().unwrap();
            assert_eq!(request, PrecisionRequest::Exactly(precision));
        }
    }
}
