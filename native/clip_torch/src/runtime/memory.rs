//! What the allocator does with memory that libtorch frees.

use std::sync::{Mutex, PoisonError};

/// Blocks up to this size come from the heap and are not mapped one by one, and so much
/// may lie free at the end of a heap. glibc's own upper bound for the first.
const KEPT: libc::c_int = 32 * 1024 * 1024;

/// glibc's own bound where nothing has set one.
const MAPPED: libc::c_int = 128 * 1024;

/// Loads that run.
static LOADS: Mutex<u32> = Mutex::new(0);

/// While one lives, large blocks are mapped one by one. For loads: plain weights, freed between packed ones, would
/// leave holes of a third of the model. Passes of other models are slower meanwhile.
///
/// Afterwards the allocator keeps what a pass frees for the next one. A pass needs some hundred blocks of 0.1 to
/// 10 MB. glibc learns by itself not to fetch such blocks from the system and give them back each
/// time, unless a program has set any of its thresholds, and the Erlang VM sets one: then every
/// pass pays for every page anew, a quarter of its time.
pub(crate) struct MapLargeBlocks;

impl MapLargeBlocks {
    pub(crate) fn new() -> Self {
        let mut loads = LOADS.lock().unwrap_or_else(PoisonError::into_inner);
        *loads += 1;
        set_thresholds(MAPPED);
        Self
    }
}

impl Drop for MapLargeBlocks {
    fn drop(&mut self) {
        let mut loads = LOADS.lock().unwrap_or_else(PoisonError::into_inner);
        *loads -= 1;
        if *loads == 0 {
            set_thresholds(KEPT);
        }
    }
}

#[allow(unsafe_code)]
fn set_thresholds(bytes: libc::c_int) {
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = bytes;
    // SAFETY: it sets numbers that the allocator reads, under the allocator's lock.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    }
}

/// Gives freed memory back to the system. glibc keeps a third of a model otherwise, for the next
/// one.
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    // SAFETY: it looks through the allocator's own lists, under the allocator's locks.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
