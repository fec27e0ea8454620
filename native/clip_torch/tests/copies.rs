//! How often pixels are copied, counted by what is allocated.
//!
//! A program of its own, as the allocator is the process's.

#![allow(clippy::unwrap_used, unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use clip_torch::{DeviceRequest, LoadOptions, Model};
use support::{Scratch, project};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which adds up what Rust asks it for.
struct Counting;

// SAFETY: it hands everything on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PICTURES: usize = 200;

/// libtorch allocates the tensors itself, so the one copy into them is not counted.
#[test]
fn pixels_are_copied_into_tensors_only() {
    let cache = Scratch::new();
    let options = LoadOptions::new(DeviceRequest::Cpu, cache.path());
    let model = Model::load(&project("priv/models/emoji-clip"), &options).unwrap();
    let size = 3 * model.info().image_size.pow(2);
    let pixels: Vec<u8> = (0..PICTURES * size).map(|i| (i * i % 251) as u8).collect();
    let (reply, answer) = channel();
    // As the bridge does it, where pictures are binaries of the VM.
    model
        .submit(move |inference| {
            let pictures: Vec<&[u8]> = pixels.chunks(size).collect();
            let before = ALLOCATED.load(Ordering::Relaxed);
            let rows = inference.encode_images(&pictures).unwrap();
            let allocated = ALLOCATED.load(Ordering::Relaxed) - before;
            move || reply.send((allocated, rows.len() * size_of::<f32>())).unwrap()
        })
        .unwrap();
    let (allocated, embeddings) = answer.recv().unwrap();
    // The embeddings of each pass, and of all; the rest does not grow with a picture's pixels.
    assert!(allocated >= 2 * embeddings);
    assert!(allocated < 2 * embeddings + PICTURES * size / 20, "{allocated} bytes");
}
