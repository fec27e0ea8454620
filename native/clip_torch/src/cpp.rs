//! How our C++ answers: with an object, or with an error's message (`cpp.h`).

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::error::{Error, ErrorKind, Result};

/// A tensor that C++ made, or its error.
pub(crate) fn owned(tensor: *mut C_tensor, error: *mut c_char) -> Result<Tensor> {
    if tensor.is_null() {
        return Err(taken(error));
    }
    // SAFETY: C++ made it with `new` and keeps no pointer to it.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

/// An error with a message that C++ allocated.
pub(crate) fn taken(message: *mut c_char) -> Error {
    if message.is_null() {
        return Error::new(ErrorKind::Torch, "libtorch gave neither a result nor an error");
    }
    // SAFETY: C++ made it with `strdup` and keeps no pointer to it.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        libc::free(message.cast());
        text
    };
    tch::TchError::Torch(text).into()
}
