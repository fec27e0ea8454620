//! Memory of tensors that are no longer needed.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Such memory, for new tensors of the same size: to touch new memory for each tensor took a third of a load's
/// time (bench/README.md).
#[derive(Debug, Default)]
pub(crate) struct Spare(RefCell<Vec<Tensor>>);

impl Spare {
    /// Takes a tensor of f32 on the CPU that nothing else refers to.
    pub(crate) fn put(&self, tensor: Tensor) {
        self.0.borrow_mut().push(tensor);
    }

    /// A tensor of so many numbers of f32, which may hold old ones.
    pub(crate) fn take(&self, numbers: usize) -> Result<Tensor> {
        let mut spare = self.0.borrow_mut();
        match spare.iter().position(|tensor| tensor.numel() == numbers) {
            Some(place) => Ok(spare.swap_remove(place).f_flatten(0, -1)?),
            None => Ok(Tensor::f_empty([numbers as i64], (Kind::Float, Device::Cpu))?),
        }
    }
}
