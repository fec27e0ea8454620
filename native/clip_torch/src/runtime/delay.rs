//! How long threads wait for a core.

use std::fs::File;
use std::io;
use std::time::Duration;

/// The threads of this process that have one name. Where the system does not tell, there are none.
#[derive(Debug)]
pub(crate) struct Delays(Vec<File>);

impl Delays {
    pub(crate) fn of(name: &str) -> Self {
        Self(find(name).unwrap_or_default())
    }

    /// How long each has waited in its life.
    pub(crate) fn read(&self) -> Vec<Duration> {
        self.0.iter().map(|thread| waited(thread).unwrap_or_default()).collect()
    }
}

/// Linux only, and there only with `CONFIG_SCHED_INFO`.
#[cfg(target_os = "linux")]
fn find(name: &str) -> io::Result<Vec<File>> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?.path();
        if std::fs::read_to_string(thread.join("comm"))?.trim_end() == name {
            found.push(File::open(thread.join("schedstat"))?);
        }
    }
    Ok(found)
}

#[cfg(not(target_os = "linux"))]
fn find(_name: &str) -> io::Result<Vec<File>> {
    Ok(Vec::new())
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
