//! Scheduling priorities of threads.

/// What `nice` adds for threads that keep all cores busy as long as there is work. Under full load they
/// get what cores the rest of the process leaves.
pub const BULK: i32 = 15;
/// What it adds for threads whose work is short.
pub const SERVING: i32 = 5;

/// Lowers the scheduling priority of this thread and of the threads it spawns.
///
/// The schedulers of an Erlang VM, which run for a short time each, must not wait behind them.
pub fn lower_priority(niceness: i32) {
    // On other systems a niceness belongs to the whole process.
    #[cfg(target_os = "linux")]
    {
        // A niceness can only grow: a process in the background may have more already. If the
        // system forbids it, the priority stays as it was.
        let _ = rustix::process::nice(niceness);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = niceness;
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::thread::spawn;

    use super::*;

    fn niceness() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[test]
    fn a_thread_and_those_that_it_spawns_get_a_lower_priority_and_no_other() {
        let before = niceness();
        let child = || {
            lower_priority(BULK);
            (niceness(), spawn(niceness).join().unwrap())
        };
        let expected = (before + BULK).min(19);
        assert_eq!(spawn(child).join().unwrap(), (expected, expected));
        assert_eq!(niceness(), before);
    }
}
