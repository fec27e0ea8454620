//! How long threads wait for a core.

use std::fs::File;
use std::time::Duration;

/// Most threads that are watched, as each takes a file descriptor. A larger team is judged by these.
const MAX_WATCHED: usize = 16;

/// The threads of this process that have one name. Where the system does not tell, there are none.
#[derive(Debug)]
pub(crate) struct Delays(Vec<File>);

impl Delays {
    pub(crate) fn of(name: &str) -> Self {
        Self(find(name).take(MAX_WATCHED).collect())
    }

    /// How long each has waited in its life.
    pub(crate) fn read(&self) -> Vec<Duration> {
        self.0.iter().map(|thread| waited(thread).unwrap_or_default()).collect()
    }
}

/// Linux only, and there only with `CONFIG_SCHED_INFO`. Other threads may end meanwhile.
#[cfg(target_os = "linux")]
fn find(name: &str) -> impl Iterator<Item = File> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(move |thread| {
        let thread = thread.path();
        let comm = std::fs::read_to_string(thread.join("comm")).ok()?;
        if comm.trim_end() == name { File::open(thread.join("schedstat")).ok() } else { None }
    })
}

#[cfg(not(target_os = "linux"))]
fn find(_name: &str) -> impl Iterator<Item = File> {
    std::iter::empty()
}

/// Of the file's three numbers the second: nanoseconds in a run queue.
#[cfg(unix)]
fn waited(thread: &File) -> Option<Duration> {
    use std::os::unix::fs::FileExt;
    let mut line = [0; 64];
    let length = thread.read_at(&mut line, 0).ok()?;
    let numbers = std::str::from_utf8(&line[..length]).ok()?;
    let waited = numbers.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Duration::from_nanos(waited))
}

#[cfg(not(unix))]
fn waited(_thread: &File) -> Option<Duration> {
    None
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::{Builder, scope};

    use super::*;

    #[test]
    fn threads_of_a_name_are_found_while_others_come_and_go() {
        let over = AtomicBool::new(false);
        let churn = || {
            while !over.load(Ordering::Relaxed) {
                std::thread::spawn(|| ()).join().unwrap();
            }
        };
        scope(|scope| {
            let gates = [(), ()].map(|()| std::sync::mpsc::channel::<()>());
            for _ in 0..4 {
                scope.spawn(churn);
            }
            let gates = gates.map(|(gate, closed)| {
                let (ready, is_ready) = std::sync::mpsc::channel();
                let wait = move || {
                    let _ = ready.send(());
                    let _ = closed.recv();
                };
                Builder::new().name("delay-test".to_owned()).spawn_scoped(scope, wait).unwrap();
                is_ready.recv().unwrap();
                gate
            });
            let found: Vec<_> = (0..200).map(|_| Delays::of("delay-test").read().len()).collect();
            // Before any assertion, so that a failure ends the threads too.
            over.store(true, Ordering::Relaxed);
            drop(gates);
            assert_eq!(found, [2; 200]);
        });
        assert!(Delays::of("delay-test-none").read().is_empty());
    }
}
