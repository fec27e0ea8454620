//! libtorch without what training needs.

#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ptr;

use crate::cpp::taken;
use crate::error::Result;

/// PyTorch's guard, which tch does not bind.
#[repr(C)]
struct Guard {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn image_zero_shot_begin_inference(error: *mut *mut c_char) -> *mut Guard;
    fn image_zero_shot_end_inference(guard: *mut Guard);
}

/// While it lives, this thread keeps nothing for gradients, and operations skip what would. It is not `Send`.
pub(crate) struct InferenceMode(*mut Guard);

impl InferenceMode {
    pub(crate) fn begin() -> Result<Self> {
        let mut error = ptr::null_mut();
        // SAFETY: the function writes to `error` alone.
        let guard = unsafe { image_zero_shot_begin_inference(&raw mut error) };
        if guard.is_null() { Err(taken(error)) } else { Ok(Self(guard)) }
    }
}

impl Drop for InferenceMode {
    fn drop(&mut self) {
        // SAFETY: C++ made it on this thread, and it is used nowhere else.
        unsafe { image_zero_shot_end_inference(self.0) };
    }
}
