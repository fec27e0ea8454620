//! The end of the process while a model is at work.
//!
//! `exit` runs libtorch's static destructors. A thread that is inside libtorch at that moment uses
//! what they destroy, and the process ends with a signal instead of its exit code. So on Linux, where a
//! handler is told the exit code, a process with threads at work ends without destructors; elsewhere `exit`
//! waits for those threads.
//!
//! The first use of libtorch may come when `exit` runs destructors already, and its handler would run after them. So on
//! Linux one handler is registered when this library is loaded, and lets no thread begin.
//!
//! Handlers and destructors run in reverse order, and libtorch registers destructors at the first use
//! of a part. Not covered is an `exit` in the microseconds after libtorch registers a destructor and before the
//! next handler is registered.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

static AT_WORK: RwLock<()> = RwLock::new(());
static ENDING: AtomicBool = AtomicBool::new(false);

/// Handlers that are registered at most. After so many steps libtorch is set up.
const MAX_HANDLERS: u32 = 256;

/// How often [`prepare_during`] registers a handler, and how many it registers at most: 0.8 seconds
/// of them, where setting libtorch up took 0.1 to 0.3 (a load may take longer, but by then libtorch is set up).
const SETUP_INTERVAL: Duration = Duration::from_micros(200);
const MAX_SETUP_HANDLERS: u32 = 4096;

thread_local! {
    static UNTIL_THE_END: RefCell<Option<RwLockReadGuard<'static, ()>>> =
        const { RefCell::new(None) };
}

/// Held by a thread while it is inside libtorch. Once the process ends, it never comes.
pub(crate) fn at_work() -> RwLockReadGuard<'static, ()> {
    let guard = AT_WORK.read().unwrap_or_else(PoisonError::into_inner);
    if !ENDING.load(Ordering::SeqCst) {
        return guard;
    }
    drop(guard);
    loop {
        thread::park();
    }
}

/// To be called at the start of a thread that [`leave`] ends, before it uses libtorch: what is a
/// thread's own is destroyed in reverse order, and the guard is to go last.
pub(crate) fn enter() {
    UNTIL_THE_END.with_borrow_mut(|guard| *guard = None);
}

/// Makes the thread be at work until it has ended: what libtorch keeps for each thread is destroyed
/// after the thread's function.
pub(crate) fn leave() {
    let at_work = at_work();
    UNTIL_THE_END.with_borrow_mut(|guard| *guard = Some(at_work));
}

/// Makes `exit` heed the threads at work, and lets none begin again.
///
/// To be called before libtorch is used, and again after something was done for the first time.
pub(crate) fn prepare() {
    static HANDLERS: AtomicU32 = AtomicU32::new(0);
    if HANDLERS.fetch_add(1, Ordering::Relaxed) < MAX_HANDLERS {
        platform::register();
    } else {
        HANDLERS.store(MAX_HANDLERS, Ordering::Relaxed);
    }
}

/// Runs `setup`, and does what [`prepare`] does again and again meanwhile: libtorch registers
/// destructors on the way, uses what they destroy for tens of milliseconds, and tells nobody.
pub(crate) fn prepare_during<T>(setup: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let over = || done.load(Ordering::Relaxed) || ENDING.load(Ordering::Relaxed);
    thread::scope(|scope| {
        // Without the thread all goes on as with `prepare` alone.
        let _ = thread::Builder::new().name("clip-exit".to_owned()).spawn_scoped(scope, || {
            for _ in (0..MAX_SETUP_HANDLERS).take_while(|_| !over()) {
                platform::register();
                thread::sleep(SETUP_INTERVAL);
            }
        });
        let result = setup();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
mod platform {
    use std::ffi::{c_int, c_void};
    use std::ptr;
    use std::sync::{Once, TryLockError};

    use super::{AT_WORK, AtomicBool, ENDING, Ordering};

    unsafe extern "C" {
        /// glibc's `atexit` that is told the status.
        fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }

    pub(super) fn register() {
        static STAYS: Once = Once::new();
        STAYS.call_once(stay);
        // SAFETY: the handler uses statics of this library, which stays. Where it cannot be
        // registered, the process ends as it would without it.
        unsafe {
            on_exit(end, ptr::null_mut());
        }
    }

    /// Keeps the library that holds this code in the process: unlike `atexit`'s, a handler of
    /// `on_exit` is not forgotten when its library is closed.
    fn stay() {
        // SAFETY: the address is one of our own, the answer is read where there is one, and the
        // name in it lives as long as the library, which is open. Of a program there is nothing
        // to keep, and `dlopen` refuses it.
        unsafe {
            let mut library: libc::Dl_info = std::mem::zeroed();
            if libc::dladdr(end as *const c_void, &raw mut library) != 0 {
                let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                libc::dlopen(library.dli_fname, flags);
            }
        }
    }

    /// Runs when this library is loaded, which is before anything in it is used.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static LOADED: extern "C" fn() = loaded;

    extern "C" fn loaded() {
        // SAFETY: the handler touches nothing but a static, and is forgotten when this library is closed.
        unsafe {
            libc::atexit(begin_no_more);
        }
    }

    /// The last of our handlers. A thread that is at work when it runs has registered [`end`] before, which still runs
    /// before any destructor.
    extern "C" fn begin_no_more() {
        ENDING.store(true, Ordering::SeqCst);
    }

    extern "C" fn end(status: c_int, _: *mut c_void) {
        static HAS_RUN: AtomicBool = AtomicBool::new(false);
        if HAS_RUN.swap(true, Ordering::SeqCst) {
            // Registered more than once, and the threads have stopped.
            return;
        }
        ENDING.store(true, Ordering::SeqCst);
        match AT_WORK.try_write() {
            // Nobody begins again: the destructors may run.
            Ok(_) | Err(TryLockError::Poisoned(_)) => return,
            Err(TryLockError::WouldBlock) => {}
        }
        // SAFETY: both are calls without conditions. What is skipped is what must not run.
        unsafe {
            libc::fflush(ptr::null_mut());
            libc::_exit(status);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[allow(unsafe_code)]
mod platform {
    use super::{AT_WORK, ENDING, Ordering, PoisonError};

    pub(super) fn register() {
        // SAFETY: the handler touches nothing but statics. Where it cannot be registered, the
        // process ends as it would without it.
        unsafe {
            libc::atexit(wait);
        }
    }

    extern "C" fn wait() {
        ENDING.store(true, Ordering::SeqCst);
        drop(AT_WORK.write().unwrap_or_else(PoisonError::into_inner));
    }
}
