//! How fast work goes lately, and so how long other work will take.

use std::collections::VecDeque;
use std::time::Duration;

/// How many pieces count: the last ones, an odd number.
const PIECES: usize = 15;

/// The time that the last pieces of work took, for their weight.
///
/// A median, so that half of all pieces have to be odd before an estimate is. A mean takes a single
/// one at its word: a file of few bytes that takes seconds, or of many that takes no time. To judge
/// too late does little harm, since each piece has a deadline; an estimate that is far too high turns
/// everybody away.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    pieces: VecDeque<(Duration, u64)>,
    seconds_per_weight: Option<f64>,
    each: Option<Duration>,
}

impl Pace {
    pub(super) fn record(&mut self, time: Duration, weight: u64) {
        self.pieces.truncate(PIECES - 1);
        self.pieces.push_front((time, weight));
        let ratio = |(time, weight): &(Duration, u64)| time.as_secs_f64() / float(*weight);
        self.seconds_per_weight = median(self.pieces.iter().map(ratio), f64::total_cmp);
        self.each = median(self.pieces.iter().map(|piece| piece.0), Duration::cmp);
    }

    /// How long work of this weight takes, if anything is known.
    pub(super) fn time(&self, weight: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(self.seconds_per_weight? * float(weight)).ok()
    }

    /// How long a piece takes, whatever its weight, if anything is known.
    pub(super) fn each(&self) -> Option<Duration> {
        self.each
    }
}

/// The one in the middle; of two the lower.
fn median<T: Copy>(
    values: impl Iterator<Item = T>,
    order: fn(&T, &T) -> std::cmp::Ordering,
) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable_by(order);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// Weights are far below 2^53. None is nothing.
#[allow(clippy::cast_precision_loss)]
fn float(weight: u64) -> f64 {
    weight.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn about(time: Option<Duration>, expected: Duration) {
        let time = time.unwrap();
        assert!(time.abs_diff(expected) < expected / 1000, "{time:?}, not {expected:?}");
    }

    /// What ordinary pictures teach: a second for a weight of 1000.
    fn taught() -> Pace {
        let mut pace = Pace::default();
        (0..PIECES).for_each(|_| pace.record(SECOND, 1000));
        pace
    }

    #[test]
    fn nothing_is_known_before_the_first_piece() {
        assert_eq!(Pace::default().time(1), None);
        assert_eq!(Pace::default().each(), None);
    }

    #[test]
    fn time_is_in_proportion_to_weight() {
        let mut pace = Pace::default();
        pace.record(SECOND, 1000);
        about(pace.time(5000), 5 * SECOND);
        assert_eq!(pace.each(), Some(SECOND));
    }

    #[test]
    fn odd_pieces_change_nothing_while_they_are_the_fewer() {
        for (time, weight) in [(10 * SECOND, 1), (Duration::from_millis(1), 1 << 40)] {
            let mut pace = taught();
            (0..PIECES / 2).for_each(|_| pace.record(time, weight));
            about(pace.time(1000), SECOND);
            assert_eq!(pace.each(), Some(SECOND));
        }
    }

    #[test]
    fn of_two_that_disagree_the_faster_is_believed() {
        let mut pace = Pace::default();
        pace.record(SECOND, 1000);
        pace.record(100 * SECOND, 1000);
        about(pace.time(1000), SECOND);
    }

    #[test]
    fn another_kind_of_work_is_learned_from_as_many_pieces_as_count() {
        let mut pace = taught();
        (0..=PIECES / 2).for_each(|_| pace.record(2 * SECOND, 1000));
        about(pace.time(1000), 2 * SECOND);
        assert_eq!(pace.pieces.len(), PIECES);
    }

    #[test]
    fn a_time_beyond_all_numbers_is_not_known() {
        let mut pace = Pace::default();
        pace.record(Duration::MAX, 1);
        assert_eq!(pace.time(u64::MAX), None);
    }
}
