//! When a node should doubt its own eyes (H22).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{Observer, Time};

/// When suspicion arises and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObserverPolicy {
    /// The share of the probes that were healthy, in percent, which must fail.
    pub percent: u32,
    /// The least number that must.
    pub at_least: u32,
    /// Over so many addresses.
    pub addresses: u32,
    /// Within so long.
    pub within: Duration,
    /// The longest a check of itself may take.
    pub self_check: Duration,
    /// How often it checks itself again while unwell.
    pub again: Duration,
    /// How long decisions are held before health is unknown.
    pub hold: Duration,
    /// How long a check that it passed is believed, where one failure alone makes it check itself: see
    /// [`ObserverGuard::doubt`].
    pub believed: Duration,
}

impl Default for ObserverPolicy {
    fn default() -> Self {
        Self {
            percent: 60,
            at_least: 5,
            addresses: 3,
            within: Duration::from_secs(10),
            self_check: Duration::from_secs(1),
            again: Duration::from_secs(5),
            hold: Duration::from_secs(60),
            believed: Duration::from_secs(1),
        }
    }
}

/// What the guard decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardDecision {
    /// Check yourself (own loopback listener, scheduling delay, link, route); answer with
    /// [`ObserverGuard::self_checked`] within [`ObserverPolicy::self_check`].
    CheckSelf,
    /// Tell every workload and target.
    Tell(Observer),
    /// For the record: so many of so many failed at once, or how a suspicion ended.
    Note {
        /// Probes that fail.
        failing: u32,
        /// Probes that were healthy, with these.
        probes: u32,
        /// `suspect`, `self_well`, `self_suspect`, `blind`, `recovered`, and why.
        verdict: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Sound,
    /// The self-check is under way; since when, and whether one failure alone was the cause, which is not worth a note.
    Checking {
        since: Time,
        quiet: bool,
    },
    Unwell {
        since: Time,
        check: Check,
        reason: String,
        blind: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Due { at: Time },
    UnderWay { since: Time },
}

#[derive(Debug, Clone)]
struct Seen<A> {
    address: A,
    healthy: bool,
    /// In a row.
    failures: u32,
}

/// A probe that has failed so often is no news: it alone does not make a node check itself.
const NEWS: u32 = 20;

/// Watches the outcomes of a node's network probes. `K` names a probe, `A` the address it asks.
#[derive(Debug)]
pub struct ObserverGuard<K, A> {
    policy: ObserverPolicy,
    probes: BTreeMap<K, Seen<A>>,
    healthy: u32,
    /// Those that were healthy and then failed, and when; oldest first.
    fallen: VecDeque<(Time, K)>,
    state: State,
    /// When a check of itself that it passed began.
    well_at: Option<Time>,
}

impl<K: Ord + Clone, A: Ord + Clone> ObserverGuard<K, A> {
    /// A guard that has seen nothing.
    #[must_use]
    pub const fn new(policy: ObserverPolicy) -> Self {
        Self {
            policy,
            probes: BTreeMap::new(),
            healthy: 0,
            fallen: VecDeque::new(),
            state: State::Sound,
            well_at: None,
        }
    }

    /// Takes the outcome of a network probe; not of one that only touches this node.
    pub fn outcome(
        &mut self,
        now: Time,
        probe: &K,
        address: &A,
        healthy: bool,
        out: &mut Vec<GuardDecision>,
    ) {
        let before = self.probes.get_mut(probe);
        let was = before.as_ref().map(|seen| seen.healthy);
        let failures = before.as_ref().map_or(0, |seen| seen.failures).saturating_add(1);
        let failures = if healthy { 0 } else { failures };
        match before {
            Some(seen) => *seen = Seen { address: address.clone(), healthy, failures },
            None => {
                self.probes.insert(probe.clone(), Seen { address: address.clone(), healthy, failures });
            }
        }
        self.healthy += u32::from(healthy);
        self.healthy -= u32::from(was == Some(true));
        if healthy {
            self.fallen.retain(|(_, it)| it != probe);
        } else if was == Some(true) {
            self.fallen.push_back((now, probe.clone()));
            self.suspect(now, out);
        }
    }

    /// A probe is no more.
    pub fn forget(&mut self, probe: &K) {
        if self.probes.remove(probe).is_some_and(|seen| seen.healthy) {
            self.healthy -= 1;
        }
        self.fallen.retain(|(_, it)| it != probe);
    }

    fn suspect(&mut self, now: Time, out: &mut Vec<GuardDecision>) {
        while self.fallen.front().is_some_and(|(at, _)| now.since(*at) > self.policy.within) {
            self.fallen.pop_front();
        }
        let failing = u32::try_from(self.fallen.len()).unwrap_or(u32::MAX);
        let probes = failing.saturating_add(self.healthy);
        let many = u64::from(failing) * 100 >= u64::from(probes) * u64::from(self.policy.percent);
        if self.state != State::Sound || failing < self.policy.at_least || !many {
            return;
        }
        let addresses: BTreeSet<&A> =
            self.fallen.iter().filter_map(|(_, it)| self.probes.get(it)).map(|seen| &seen.address).collect();
        if u32::try_from(addresses.len()).unwrap_or(u32::MAX) < self.policy.addresses {
            return;
        }
        self.state = State::Checking { since: now, quiet: false };
        let reason = format!("{failing} of {probes} probes failed at once");
        out.push(GuardDecision::Note { failing, probes, verdict: format!("suspect: {reason}") });
        out.push(GuardDecision::Tell(Observer::Suspect { confirmed: false, reason }));
        out.push(GuardDecision::CheckSelf);
    }

    /// A probe failed, and this node has somebody to ask whether that may be its own fault: it checks itself, unless it
    /// passed a check just now, or the probe has failed for long. Call it after [`ObserverGuard::outcome`].
    pub fn doubt(&mut self, now: Time, probe: &K, out: &mut Vec<GuardDecision>) {
        let news = self.probes.get(probe).is_some_and(|seen| (1..=NEWS).contains(&seen.failures));
        let believed = self.well_at.is_some_and(|at| now.since(at) < self.policy.believed);
        if self.state != State::Sound || !news || believed {
            return;
        }
        self.state = State::Checking { since: now, quiet: true };
        let reason = "a probe failed, and the node asks its references".to_owned();
        out.push(GuardDecision::Tell(Observer::Suspect { confirmed: false, reason }));
        out.push(GuardDecision::CheckSelf);
    }

    /// The node has seen that something is wrong with itself, without a check.
    pub fn found_unwell(&mut self, now: Time, reason: String, out: &mut Vec<GuardDecision>) {
        if matches!(self.state, State::Unwell { .. }) {
            return;
        }
        self.state = State::Checking { since: now, quiet: false };
        self.self_checked(now, Err(reason), out);
    }

    /// The node has checked itself: `Ok`, or what is wrong with it.
    pub fn self_checked(&mut self, now: Time, found: Result<(), String>, out: &mut Vec<GuardDecision>) {
        let failing = u32::try_from(self.fallen.len()).unwrap_or(u32::MAX);
        let probes = failing.saturating_add(self.healthy);
        match (&mut self.state, found) {
            (State::Sound, _) | (State::Unwell { check: Check::Due { .. }, .. }, _) => {}
            (State::Checking { since, quiet }, Ok(())) => {
                let quiet = *quiet;
                self.well_at = Some(*since);
                self.state = State::Sound;
                // These have been judged; only new ones make a new suspicion.
                if !quiet {
                    self.fallen.clear();
                    let verdict = "self_well: the node is well, the failures are believed".to_owned();
                    out.push(GuardDecision::Note { failing, probes, verdict });
                }
                out.push(GuardDecision::Tell(Observer::Sound));
            }
            (State::Unwell { .. }, Ok(())) => {
                self.state = State::Sound;
                self.fallen.clear();
                let verdict = "recovered: the node is well again".to_owned();
                out.push(GuardDecision::Note { failing, probes, verdict });
                out.push(GuardDecision::Tell(Observer::Sound));
            }
            (State::Checking { since, .. }, Err(reason)) => {
                let check = Check::Due { at: now + self.policy.again };
                self.state = State::Unwell { since: *since, check, reason: reason.clone(), blind: false };
                let verdict = format!("self_suspect: {reason}");
                out.push(GuardDecision::Note { failing, probes, verdict });
                out.push(GuardDecision::Tell(Observer::Suspect { confirmed: true, reason }));
            }
            (State::Unwell { check, reason, .. }, Err(new)) => {
                *check = Check::Due { at: now + self.policy.again };
                *reason = new;
            }
        }
    }

    /// Does what is due: a check of itself that takes too long has failed; an unwell node checks itself again, and is
    /// blind in the end.
    pub fn tick(&mut self, now: Time, out: &mut Vec<GuardDecision>) {
        let late = |since: Time| now >= since + self.policy.self_check;
        match &self.state {
            State::Checking { since, .. } | State::Unwell { check: Check::UnderWay { since }, .. }
                if late(*since) =>
            {
                let reason =
                    format!("its self-check took longer than {}s", self.policy.self_check.as_secs_f64());
                self.self_checked(now, Err(reason), out);
            }
            _ => {}
        }
        let failing = u32::try_from(self.fallen.len()).unwrap_or(u32::MAX);
        let probes = failing.saturating_add(self.healthy);
        let hold = self.policy.hold;
        let State::Unwell { since, check, reason, blind } = &mut self.state else { return };
        if !*blind && now >= *since + hold {
            *blind = true;
            out.push(GuardDecision::Note { failing, probes, verdict: format!("blind: {reason}") });
            out.push(GuardDecision::Tell(Observer::Blind { reason: reason.clone() }));
        }
        if let Check::Due { at } = *check
            && now >= at
        {
            *check = Check::UnderWay { since: now };
            out.push(GuardDecision::CheckSelf);
        }
    }

    /// When [`ObserverGuard::tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        match &self.state {
            State::Sound => None,
            State::Checking { since, .. } => Some(*since + self.policy.self_check),
            State::Unwell { since, check, blind, .. } => {
                let check = match check {
                    Check::Due { at } => *at,
                    Check::UnderWay { since } => *since + self.policy.self_check,
                };
                Some(if *blind { check } else { check.min(*since + self.policy.hold) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
