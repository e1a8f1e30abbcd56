//! Runs that are no children of the keeper's: containers, which an engine holds (N19, S9).
//!
//! The agent ends them while it lives. What it can't do when it is dead is done here: each is ended at its deadline, and
//! all when everything is ended. The keeper itself asks no engine for anything, since one that hangs would keep exits and
//! output waiting: a copy of it does ([`end`]), which has a bound of its own.

mod end;
mod engine;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    clock, fork,
    keeper::Keeper,
    protocol::{Key, Outsider, Outsiders},
    setup, sys,
};

/// Runs that are noted at most; who tells more is refused. All of them fit in one line of the protocol.
const RUNS_MAX: usize = 8_192;

/// One that did not end at its deadline is tried again after so long, nanoseconds.
const AGAIN: u64 = 3_000_000_000;

/// A later order hurries a helper if it comes out earlier by more than this, nanoseconds.
const HURRY: u64 = 1_000_000_000;

/// Containers that are noted, and the helpers that end some now.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    runs: BTreeMap<Key, Outsider>,
    deadlines: BTreeSet<(u64, Key)>,
    helpers: HashMap<i32, Helper>,
    /// Until when the helper that ends all gives them, once there is one.
    ends_all: Option<u64>,
}

/// A copy of the keeper that ends these.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Helper {
    keys: Vec<Key>,
    /// Milliseconds that they have.
    grace_ms: u64,
}

/// What is passed on at an upgrade.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PassedOutside {
    runs: Vec<Outsider>,
    helpers: Vec<(i32, Helper)>,
    ends_all: Option<u64>,
}

impl Outside {
    pub(crate) fn is_helper(&self, pid: i32) -> bool {
        self.helpers.contains_key(&pid)
    }

    pub(crate) fn has_helper(&self) -> bool {
        !self.helpers.is_empty()
    }

    /// When the next deadline is.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn pass(&self) -> PassedOutside {
        let helpers = self.helpers.iter().map(|(pid, it)| (*pid, it.clone())).collect();
        PassedOutside { runs: self.runs.values().cloned().collect(), helpers, ends_all: self.ends_all }
    }

    pub(crate) fn take(passed: PassedOutside) -> Self {
        let mut it = Self {
            helpers: passed.helpers.into_iter().collect(),
            ends_all: passed.ends_all,
            ..Self::default()
        };
        passed.runs.into_iter().for_each(|run| it.enter(run));
        it
    }

    /// Notes one, in place of what was noted of it; its deadline stays unless another is told.
    fn enter(&mut self, run: Outsider) {
        let before = self.forget(&run.key);
        let deadline = run.deadline.or(before.and_then(|it| it.deadline));
        self.deadlines.extend(deadline.map(|(at, _)| (at, run.key.clone())));
        self.runs.insert(run.key.clone(), Outsider { deadline, ..run });
    }

    fn forget(&mut self, key: &Key) -> Option<Outsider> {
        let run = self.runs.remove(key)?;
        if let Some((at, _)) = run.deadline {
            self.deadlines.remove(&(at, key.clone()));
        }
        Some(run)
    }

    /// Whether it is one of these.
    fn set_deadline(&mut self, key: &Key, deadline: Option<(u64, u64)>) -> bool {
        let Some(run) = self.forget(key) else { return false };
        self.deadlines.extend(deadline.map(|(at, _)| (at, key.clone())));
        self.runs.insert(key.clone(), Outsider { deadline, ..run });
        true
    }

    /// Those whose time is over, by the grace they have; their deadlines are past.
    fn take_due(&mut self, now: u64) -> BTreeMap<u64, Vec<Key>> {
        let mut due: BTreeMap<u64, Vec<Key>> = BTreeMap::new();
        while let Some((at, key)) = self.deadlines.first().cloned().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, key.clone()));
            let deadline = self.runs.get_mut(&key).and_then(|run| run.deadline.take());
            if let Some((_, grace_ms)) = deadline {
                due.entry(grace_ms).or_default().push(key);
            }
        }
        due
    }
}

impl Keeper {
    /// Takes note of what the agent tells.
    pub(crate) fn enter_outside(&mut self, told: Outsiders) -> Result<(), String> {
        if told.whole {
            let named: BTreeSet<&Key> = told.runs.iter().map(|it| &it.key).collect();
            let others: Vec<Key> =
                self.outside.runs.keys().filter(|key| !named.contains(key)).cloned().collect();
            others.iter().for_each(|key| drop(self.outside.forget(key)));
        }
        for run in told.runs {
            if self.outside.runs.len() >= RUNS_MAX && !self.outside.runs.contains_key(&run.key) {
                return Err(format!("{RUNS_MAX} containers are noted already"));
            }
            self.outside.enter(run);
        }
        Ok(())
    }

    pub(crate) fn forget_outside(&mut self, key: &Key) {
        self.outside.forget(key);
    }

    /// Whether it is noted; then this is its deadline from now on.
    pub(crate) fn set_outside_deadline(&mut self, key: &Key, deadline: Option<(u64, u64)>) -> bool {
        self.outside.set_deadline(key, deadline)
    }

    /// Ends what nobody has said otherwise of.
    pub(crate) fn meet_outside_deadlines(&mut self, now: u64) {
        for (grace_ms, keys) in self.outside.take_due(now) {
            for key in &keys {
                setup::note(&format!("{key}: its time without word of the agent is over"));
            }
            self.help(keys, grace_ms, false);
        }
    }

    /// Ends all but those that somebody else made. A second time, only hurries.
    pub(crate) fn end_outside(&mut self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let until = clock::boot_nanos().saturating_add(grace_ms.saturating_mul(1_000_000));
        match self.outside.ends_all {
            Some(before) if before <= until.saturating_add(HURRY) => return,
            // Those it has not ended by now have less time than it gives them.
            Some(_) => self.outside.helpers.keys().for_each(|pid| drop(sys::kill(*pid, libc::SIGKILL))),
            None => {}
        }
        let keys: Vec<Key> =
            self.outside.runs.values().filter(|it| !it.borrowed).map(|it| it.key.clone()).collect();
        if !keys.is_empty() {
            self.outside.ends_all = Some(until);
            setup::note(&format!("{} containers are ended", keys.len()));
            self.help(keys, grace_ms, true);
        }
    }

    /// Lets a copy of the keeper end these.
    fn help(&mut self, keys: Vec<Key>, grace_ms: u64, all: bool) {
        let named = keys.iter().filter_map(|key| self.outside.runs.get(key));
        let runs: Vec<Outsider> =
            named.map(|it| Outsider { remove: it.remove && all, ..it.clone() }).collect();
        let grace = Duration::from_millis(grace_ms);
        let helper = fork::helper(end::bound(grace), move || end::end_all(&runs, grace));
        match helper {
            Ok(pid) => drop(self.outside.helpers.insert(pid, Helper { keys, grace_ms })),
            Err(error) => {
                setup::note(&format!("can't end {} containers: {error}", keys.len()));
                self.again(&keys, grace_ms);
            }
        }
    }

    /// A helper has ended.
    pub(crate) fn outside_ended(&mut self, pid: i32, done: bool) {
        let Some(helper) = self.outside.helpers.remove(&pid) else { return };
        if !done {
            setup::note(&format!("some of {} containers could not be ended", helper.keys.len()));
            self.again(&helper.keys, helper.grace_ms);
        }
    }

    /// Tries those again soon, unless everything ends: then the next start sees to them.
    fn again(&mut self, keys: &[Key], grace_ms: u64) {
        let at = clock::boot_nanos() + AGAIN;
        for key in keys.iter().filter(|_| self.ending.is_none()) {
            if self.outside.runs.get(key).is_some_and(|it| it.deadline.is_none()) {
                self.outside.set_deadline(key, Some((at, grace_ms)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Text;

    fn run(replica: &str, deadline: Option<(u64, u64)>) -> Outsider {
        Outsider {
            key: Key { replica: replica.to_owned(), generation: 1, incarnation: 1 },
            socket: Text::from("/run/engine.sock"),
            container: replica.to_owned(),
            stop_signal: 15,
            process: None,
            borrowed: false,
            remove: false,
            deadline,
        }
    }

    #[test]
    fn a_deadline_stays_until_another_is_told_and_comes_once() {
        let mut it = Outside::default();
        it.enter(run("a", Some((5, 100))));
        it.enter(run("b", None));
        it.enter(Outsider { process: Some((7, 7)), ..run("a", None) });
        assert_eq!(it.next_deadline(), Some(5), "more is known of it, and it is to end as before");
        assert!(it.set_deadline(&run("b", None).key, Some((6, 100))));
        assert!(!it.set_deadline(&run("c", None).key, Some((6, 100))));
        assert!(it.take_due(4).is_empty());
        let due = it.take_due(6);
        assert_eq!(due[&100].len(), 2);
        assert!(it.take_due(u64::MAX).is_empty() && it.next_deadline().is_none());
        it.enter(run("a", Some((9, 100))));
        it.set_deadline(&run("a", None).key, None);
        assert_eq!(it.next_deadline(), None);
    }

    #[test]
    fn what_is_noted_is_passed_on() {
        let mut it = Outside::default();
        it.enter(run("a", Some((5, 100))));
        it.helpers.insert(9, Helper { keys: vec![run("a", None).key], grace_ms: 1 });
        let text = serde_json::to_string(&it.pass()).unwrap();
        let it = Outside::take(serde_json::from_str(&text).unwrap());
        assert_eq!((it.next_deadline(), it.is_helper(9), it.runs.len()), (Some(5), true, 1));
        let none = Outside::take(serde_json::from_str("{}").unwrap());
        assert!(none.runs.is_empty() && !none.has_helper());
    }
}
