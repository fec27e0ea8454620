//! Feeds a parser with damaged files: `fuzz TARGET COUNT [SEED]`. See `bin/fuzz`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use fuzz::session::{Report, run};
use fuzz::{TARGETS, target};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (name, count, seed) = match arguments[..] {
        [name, count] => (name, count.parse(), Ok(1)),
        [name, count, seed] => (name, count.parse(), seed.parse()),
        _ => return usage(),
    };
    let (Some(target), Ok(count), Ok(seed)) = (target(name), count, seed) else { return usage() };

    let last = fuzz::scratch().join("input");
    eprintln!("{name}: seed {seed}; if the process ends, its last input is {}", last.display());
    let start = Instant::now();
    let tell = move |report: &Report| eprintln!("{}", line(target.name, report, start));
    let result = run(target, count, seed, &last, tell);
    let status = match result {
        Ok(report) => {
            println!("{}", line(name, &report, start));
            ExitCode::SUCCESS
        }
        Err(fault) => {
            let kept = PathBuf::from(format!("fuzz-{name}-{seed}.input"));
            std::fs::copy(&fault.input, &kept).unwrap();
            eprintln!("{name}: {}; the input is {}", fault.why, kept.display());
            ExitCode::FAILURE
        }
    };
    std::fs::remove_dir_all(fuzz::scratch()).unwrap();
    status
}

fn line(name: &str, report: &Report, start: Instant) -> String {
    let seconds = start.elapsed().as_secs_f64();
    format!(
        "{name}: {} executions in {seconds:.0} s ({:.0} a second), {} sound, {} outcomes, \
        slowest {} ms, most memory {:.1} MB",
        report.executions,
        report.executions as f64 / seconds,
        report.sound,
        report.outcomes,
        report.slowest.as_millis(),
        report.peak as f64 / 1e6
    )
}

fn usage() -> ExitCode {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!("expected TARGET COUNT [SEED], where TARGET is one of {}", names.join(", "));
    ExitCode::from(2)
}
