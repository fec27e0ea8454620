//! Who goes first where there are more threads than cores.

/// What `nice` adds. Under full load the model gets what cores the rest of the process leaves.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 15;

/// Lets the other threads of the process go before this one, and before those that it starts.
///
/// The work here takes all cores for as long as there is any. The schedulers of an Erlang VM, which
/// have little to do at a time, would wait for their turn among the threads that do it.
pub fn step_back() {
    // Elsewhere a niceness is the whole process's.
    #[cfg(target_os = "linux")]
    {
        // A process in the background may have more already, and none may take it back.
        // Where the system forbids it, all goes on as it was.
        let _ = rustix::process::nice(NICENESS);
    }
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
    fn one_thread_steps_back_and_those_that_it_starts_but_no_other() {
        let before = niceness();
        let child = || {
            step_back();
            (niceness(), spawn(niceness).join().unwrap())
        };
        let expected = (before + NICENESS).min(19);
        assert_eq!(spawn(child).join().unwrap(), (expected, expected));
        assert_eq!(niceness(), before);
    }
}
