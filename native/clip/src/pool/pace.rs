//! How fast work goes lately, and so how long other work will take.

use std::time::Duration;

/// What stays of the sums when a piece of work is added: the last ten count most.
const KEPT: f64 = 0.9;

/// The time that work took, and its weight, both summed with the past fading.
///
/// A ratio of sums and not a mean of ratios: what is asked of it is how long many pieces will take
/// together, of which the heavy ones make the most.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    seconds: f64,
    weight: f64,
    pieces: f64,
}

impl Pace {
    pub(super) fn record(&mut self, time: Duration, weight: u64) {
        self.seconds = self.seconds * KEPT + time.as_secs_f64();
        self.weight = self.weight * KEPT + float(weight);
        self.pieces = self.pieces * KEPT + 1.0;
    }

    /// How long work of this weight takes, if anything is known.
    pub(super) fn time(&self, weight: u64) -> Option<Duration> {
        let seconds = self.seconds / self.weight * float(weight);
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// How long a piece takes, whatever its weight, if anything is known.
    pub(super) fn each(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.seconds / self.pieces).ok()
    }
}

/// Weights are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn float(weight: u64) -> f64 {
    weight as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_is_known_before_the_first_piece() {
        assert_eq!(Pace::default().time(1), None);
        assert_eq!(Pace::default().each(), None);
    }

    #[test]
    fn time_is_in_proportion_to_weight() {
        let mut pace = Pace::default();
        pace.record(SECOND, 1000);
        assert_eq!(pace.time(5000), Some(5 * SECOND));
        assert_eq!(pace.each(), Some(SECOND));
    }

    #[test]
    fn heavy_pieces_count_more_than_light_ones() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.record(Duration::from_millis(1), 100);
            pace.record(SECOND, 9900);
        }
        let time = pace.time(10_000).unwrap();
        assert!(
            time > Duration::from_millis(980) && time < Duration::from_millis(1020),
            "{time:?}"
        );
    }

    #[test]
    fn the_past_fades() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.record(SECOND, 10);
        }
        for _ in 0..50 {
            pace.record(2 * SECOND, 10);
        }
        assert!(pace.time(10).unwrap() > Duration::from_millis(1980));
    }
}
