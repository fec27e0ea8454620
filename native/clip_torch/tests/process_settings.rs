//! What another user of libtorch in the process, such as Torchx, may set for all of it.
//!
//! A program of its own, as the settings are the process's.

#![allow(clippy::unwrap_used, unsafe_code)]
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod support;

use std::ffi::{c_int, c_void};

use clip_torch::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, project};

// `Float32Backend`, `Float32Op` and `Float32Precision`.
const GENERIC: c_int = 0;
const MKLDNN: c_int = 2;
const ALL: c_int = 0;
const MATMUL: c_int = 3;
const NONE: c_int = 0;
const BF16: c_int = 3;

unsafe extern "C" {
    #[link_name = "_ZN2at13globalContextEv"]
    fn global_context() -> *mut c_void;
    #[link_name = "_ZN2at7Context19setFloat32PrecisionENS_14Float32BackendENS_9Float32OpENS_16Float32PrecisionE"]
    fn set_float32_precision(context: *mut c_void, backend: c_int, op: c_int, value: c_int);
    #[link_name = "_ZNK2at7Context16float32PrecisionENS_14Float32BackendENS_9Float32OpE"]
    fn float32_precision(context: *const c_void, backend: c_int, op: c_int) -> c_int;
}

fn set(backend: c_int, op: c_int, value: c_int) {
    unsafe { set_float32_precision(global_context(), backend, op, value) }
}

fn matmul() -> c_int {
    unsafe { float32_precision(global_context(), MKLDNN, MATMUL) }
}

fn embeddings(model: &Model) -> Vec<f32> {
    let size = 3 * model.info().image_size.pow(2);
    let pixels: Vec<u8> = (0..40 * size).map(|i| (i * i % 251) as u8).collect();
    let pictures: Vec<&[u8]> = pixels.chunks(size).collect();
    model.encode_images(&pictures).unwrap()
}

/// Only some processors (AMX) compute with fewer digits when they may. The settings are checked on all.
#[test]
fn f32_keeps_its_digits_and_the_process_its_settings() {
    let cache = Scratch::new();
    let options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
    let expected = embeddings(&model);
    let same = || {
        let found = embeddings(&model);
        let most = expected.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most <= 1e-6, "{most}");
    };

    set(MKLDNN, MATMUL, BF16);
    same();
    assert_eq!(matmul(), BF16);
    set(MKLDNN, MATMUL, NONE);

    // Inherited, it goes on following what it is inherited from.
    set(GENERIC, ALL, BF16);
    assert_eq!(matmul(), BF16);
    same();
    assert_eq!(matmul(), BF16);
    set(GENERIC, ALL, NONE);
    assert_ne!(matmul(), BF16);
}
