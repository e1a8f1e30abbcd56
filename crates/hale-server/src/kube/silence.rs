//! Which agents are not heard any more: pure (K8).
//!
//! An agent is heard when its [`KubeSeenRecord`](hale_model::cluster::KubeSeenRecord) changes, by whichever server. The
//! time of that is counted here, by the clock of the one server that judges, so that no two clocks are compared; after a
//! start, a takeover or an outage of the database everyone is given the whole time anew (S3).

use std::{collections::HashMap, time::Duration};

use hale_health::Time;

/// An agent, as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded<'a> {
    /// Its id.
    pub(super) id: &'a str,
    /// It is silent after so long.
    pub(super) stale_after: Duration,
    /// The revision at which it was last heard; 0: never.
    pub(super) heard: u64,
    /// Whether its silence is recorded.
    pub(super) silent: bool,
}

/// When agents were heard last.
#[derive(Debug, Default)]
pub(super) struct Silences {
    heard: HashMap<String, (u64, Time)>,
}

impl Silences {
    /// Nobody can have been heard meanwhile: everyone is given the whole time anew.
    pub(super) fn excuse(&mut self) {
        self.heard.clear();
    }

    /// Those whose silence is to be recorded now.
    pub(super) fn overdue<'a>(
        &mut self,
        agents: impl Iterator<Item = Recorded<'a>>,
        now: Time,
    ) -> Vec<String> {
        let before = std::mem::take(&mut self.heard);
        let mut overdue = Vec::new();
        for it in agents {
            let since = match before.get(it.id) {
                Some((revision, at)) if *revision == it.heard => *at,
                _ => now,
            };
            self.heard.insert(it.id.to_owned(), (it.heard, since));
            if !it.silent && now.since(since) >= it.stale_after {
                overdue.push(it.id.to_owned());
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    fn agent(id: &str, heard: u64, silent: bool) -> Recorded<'_> {
        Recorded { id, stale_after: Duration::from_secs(180), heard, silent }
    }

    #[test]
    fn an_agent_is_silent_once_nothing_was_heard_for_its_whole_time_and_not_before() {
        let mut silences = Silences::default();
        let mut look =
            |heard, silent, seconds| silences.overdue([agent("a", heard, silent)].into_iter(), at(seconds));
        assert!(look(1, false, 1000).is_empty(), "however long ago: it has not been listened to");
        assert!(look(1, false, 1179).is_empty());
        assert_eq!(look(1, false, 1180), ["a"]);
        assert_eq!(look(1, false, 1181), ["a"], "until it is recorded");
        assert!(look(1, true, 1182).is_empty());
        assert!(look(2, false, 1183).is_empty(), "heard again");
        assert!(look(2, false, 1362).is_empty());
        assert_eq!(look(2, false, 1363), ["a"]);
    }

    #[test]
    fn after_an_outage_everyone_has_the_whole_time_again_and_who_is_gone_is_forgotten() {
        let mut silences = Silences::default();
        silences.overdue([agent("a", 1, false), agent("b", 1, false)].into_iter(), at(0));
        silences.excuse();
        assert!(silences.overdue([agent("a", 1, false)].into_iter(), at(500)).is_empty());
        assert_eq!(silences.overdue([agent("a", 1, false)].into_iter(), at(680)), ["a"]);
        assert_eq!(silences.heard.len(), 1);
    }
}
