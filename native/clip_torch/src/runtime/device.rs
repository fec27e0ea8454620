//! Where the encoders run.

use std::error::Error as _;
use std::sync::OnceLock;

use tch::Device;

use crate::error::{Error, ErrorKind, Result, guarded};

/// The device that a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceRequest {
    /// The first CUDA device, else Apple's GPU, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
    /// Apple's GPU.
    Mps,
}

impl std::str::FromStr for DeviceRequest {
    type Err = Error;

    /// `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "mps" => Ok(Self::Mps),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidArgument,
                        format!("expected a device (auto, cpu, cuda, cuda:1, mps), got {name:?}"),
                    )
                }),
        }
    }
}

/// The device that was chosen, and why if it was not the obvious one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Where the encoders run.
    pub device: Device,
    /// What kept [`DeviceRequest::Auto`] from a GPU.
    pub note: Option<String>,
}

/// Finds the device for a request. An explicit one that is not there is an error.
pub fn choose(request: DeviceRequest) -> Result<Chosen> {
    let found = |device| Ok(Chosen { device, note: None });
    match request {
        DeviceRequest::Cpu => found(Device::Cpu),
        DeviceRequest::Cuda(index) => {
            let count =
                cuda_devices().map_err(|why| unavailable(&format!("cuda:{index}"), &why))?;
            if index < count {
                found(Device::Cuda(index))
            } else {
                Err(unavailable(&format!("cuda:{index}"), &format!("there are {count} devices")))
            }
        }
        DeviceRequest::Mps if has_mps() => found(Device::Mps),
        DeviceRequest::Mps => Err(unavailable("mps", "this libtorch has no Metal support")),
        DeviceRequest::Auto => match cuda_devices() {
            Ok(_) => found(Device::Cuda(0)),
            Err(_) if has_mps() => found(Device::Mps),
            Err(why) => Ok(Chosen { device: Device::Cpu, note: Some(format!("no GPU: {why}")) }),
        },
    }
}

/// Names of the devices that [`choose`] accepts here.
pub fn available() -> Vec<String> {
    let mut names = vec!["cpu".to_owned()];
    names.extend((0..cuda_devices().unwrap_or(0)).map(|index| format!("cuda:{index}")));
    names.extend(has_mps().then(|| "mps".to_owned()));
    names
}

/// A device's name as callers write it.
pub fn name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        Device::Vulkan => "vulkan".to_owned(),
    }
}

/// Number of CUDA devices, at least 1, or what is missing.
fn cuda_devices() -> Result<usize, String> {
    open_cuda()?;
    let count = guarded("asking CUDA for its devices", ErrorKind::DeviceUnavailable, || {
        Ok(if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 })
    });
    match count.map(usize::try_from) {
        Ok(Ok(count)) if count > 0 => Ok(count),
        Ok(_) => {
            let hidden = std::env::var_os("CUDA_VISIBLE_DEVICES")
                .map(|devices| format!("CUDA_VISIBLE_DEVICES is {devices:?}"));
            let why = hidden.unwrap_or_else(|| "is the driver installed?".to_owned());
            Err(format!("libtorch finds no CUDA device ({why})"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn has_mps() -> bool {
    guarded("asking for Metal", ErrorKind::DeviceUnavailable, || Ok(tch::utils::has_mps()))
        .unwrap_or(false)
}

/// Opens libtorch's CUDA half if it lies beside the CPU half, once.
///
/// Binaries link the CPU half alone, so that one binary runs with either; opening the other
/// registers its kernels with the dispatcher.
fn open_cuda() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED
        .get_or_init(|| {
            if !cfg!(target_os = "linux") {
                return Err("this libtorch has no CUDA support".to_owned());
            }
            open_library("libtorch_cuda.so").map_err(|why| {
                if why.contains("libtorch_cuda.so: cannot open shared object file") {
                    "this libtorch is the CPU build (LIBTORCH_VARIANT=cuda installs the other)"
                        .to_owned()
                } else {
                    format!("libtorch_cuda.so cannot be opened: {why}")
                }
            })
        })
        .clone()
}

#[allow(unsafe_code)]
fn open_library(name: &str) -> Result<(), String> {
    // SAFETY: opening a library runs its initialisers. This one is part of the libtorch that is
    // loaded already, from the same folder (the loader searches our own rpath), and its
    // initialisers do nothing but register kernels. It is never closed.
    let library = unsafe { libloading::Library::new(name) };
    // The error says "dlopen failed", its source says why.
    let why = |e: libloading::Error| e.source().map_or_else(|| e.to_string(), ToString::to_string);
    let library = library.map_err(why)?;
    std::mem::forget(library);
    Ok(())
}

fn unavailable(device: &str, why: &str) -> Error {
    Error::new(
        ErrorKind::DeviceUnavailable,
        format!("device {device} is not available: {why}; device auto takes what there is"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_is_named() {
        let why = open_library("libclip-no-such.so").unwrap_err();
        assert!(why.contains("libclip-no-such.so"), "{why}");
    }

    #[test]
    fn a_gpu_of_the_cpu_build_is_an_error_with_a_way_out() {
        if let Err(why) = open_cuda() {
            assert!(why.contains("LIBTORCH_VARIANT=cuda") || why.contains(" no CUDA "), "{why}");
        }
        match choose(DeviceRequest::Cuda(99)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::DeviceUnavailable, "{error}"),
            Ok(chosen) => panic!("{chosen:?}"),
        }
    }
}
