//! What libtorch sets up at its first use.

use clip::checkpoint::transformer::Activation;
use tch::{CModule, Device, Kind, Tensor};

use crate::encoders::cache::unfinished;
use crate::encoders::encoder::Parameters;
use crate::encoders::export::{IMAGE, trace};
use crate::error::Result;
use crate::runtime::precision::Precision;
use crate::towers::matmul::{self, Storage};

/// Sizes of products that come upon all kinds of kernels, from a label to some pictures, in small and in
/// large models.
const WARM_UP_WIDTHS: [i64; 2] = [128, 512];
const WARM_UP_ROWS: [i64; 4] = [1, 7, 50, 400];

/// Makes, writes, reads and runs a module of next to nothing, so that what libtorch sets up for
/// that is set up before [`prepare`](crate::runtime::exit::prepare) is called: with a model it takes longer.
///
/// It matters only to a process that ends while it loads or runs its first model.
pub(crate) fn warm_up() -> Result<()> {
    matmul::register()?;
    WARM_UP_WIDTHS.into_iter().try_for_each(warm_up_at)
}

fn warm_up_at(width: i64) -> Result<()> {
    let folder = unfinished(&std::env::temp_dir(), "clip-warm-up")?;
    let path = folder.path().join(IMAGE);
    let ones = |shape: &[i64]| Tensor::f_ones(shape, (Kind::Float, Device::Cpu));
    let storage = Storage { device: Device::Cpu, precision: Precision::F32 };
    let weight = storage.weight(&mut ones(&[width; 2])?)?;
    let bias = ones(&[width])?;
    let parameters = [&weight.values, &weight.scales, &bias].map(Tensor::shallow_clone);
    let parameters = Parameters::new(parameters.into());
    let module = trace("WarmUp", &[ones(&[2, width])?], &parameters, |x| {
        let x = matmul::linear(&x[0], &weight, Some(&bias), Some(Activation::QuickGelu), false)?;
        matmul::linear(&x, &weight, None, None, false)
    })?;
    crate::runtime::exit::prepare();
    module.save(&path)?;
    crate::runtime::exit::prepare();
    let module = CModule::load_on_device(&path, Device::Cpu)?;
    crate::runtime::exit::prepare();
    for rows in WARM_UP_ROWS {
        let x = ones(&[rows, width])?;
        let _ = module.forward_ts(&[&x, &weight.values, &weight.scales, &bias])?;
        crate::runtime::exit::prepare();
    }
    Ok(())
}
