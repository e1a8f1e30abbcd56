//! Targets: what hale probes but does not run, and the lists they may come from (N12).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use hale_health::{ProbeTiming, TargetPolicy};
use jiff::{Timestamp, civil, tz::TimeZone};

use super::Check;
use crate::event::TargetOrigin;

/// An endpoint that hale probes but does not run, or a list of such (N12).
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// A DNS label.
    pub name: String,
    /// How it is asked. Host and port are set in it, except with a `list`: then it is the template of its members, and
    /// what an entry says (host, port, scheme) is missing in it, a port as number 0.
    pub check: Check,
    /// Period, timeout and thresholds.
    pub timing: ProbeTiming,
    /// Failures within a window, and the period while in doubt.
    pub policy: TargetPolicy,
    /// When it is paused by plan (H24).
    pub maintenance: Vec<Maintenance>,
    /// Where its members come from, if it is a list.
    pub list: Option<TargetList>,
    /// Labels; `list`, `replica` and `container_id` are set in a member alone.
    pub origin: TargetOrigin,
    /// As for a workload.
    pub digest: String,
}

/// A list of targets that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetList {
    /// Where it is read.
    pub source: ListSource,
    /// How often.
    pub refresh: Duration,
}

/// Where a list of targets is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListSource {
    /// From a web server, in the JSON form of Prometheus' HTTP service discovery.
    Url {
        /// `http://` or `https://`.
        url: String,
        /// A file of certificates to trust, absolute.
        ca_file: Option<PathBuf>,
    },
    /// From a file in the same form; absolute.
    File(PathBuf),
    /// From the SRV records of a name.
    Srv {
        /// The name.
        name: String,
        /// As in [`super::Dns`].
        server: Option<(String, u16)>,
    },
    /// All running replicas of a service, ready or not.
    Service(String),
}

impl ListSource {
    /// Its name in files.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Url { .. } => "url",
            Self::File(_) => "file",
            Self::Srv { .. } => "srv",
            Self::Service(_) => "service",
        }
    }
}

/// A time of every week in which a target is paused: verdicts are frozen and nothing is told (H24).
#[derive(Debug, Clone, PartialEq)]
pub struct Maintenance {
    /// The days on which it begins, Monday first.
    pub days: [bool; 7],
    /// When it begins.
    pub from: civil::Time,
    /// When it ends: on the same day when that is later, else on the next one.
    pub to: civil::Time,
    /// Where the clock on the wall shows these times.
    pub timezone: TimeZone,
    /// Why.
    pub reason: String,
}

impl Maintenance {
    /// Until when it lasts, if it is going on at this moment. A time that the clocks leave out when they are put forward
    /// is the moment they are; of one that they show twice the first counts.
    #[must_use]
    pub fn ends(&self, at: Timestamp) -> Option<Timestamp> {
        let today = at.to_zoned(self.timezone.clone()).date();
        let begins = [today.yesterday().ok(), Some(today)];
        begins
            .into_iter()
            .flatten()
            .filter_map(|day| self.on(day))
            .find_map(|(from, to)| (from <= at && at < to).then_some(to))
    }

    /// From when to when it lasts, if it begins on this day.
    fn on(&self, day: civil::Date) -> Option<(Timestamp, Timestamp)> {
        let nth = day.weekday().to_monday_zero_offset();
        if !*self.days.get(usize::try_from(nth).ok()?)? {
            return None;
        }
        let last = if self.to > self.from { day } else { day.tomorrow().ok()? };
        let moment = |day: civil::Date, time: civil::Time| {
            day.to_datetime(time).to_zoned(self.timezone.clone()).ok().map(|it| it.timestamp())
        };
        Some((moment(day, self.from)?, moment(last, self.to)?))
    }
}

/// Until when one of these windows lasts, if any is going on, and why it was set.
#[must_use]
pub fn in_maintenance(windows: &[Maintenance], at: Timestamp) -> Option<(Timestamp, &str)> {
    let on = windows.iter().filter_map(|it| Some((it.ends(at)?, it.reason.as_str())));
    on.max_by_key(|(until, _)| *until)
}

/// One entry of a list: what is told of it apart from the template.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ListEntry {
    /// `host:port`, or a base URL.
    pub address: String,
    /// A name of its own.
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The replica that it is.
    pub replica: Option<String>,
    /// The container that the replica runs in.
    pub container_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: [bool; 7], from: &str, to: &str, zone: &str) -> Maintenance {
        Maintenance {
            days,
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            timezone: TimeZone::get(zone).unwrap(),
            reason: String::new(),
        }
    }

    fn ends(it: &Maintenance, at: &str) -> Option<String> {
        it.ends(at.parse().unwrap()).map(|it| it.to_string())
    }

    const MONDAY: [bool; 7] = [true, false, false, false, false, false, false];
    const SUNDAY: [bool; 7] = [false, false, false, false, false, false, true];

    #[test]
    fn a_window_is_from_its_first_moment_until_before_its_last() {
        let it = window(MONDAY, "22:00", "23:30", "UTC");
        for (at, expected) in [
            ("2026-11-23T21:59:59.999Z", None),
            ("2026-11-23T22:00:00Z", Some("2026-11-23T23:30:00Z")),
            ("2026-11-23T23:29:59.999Z", Some("2026-11-23T23:30:00Z")),
            ("2026-11-23T23:30:00Z", None),
            ("2026-11-24T22:30:00Z", None),
        ] {
            assert_eq!(ends(&it, at).as_deref(), expected, "{at}");
        }
    }

    #[test]
    fn a_window_that_ends_before_it_begins_goes_over_midnight_and_equal_times_are_a_whole_day() {
        let night = window(SUNDAY, "22:00", "02:00", "UTC");
        assert_eq!(ends(&night, "2026-11-23T01:59:59Z").as_deref(), Some("2026-11-23T02:00:00Z"));
        assert_eq!(ends(&night, "2026-11-24T01:00:00Z"), None);
        let day = window(MONDAY, "00:00", "00:00", "UTC");
        assert_eq!(ends(&day, "2026-11-23T00:00:00Z").as_deref(), Some("2026-11-24T00:00:00Z"));
        assert_eq!(ends(&day, "2026-11-24T00:00:00Z"), None);
    }

    #[test]
    fn times_are_those_of_the_clock_on_the_wall_when_clocks_change_too() {
        let it = window(SUNDAY, "01:30", "02:30", "Europe/Berlin");
        // Summer time ends at 03:00 local: 02:30 is shown twice, and the first one counts.
        assert_eq!(ends(&it, "2026-10-24T23:45:00Z").as_deref(), Some("2026-10-25T00:30:00Z"));
        assert_eq!(ends(&it, "2026-10-25T00:45:00Z"), None);
        // It begins at 02:00 local: 02:30 is left out, and is 03:30 then.
        assert_eq!(ends(&it, "2026-03-29T01:15:00Z").as_deref(), Some("2026-03-29T01:30:00Z"));
        assert_eq!(ends(&it, "2026-11-22T00:45:00Z").as_deref(), Some("2026-11-22T01:30:00Z"));
    }

    #[test]
    fn of_several_windows_the_one_that_lasts_longest_says_until_when() {
        let all = [window(MONDAY, "10:00", "11:00", "UTC"), window(MONDAY, "10:30", "12:00", "UTC")];
        let until = |at: &str| in_maintenance(&all, at.parse().unwrap()).map(|it| it.0.to_string());
        assert_eq!(until("2026-11-23T10:45:00Z").as_deref(), Some("2026-11-23T12:00:00Z"));
        assert_eq!(until("2026-11-23T10:15:00Z").as_deref(), Some("2026-11-23T11:00:00Z"));
        assert_eq!(until("2026-11-23T12:00:00Z"), None);
    }
}
