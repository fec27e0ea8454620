//! Which library multiplies the matrices.
//!
//! libtorch's `linear` calls the BLAS that libtorch is built with, on x86 MKL, which keeps its best
//! kernels for Intel's processors. libtorch comes with oneDNN too, which is faster on others: 1.2 to
//! 1.3 times for a picture alone on an AMD EPYC (bench/README.md).
//!
//! libtorch has an operator for it, `mkldnn::_linear_pointwise`, but tch does not bind it, and
//! tracing does not know the type of one of its arguments. So a tower is traced with `linear`, and
//! the code of the written module is changed, which is text.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use tch::{Device, Tensor};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::error::{Error, ErrorKind, Result};

/// Where a module's code is in its archive, behind the archive's own name.
const CODE: &str = "code/__torch__.py";

const LINEAR: &str = "torch.linear(";

/// What takes the place of `torch.linear`: a function of this name beside the module.
const REPLACEMENT: &str = "__torch__.linear(";
const FUNCTION: &str = r#"def linear(input: Tensor,
    weight: Tensor,
    bias: Optional[Tensor]=None) -> Tensor:
  none = annotate(List[Optional[number]], [])
  return ops.mkldnn._linear_pointwise(input, weight, bias, "none", none, "")
"#;

/// A way to multiply matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matmul {
    /// As libtorch's `linear` does it on the device.
    Linear,
    /// oneDNN, on a CPU.
    OneDnn,
}

impl Matmul {
    /// The fastest way on a device of this machine.
    pub(crate) fn fastest(device: Device) -> Self {
        if device == Device::Cpu && onednn_is_faster() { Self::OneDnn } else { Self::Linear }
    }

    /// The way that is not this one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Linear => Self::OneDnn,
            Self::OneDnn => Self::Linear,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::OneDnn => "onednn",
        }
    }

    /// A weight of shape `[out, in]` in the order in memory that suits.
    ///
    /// The transpose's for MKL: it multiplies 16 to 50 rows (a few labels, a picture) 1.2 to 1.3
    /// times as fast that way and hundreds no slower, but takes 1.2 times as long for fewer than 13
    /// (a lone label). oneDNN takes 1.2 times as long that way for up to 200 rows.
    pub(crate) fn arrange(self, weight: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Linear => weight.f_transpose(0, 1)?.f_contiguous()?.f_transpose(0, 1)?,
            Self::OneDnn => weight.f_contiguous()?,
        })
    }

    /// Makes a module that was saved multiply this way.
    pub(crate) fn apply(self, module: &Path) -> Result<()> {
        match self {
            Self::Linear => Ok(()),
            Self::OneDnn => {
                let change = |code: &str| FUNCTION.to_owned() + &code.replace(LINEAR, REPLACEMENT);
                change_code(module, change).map_err(|e| {
                    let message = format!("cannot change the code of {}: {e}", module.display());
                    Error::new(ErrorKind::Io, message).with_source(e)
                })
            }
        }
    }
}

/// Whether libtorch is built with MKL, and the processor is not one that MKL is made for.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn onednn_is_faster() -> bool {
    let vendor = raw_cpuid::CpuId::new().get_vendor_info();
    vendor.is_some_and(|vendor| vendor.as_str() != "GenuineIntel")
}

/// Builds for other processors have other libraries, and those for macOS have no oneDNN.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn onednn_is_faster() -> bool {
    false
}

/// Changes the code in an archive of TorchScript.
fn change_code(path: &Path, change: impl Fn(&str) -> String) -> io::Result<()> {
    let mut old = ZipArchive::new(File::open(path)?)?;
    let changed = path.with_extension("changed");
    let mut new = ZipWriter::new(BufWriter::new(File::create(&changed)?));
    for index in 0..old.len() {
        let entry = old.by_index_raw(index)?;
        let name = entry.name().to_owned();
        if name.ends_with(CODE) {
            drop(entry);
            let mut code = String::new();
            old.by_index(index)?.read_to_string(&mut code)?;
            new.start_file(
                name,
                FileOptions::default().compression_method(CompressionMethod::Stored),
            )?;
            new.write_all(change(&code).as_bytes())?;
        } else if !name.ends_with(".debug_pkl") {
            // Where the old code came from is left out: the new one's lines are others.
            new.raw_copy_file(entry)?;
        }
    }
    new.finish()?.into_inner()?;
    fs::rename(changed, path)
}

/// The code in an archive of TorchScript.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) fn code(path: &Path) -> String {
    let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
    let name = archive.file_names().find(|name| name.ends_with(CODE)).unwrap().to_owned();
    let mut code = String::new();
    archive.by_name(&name).unwrap().read_to_string(&mut code).unwrap();
    code
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tch::{CModule, Kind};

    use super::*;
    use crate::encoders::cache::unfinished;

    #[test]
    #[cfg_attr(target_os = "macos", ignore = "libtorch has no oneDNN there")]
    fn a_module_is_changed_and_gives_the_same() {
        let _no_grad = tch::no_grad_guard();
        let random = |shape: &[i64]| Tensor::f_randn(shape, (Kind::Float, Device::Cpu)).unwrap();
        let (weight, bias, input) = (random(&[8, 4]), random(&[8]), random(&[3, 4]));
        let module = CModule::create_by_tracing("M", "forward", &[random(&[2, 4])], &mut |x| {
            let biased = x[0].f_linear(&weight, Some(&bias)).unwrap();
            let plain = x[0].f_linear(&weight, None::<&Tensor>).unwrap();
            vec![biased.f_mul(&plain).unwrap()]
        });
        let folder = unfinished(&std::env::temp_dir(), "clip-matmul").unwrap();
        let path = folder.path().join("module.pt");
        module.unwrap().save(&path).unwrap();
        assert_eq!(code(&path).matches("torch.linear(").count(), 2);
        let before = CModule::load(&path).unwrap().forward_ts(&[&input]).unwrap();

        Matmul::OneDnn.apply(&path).unwrap();
        let changed = code(&path);
        assert_eq!(changed.matches(REPLACEMENT).count(), 2);
        assert!(!changed.replace(REPLACEMENT, "").contains(LINEAR));
        let after = CModule::load(&path).unwrap().forward_ts(&[&input]).unwrap();
        assert!(before.f_allclose(&after, 1e-6, 1e-6, false).unwrap());
    }

    #[test]
    fn a_gpu_multiplies_as_libtorch_does() {
        assert_eq!(Matmul::fastest(Device::Cuda(0)), Matmul::Linear);
    }

    #[test]
    fn what_is_no_archive_is_named() {
        let folder = unfinished(&std::env::temp_dir(), "clip-matmul").unwrap();
        let path = folder.path().join("module.pt");
        fs::write(&path, "no archive").unwrap();
        let error = Matmul::OneDnn.apply(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("module.pt"), "{error}");
    }
}
