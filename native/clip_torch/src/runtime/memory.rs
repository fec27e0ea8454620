//! What the allocator does with memory that libtorch frees.

/// Blocks up to this size come from the heap and not from the system each for itself, and so much
/// may lie free at the end of a heap. glibc's own upper bound for the first.
const KEPT: libc::c_int = 32 * 1024 * 1024;

/// glibc's own bound where nothing has set one.
const FROM_THE_SYSTEM: libc::c_int = 128 * 1024;

/// Lets the allocator keep what a pass frees for the next one.
///
/// A pass needs some hundred blocks of 0.1 to 10 MB. glibc learns by itself not to fetch such blocks
/// from the system and give them back each time, unless a program has set any of its thresholds,
/// and the Erlang VM sets one: then every pass pays for every page anew, a quarter of its time.
pub(crate) fn keep_what_is_freed() {
    set_thresholds(KEPT);
}

/// Lets large blocks come from the system each for itself, while a model is loaded: plain weights, freed between
/// packed ones, would leave holes of a third of the model. Passes of other models are slower
/// meanwhile.
pub(crate) fn take_from_the_system() {
    set_thresholds(FROM_THE_SYSTEM);
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
