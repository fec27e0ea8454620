//! The pages of memory that pixels lie in.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;

/// Shorter memory is not worth a system call.
#[cfg(target_os = "linux")]
const LEAST: usize = 4 << 20;

/// Asks for pages of 2 MB: a photo of 12 megapixels lies in 9,000 pages of 4 KB, and to touch those takes a fifth of the
/// time of decoding and resizing it (bench/README.md). Where the system has no large pages to give, all is as without.
#[cfg(target_os = "linux")]
pub(super) fn advise_large(memory: &mut [MaybeUninit<u8>]) {
    use rustix::mm::{Advice, madvise};

    if memory.len() < LEAST {
        return;
    }
    // The call takes whole pages.
    let page = rustix::param::page_size();
    let start = memory.as_mut_ptr().cast::<u8>();
    let before = start.align_offset(page);
    let length = (memory.len() - before.min(memory.len())) / page * page;
    // SAFETY: these pages are a part of the memory, and the advice does not change their content.
    let _ = unsafe { madvise(start.add(before).cast(), length, Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
pub(super) fn advise_large(_memory: &mut [MaybeUninit<u8>]) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_lies_there_stays() {
        for (from, length) in [(0, 0), (1, 100), (1, LEAST - 1), (7, LEAST + 4000)] {
            let mut memory = vec![MaybeUninit::new(5u8); from + length];
            advise_large(&mut memory[from..]);
            // SAFETY: all of it was written above.
            assert!(memory.iter().all(|byte| unsafe { byte.assume_init() } == 5));
        }
    }
}
