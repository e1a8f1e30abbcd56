//! From replicas to one status for everything (H28).

use crate::{Phase, Replica, Status, Time};

/// Why something is healthy though none of it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum OnPurpose {
    /// A person stopped it.
    Stopped,
    /// No replicas are asked for.
    ScaledToZero,
    /// Every replica has ended by itself, being done.
    Completed,
}

impl OnPurpose {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::ScaledToZero => "scaled_to_zero",
            Self::Completed => "completed",
        }
    }
}

/// How a workload is, by counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkloadHealth {
    /// The word.
    pub status: Status,
    /// Why it is healthy with none ready, where it is.
    pub note: Option<OnPurpose>,
    /// Replicas asked for.
    pub desired: u32,
    /// Of those: ready, and known to be.
    pub ready: u32,
    /// Of those: nothing has been heard for too long.
    pub unknown: u32,
    /// Of those: ended on purpose.
    pub ended: u32,
}

impl WorkloadHealth {
    /// Counts replicas.
    pub(crate) fn of<'a>(desired: u32, replicas: impl Iterator<Item = &'a Replica>, now: Time) -> Self {
        let (mut ready, mut unknown, mut stopped, mut completed) = (0, 0, 0, 0);
        for replica in replicas {
            match replica.phase() {
                Phase::Stopped if replica.completed() => completed += 1,
                Phase::Stopped | Phase::Stopping => stopped += 1,
                _ if replica.stale(now) => unknown += 1,
                _ => ready += u32::from(replica.ready()),
            }
        }
        Self::by_counting(desired, ready, unknown, stopped, completed)
    }

    /// By counting (H28): healthy when as many are ready as are asked for, degraded when some are, failing when none.
    /// Those that ended on purpose are not asked for any more. What is stale is never counted as ready; with none
    /// ready and some unheard of it is unknown.
    #[must_use]
    pub fn by_counting(desired: u32, ready: u32, unknown: u32, stopped: u32, completed: u32) -> Self {
        let ended = stopped.saturating_add(completed);
        let wanted = desired.saturating_sub(ended);
        let (status, note) = if desired == 0 {
            (Status::Healthy, Some(OnPurpose::ScaledToZero))
        } else if wanted == 0 {
            let note = if stopped > 0 { OnPurpose::Stopped } else { OnPurpose::Completed };
            (Status::Healthy, Some(note))
        } else if ready >= wanted {
            (Status::Healthy, None)
        } else if ready > 0 {
            (Status::Degraded, None)
        } else if unknown > 0 {
            (Status::Unknown, None)
        } else {
            (Status::Failing, None)
        };
        Self { status, note, desired, ready, unknown, ended }
    }
}

/// The worst of several, in the order failing, degraded, unknown, healthy; of none: unknown (H28).
pub fn worst_of(statuses: impl IntoIterator<Item = Status>) -> Status {
    statuses.into_iter().max().unwrap_or(Status::Unknown)
}

/// What is shown of a status that was last heard of so long ago: nothing that is stale is ever shown as healthy (H28).
#[must_use]
pub fn if_fresh(status: Status, age: std::time::Duration, stale_after: std::time::Duration) -> Status {
    if age > stale_after { Status::Unknown } else { status }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn word(
        desired: u32,
        ready: u32,
        unknown: u32,
        stopped: u32,
        completed: u32,
    ) -> (Status, Option<&'static str>) {
        let it = WorkloadHealth::by_counting(desired, ready, unknown, stopped, completed);
        (it.status, it.note.map(OnPurpose::as_str))
    }

    #[rstest::rstest]
    #[case::all_ready(word(2, 2, 0, 0, 0), (Status::Healthy, None))]
    #[case::some_ready(word(2, 1, 0, 0, 0), (Status::Degraded, None))]
    #[case::none_ready(word(2, 0, 0, 0, 0), (Status::Failing, None))]
    #[case::none_heard(word(2, 0, 1, 0, 0), (Status::Unknown, None))]
    #[case::one_unheard(word(2, 1, 1, 0, 0), (Status::Degraded, None))]
    #[case::zero(word(0, 0, 0, 0, 0), (Status::Healthy, Some("scaled_to_zero")))]
    #[case::stopped(word(2, 0, 0, 2, 0), (Status::Healthy, Some("stopped")))]
    #[case::done(word(2, 0, 0, 0, 2), (Status::Healthy, Some("completed")))]
    #[case::one_stopped(word(2, 1, 0, 1, 0), (Status::Healthy, None))]
    #[case::one_stopped_one_down(word(2, 0, 0, 1, 0), (Status::Failing, None))]
    fn a_workload_is_judged_by_counting(
        #[case] is: (Status, Option<&'static str>),
        #[case] should: (Status, Option<&'static str>),
    ) {
        assert_eq!(is, should);
    }

    #[test]
    fn upwards_the_worst_counts_and_nothing_is_unknown() {
        use Status::{Degraded, Failing, Healthy, Unknown};
        assert_eq!(worst_of([]), Unknown);
        assert_eq!(worst_of([Healthy, Healthy]), Healthy);
        assert_eq!(worst_of([Healthy, Unknown]), Unknown);
        assert_eq!(worst_of([Unknown, Degraded, Healthy]), Degraded);
        assert_eq!(worst_of([Degraded, Failing, Unknown]), Failing);
    }

    #[test]
    fn what_is_stale_is_not_healthy() {
        let limit = Duration::from_secs(15);
        assert_eq!(if_fresh(Status::Healthy, limit, limit), Status::Healthy);
        assert_eq!(if_fresh(Status::Healthy, limit + Duration::from_millis(1), limit), Status::Unknown);
    }
}
