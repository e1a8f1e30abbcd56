//! How far the server's clock is from this one's, measured with the beats (N8). Pure.

use std::time::Duration;

/// Above this it is warned of.
const MUCH_MICROS: i64 = 5_000_000;

#[derive(Debug, Clone, Default)]
pub(crate) struct Skew {
    warned: bool,
}

/// What a measurement says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// The server's clock is so far ahead.
    pub(crate) seconds: f64,
    /// It has become too much, or is well again, and is to be told.
    pub(crate) told: Option<bool>,
}

impl Skew {
    /// A beat that was sent at `sent` (microseconds, our clock) was answered after `took`, at `server` by its clock.
    pub(crate) fn measure(&mut self, sent: i64, took: Duration, server: i64) -> Measured {
        let half = i64::try_from(took.as_micros() / 2).unwrap_or(i64::MAX);
        let ahead = server.saturating_sub(sent.saturating_add(half));
        // Half of the way there and back is what can't be told apart.
        let much = ahead.saturating_abs().saturating_sub(half) > MUCH_MICROS;
        let told = (much != self.warned).then_some(much);
        self.warned = much;
        Measured { seconds: ahead as f64 / 1e6, told }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_seconds_is_told_once_and_its_end_too() {
        let mut skew = Skew::default();
        let took = Duration::from_millis(200);
        let second = 1_000_000;
        assert_eq!(skew.measure(0, took, 100_000), Measured { seconds: 0.0, told: None });
        assert_eq!(skew.measure(0, took, 7 * second).told, Some(true));
        assert_eq!(skew.measure(0, took, -7 * second).told, None);
        assert_eq!(skew.measure(0, took, second).told, Some(false));
        assert_eq!(
            skew.measure(0, Duration::from_secs(14), 7 * second).told,
            None,
            "a slow answer is no skew"
        );
        assert_eq!(skew.measure(i64::MAX, Duration::MAX, i64::MIN).told, None);
    }
}
