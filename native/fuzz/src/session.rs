//! A target and a number of inputs.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clip::error::caught;

use crate::memory::peak_of;
use crate::mutate::Mutator;
use crate::{Outcome, Target};

/// Processor time that one input may take: what a decode may by its budget, and a little.
const MAX_TIME: Duration = Duration::from_secs(11);
/// Longest message. It goes into logs.
const MAX_MESSAGE: usize = 2_000;
/// Most inputs that are kept because something new came of them.
const MAX_POOL: usize = 2_000;

/// What came of a session without a fault.
#[derive(Debug, Default)]
pub struct Report {
    /// Inputs that were parsed.
    pub executions: u64,
    /// Those of them that were taken as sound.
    pub sound: u64,
    /// Different outcomes, numbers in messages apart.
    pub outcomes: usize,
    /// The most processor time that one took.
    pub slowest: Duration,
    /// The most memory that one took, in bytes.
    pub peak: usize,
}

/// What went wrong.
#[derive(Debug)]
pub struct Fault {
    /// In words.
    pub why: String,
    /// Where the input lies.
    pub input: PathBuf,
}

/// Feeds `count` inputs to a target, on a thread with the stack that it is promised to need at most.
/// `told` hears of the report from time to time.
///
/// # Errors
/// The first fault. Where the whole process ends, by a signal or for lack of stack, `last` is the
/// input.
pub fn run(
    target: &'static Target,
    count: u64,
    seed: u64,
    last: &Path,
    told: impl Fn(&Report) + Send + 'static,
) -> Result<Report, Fault> {
    let path = last.to_owned();
    let session = move || Session::new(target, seed, path).run(count, told);
    let thread = std::thread::Builder::new().stack_size(target.stack).spawn(session).unwrap();
    thread.join().unwrap()
}

struct Session {
    target: &'static Target,
    mutator: Mutator,
    pool: Vec<Vec<u8>>,
    seen: HashSet<String>,
    last: (PathBuf, File),
    report: Report,
}

impl Session {
    fn new(target: &'static Target, seed: u64, last: PathBuf) -> Self {
        let pool = (target.seeds)();
        assert!(!pool.is_empty(), "{} has no seeds", target.name);
        let file = File::create(&last).unwrap();
        let mutator = Mutator::new(seed, &pool);
        let (seen, report) = Default::default();
        Self { target, mutator, pool, seen, last: (last, file), report }
    }

    fn run(mut self, count: u64, told: impl Fn(&Report)) -> Result<Report, Fault> {
        let seeds = self.pool.clone();
        for seed in &seeds {
            self.try_one(seed)?;
        }
        while self.report.executions < count {
            let mut bytes = self.mutator.input(&self.pool, seeds.len());
            if self.mutator.below(4) != 0 {
                (self.target.mend)(&mut bytes);
            }
            if self.try_one(&bytes)? && self.pool.len() < MAX_POOL {
                self.pool.push(bytes);
            }
            if self.report.executions.is_multiple_of(100_000) {
                told(&self.report);
            }
        }
        Ok(self.report)
    }

    /// Whether something came of it that never did before.
    fn try_one(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        self.last.1.set_len(bytes.len() as u64).unwrap();
        self.last.1.write_all_at(bytes, 0).unwrap();
        let checked = check(self.target, bytes);
        let checked = checked.map_err(|why| Fault { why, input: self.last.0.clone() })?;
        let report = &mut self.report;
        report.executions += 1;
        report.sound += u64::from(checked.is_sound);
        report.slowest = report.slowest.max(checked.time);
        report.peak = report.peak.max(checked.peak);
        let is_new = self.seen.insert(checked.signature);
        report.outcomes = self.seen.len();
        Ok(is_new)
    }
}

/// What came of one input without a fault.
#[derive(Debug)]
pub struct Checked {
    is_sound: bool,
    signature: String,
    time: Duration,
    peak: usize,
}

/// Feeds one input to a target.
///
/// # Errors
/// What the parser did that no parser may do.
pub fn check(target: &Target, bytes: &[u8]) -> Result<Checked, String> {
    let start = processor_time();
    let (result, peak) = peak_of(|| caught(|| (target.run)(bytes)));
    let time = processor_time() - start;
    let (is_sound, signature) = judge(target, result, time, peak)?;
    Ok(Checked { is_sound, signature, time, peak })
}

/// Whether the input was taken as sound, and what came of it.
fn judge(
    target: &Target,
    parsed: Result<Outcome, String>,
    time: Duration,
    peak: usize,
) -> Result<(bool, String), String> {
    let parsed = parsed.map_err(|panic| format!("a panic escaped: {panic}"))?;
    if time > MAX_TIME {
        return Err(format!("it took {time:?} of processor time"));
    }
    if peak > target.memory {
        return Err(format!("it took {peak} bytes of memory, more than {}", target.memory));
    }
    match parsed {
        Ok(what) => Ok((true, signature("sound", &what))),
        Err(("internal", message)) => Err(format!("it is called a fault of ours: {message}")),
        Err((_, message)) if message.is_empty() || message.len() > MAX_MESSAGE => {
            let start: String = message.chars().take(200).collect();
            Err(format!("its error has {} bytes: {start}", message.len()))
        }
        Err((kind, message)) => Ok((false, signature(kind, &message))),
    }
}

/// The words of a message, without the numbers, paths and names in it.
fn signature(kind: &str, message: &str) -> String {
    let words =
        message.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let plain = |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_alphabetic());
    let words: Vec<&str> = words.filter(plain).take(30).collect();
    format!("{kind} {}", words.join(" "))
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything.
    const TARGET: Target = Target {
        name: "test",
        seeds: || vec![b"abc".to_vec()],
        mend: |_| (),
        run: |bytes| Ok(bytes.len().to_string()),
        stack: 1 << 20,
        memory: 1 << 20,
    };

    fn fault(target: &'static Target) -> (String, Vec<u8>) {
        let last = std::env::temp_dir().join(format!("fuzz-{:p}-{}", target, std::process::id()));
        let fault = run(target, 10_000, 1, &last, |_| ()).unwrap_err();
        let input = std::fs::read(&fault.input).unwrap();
        std::fs::remove_file(&last).unwrap();
        (fault.why, input)
    }

    #[test]
    fn a_panic_is_a_fault_with_its_input() {
        static PANICS: Target = Target {
            run: |bytes| {
                assert!(bytes.first() == Some(&b'a'), "another byte");
                (TARGET.run)(bytes)
            },
            ..TARGET
        };
        let (why, input) = fault(&PANICS);
        assert!(why.starts_with("a panic escaped: another byte"), "{why}");
        assert_ne!(input.first(), Some(&b'a'));
    }

    #[test]
    fn memory_over_the_limit_is_a_fault() {
        static HOLDS: Target =
            Target { run: |bytes| Ok(vec![b'a'; bytes.len() << 20].len().to_string()), ..TARGET };
        assert!(fault(&HOLDS).0.starts_with("it took "));
    }

    #[test]
    fn a_long_message_and_an_internal_error_are_faults() {
        static SAYS_MUCH: Target =
            Target { run: |_| Err(("invalid", "word ".repeat(1_000))), ..TARGET };
        assert!(fault(&SAYS_MUCH).0.starts_with("its error has 5000 bytes: word word"));
        static INTERNAL: Target =
            Target { run: |_| Err(("internal", "panicked".to_owned())), ..TARGET };
        assert_eq!(fault(&INTERNAL).0, "it is called a fault of ours: panicked");
    }

    #[test]
    fn what_is_no_fault_is_counted() {
        let last = std::env::temp_dir().join(format!("fuzz-sound-{}", std::process::id()));
        static SOUND: Target = TARGET;
        let report = run(&SOUND, 500, 1, &last, |_| ()).unwrap();
        std::fs::remove_file(&last).unwrap();
        assert_eq!((report.executions, report.sound, report.outcomes), (500, 500, 1));
    }
}
