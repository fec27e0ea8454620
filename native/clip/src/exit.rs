//! The end of the process while a model is at work.
//!
//! `exit` runs libtorch's static destructors. A thread that is inside libtorch at that moment uses
//! what they destroy, and the process ends with a signal instead of its exit code.

use std::sync::{Once, PoisonError, RwLock, RwLockReadGuard};

static AT_WORK: RwLock<()> = RwLock::new(());

/// Held by the inference threads while they are inside libtorch.
pub(crate) fn at_work() -> RwLockReadGuard<'static, ()> {
    AT_WORK.read().unwrap_or_else(PoisonError::into_inner)
}

/// Makes `exit` wait until no inference thread is at work, and lets none begin again.
///
/// To be called when libtorch has been used: handlers run in reverse order, so that this one comes
/// before the destructors of everything that was set up earlier.
#[allow(unsafe_code)]
pub(crate) fn wait_at_exit() {
    static REGISTERED: Once = Once::new();
    // SAFETY: the handler touches nothing but a static lock. Where it cannot be registered, the
    // process ends as it would without it.
    REGISTERED.call_once(|| unsafe {
        libc::atexit(wait);
    });
}

extern "C" fn wait() {
    // Never given back.
    std::mem::forget(AT_WORK.write().unwrap_or_else(PoisonError::into_inner));
}
