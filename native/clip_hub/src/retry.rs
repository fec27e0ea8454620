//! Trying again what may succeed a little later: a bounded number of times, with growing pauses.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::options::Retries;
use crate::progress::{Progress, Reporter};

/// How often a caller hears of a pause, and can end it.
const TICK: Duration = Duration::from_millis(200);

/// Runs `attempt` until it succeeds, fails for good, or has failed often enough.
pub(crate) fn retrying<T>(
    retries: &Retries,
    file: &str,
    reporter: &mut Reporter<'_>,
    mut attempt: impl FnMut(&mut Reporter<'_>) -> Result<T>,
) -> Result<T> {
    let mut number = 1;
    loop {
        let error = match attempt(reporter) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(pause) = pause(retries, number, &error) else { return Err(error) };
        number += 1;
        log::debug!("{file}: attempt {number} in {pause:?} ({})", error.kind().as_str());
        sleep(pause, |pause| {
            reporter.tell(Progress::Retrying { file, attempt: number, pause, error: &error })
        })?;
    }
}

/// How long to wait before the next attempt, if there is to be one.
fn pause(retries: &Retries, number: u32, error: &Error) -> Option<Duration> {
    if number >= retries.attempts || !error.kind().is_transient() {
        return None;
    }
    if let Some(asked) = error.retry_after() {
        // A hub that asks for longer would refuse every earlier attempt: the caller has to know.
        return (asked <= retries.longest).then_some(asked);
    }
    let doubled = retries.pause.saturating_mul(1 << (number - 1).min(16));
    // Many processes that failed together should not come back together.
    let share = RandomState::new().hash_one(number) % 512;
    Some(doubled.min(retries.longest).mul_f64(0.75 + share as f64 / 1024.0))
}

fn sleep(pause: Duration, mut tick: impl FnMut(Duration) -> Result<()>) -> Result<()> {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        tick(left)?;
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(TICK));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn pauses() {
        let retries = Retries::default();
        let error = |kind| Error::new(kind, "");
        let server = error(ErrorKind::Server);
        assert!(pause(&retries, 1, &server).unwrap() < pause(&retries, 3, &server).unwrap());
        assert_eq!(pause(&retries, 5, &server), None);
        assert_eq!(pause(&retries, 1, &error(ErrorKind::HashMismatch)), None);
        let asked = |seconds| {
            let wait = Duration::from_secs(seconds);
            pause(&retries, 1, &error(ErrorKind::RateLimited).with_retry_after(Some(wait)))
        };
        assert_eq!(asked(60), Some(Duration::from_secs(60)));
        assert_eq!(asked(61), None);
    }
}
