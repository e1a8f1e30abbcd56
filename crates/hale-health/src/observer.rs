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
    /// The self-check is under way; since when.
    Checking {
        since: Time,
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
}

/// Watches the outcomes of a node's network probes. `K` names a probe, `A` the address it asks.
#[derive(Debug)]
pub struct ObserverGuard<K, A> {
    policy: ObserverPolicy,
    probes: BTreeMap<K, Seen<A>>,
    healthy: u32,
    /// Those that were healthy and then failed, and when; oldest first.
    fallen: VecDeque<(Time, K)>,
    state: State,
}

impl<K: Ord + Clone, A: Ord + Clone> ObserverGuard<K, A> {
    /// A guard that has seen nothing.
    #[must_use]
    pub const fn new(policy: ObserverPolicy) -> Self {
        Self { policy, probes: BTreeMap::new(), healthy: 0, fallen: VecDeque::new(), state: State::Sound }
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
        match before {
            Some(seen) => *seen = Seen { address: address.clone(), healthy },
            None => drop(self.probes.insert(probe.clone(), Seen { address: address.clone(), healthy })),
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
        self.state = State::Checking { since: now };
        let reason = format!("{failing} of {probes} probes failed at once");
        out.push(GuardDecision::Note { failing, probes, verdict: format!("suspect: {reason}") });
        out.push(GuardDecision::Tell(Observer::Suspect { confirmed: false, reason }));
        out.push(GuardDecision::CheckSelf);
    }

    /// The node has checked itself: `Ok`, or what is wrong with it.
    pub fn self_checked(&mut self, now: Time, found: Result<(), String>, out: &mut Vec<GuardDecision>) {
        let failing = u32::try_from(self.fallen.len()).unwrap_or(u32::MAX);
        let probes = failing.saturating_add(self.healthy);
        match (&mut self.state, found) {
            (State::Sound, _) | (State::Unwell { check: Check::Due { .. }, .. }, _) => {}
            (State::Checking { .. }, Ok(())) => {
                self.state = State::Sound;
                // These have been judged; only new ones make a new suspicion.
                self.fallen.clear();
                let verdict = "self_well: the node is well, the failures are believed".to_owned();
                out.push(GuardDecision::Note { failing, probes, verdict });
                out.push(GuardDecision::Tell(Observer::Sound));
            }
            (State::Unwell { .. }, Ok(())) => {
                self.state = State::Sound;
                self.fallen.clear();
                let verdict = "recovered: the node is well again".to_owned();
                out.push(GuardDecision::Note { failing, probes, verdict });
                out.push(GuardDecision::Tell(Observer::Sound));
            }
            (State::Checking { since }, Err(reason)) => {
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
            State::Checking { since } | State::Unwell { check: Check::UnderWay { since }, .. }
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
            State::Checking { since } => Some(*since + self.policy.self_check),
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
mod tests {
    use super::*;

    type Guard = ObserverGuard<u32, u32>;

    /// `n` healthy probes, spread over so many addresses.
    fn guard(n: u32, addresses: u32) -> Guard {
        let mut it = Guard::new(ObserverPolicy::default());
        for probe in 0..n {
            it.outcome(Time::ZERO, &probe, &(probe % addresses), true, &mut Vec::new());
        }
        it
    }

    fn fall(it: &mut Guard, probes: std::ops::Range<u32>, addresses: u32, at: u64) -> Vec<GuardDecision> {
        let mut out = Vec::new();
        for probe in probes {
            it.outcome(Time::from_millis(at), &probe, &(probe % addresses), false, &mut out);
        }
        out
    }

    fn told(out: &[GuardDecision]) -> Vec<&Observer> {
        out.iter()
            .filter_map(|it| if let GuardDecision::Tell(what) = it { Some(what) } else { None })
            .collect()
    }

    #[test]
    fn most_probes_failing_at_once_make_it_check_itself() {
        let mut it = guard(10, 3);
        assert!(fall(&mut it, 0..5, 3, 1000).is_empty(), "half is not 60 %");
        let out = fall(&mut it, 5..6, 3, 1000);
        assert!(matches!(told(&out)[..], [Observer::Suspect { confirmed: false, .. }]));
        assert!(out.contains(&GuardDecision::CheckSelf));
    }

    #[rstest::rstest]
    #[case::too_few(4, 3)]
    #[case::one_machine(20, 1)]
    #[case::two_machines(20, 2)]
    fn few_probes_or_few_addresses_raise_no_suspicion(#[case] probes: u32, #[case] addresses: u32) {
        let mut it = guard(probes, addresses);
        assert!(fall(&mut it, 0..probes, addresses, 1000).is_empty());
    }

    #[test]
    fn failures_further_apart_than_ten_seconds_do_not_add_up() {
        let mut it = guard(5, 5);
        fall(&mut it, 0..2, 5, 0);
        assert!(fall(&mut it, 2..5, 5, 10_001).is_empty());
        let mut it = guard(5, 5);
        fall(&mut it, 0..2, 5, 0);
        assert!(!fall(&mut it, 2..5, 5, 10_000).is_empty());
    }

    #[test]
    fn what_was_never_healthy_or_came_back_or_is_gone_does_not_count() {
        let mut it = guard(5, 5);
        fall(&mut it, 5..9, 5, 0);
        fall(&mut it, 0..2, 5, 1);
        it.outcome(Time::from_millis(2), &0, &0, true, &mut Vec::new());
        it.forget(&1);
        it.forget(&77);
        it.forget(&4);
        assert!(fall(&mut it, 2..4, 5, 3).is_empty());
    }

    #[test]
    fn a_node_that_is_well_believes_its_probes_and_is_not_suspect_twice_of_the_same() {
        let mut it = guard(5, 5);
        fall(&mut it, 0..5, 5, 0);
        let mut out = Vec::new();
        it.self_checked(Time::from_millis(200), Ok(()), &mut out);
        assert_eq!(told(&out), [&Observer::Sound]);
        assert_eq!(it.next_deadline(), None);
        assert!(fall(&mut it, 0..5, 5, 5000).is_empty());
        it.self_checked(Time::from_secs(6), Err("late".to_owned()), &mut out);
        assert_eq!(it.next_deadline(), None, "an answer nobody waits for changes nothing");
    }

    #[test]
    fn a_node_that_is_unwell_holds_for_a_minute_and_is_blind_then() {
        let mut it = guard(5, 5);
        fall(&mut it, 0..5, 5, 0);
        let mut out = Vec::new();
        it.tick(Time::from_millis(999), &mut out);
        assert!(out.is_empty());
        it.tick(Time::from_secs(1), &mut out);
        assert!(
            matches!(told(&out)[..], [Observer::Suspect { confirmed: true, .. }]),
            "no answer is an answer"
        );
        out.clear();
        let mut now = Time::from_secs(1);
        while let Some(due) = it.next_deadline().filter(|due| *due < Time::from_secs(60)) {
            now = due;
            it.tick(now, &mut out);
        }
        assert!(told(&out).is_empty() && now > Time::from_secs(50));
        it.tick(Time::from_secs(60), &mut out);
        assert!(matches!(told(&out)[..], [Observer::Blind { .. }]));
        while !out.ends_with(&[GuardDecision::CheckSelf]) {
            it.tick(it.next_deadline().unwrap(), &mut out);
        }
        it.self_checked(it.next_deadline().unwrap(), Ok(()), &mut out);
        assert!(matches!(told(&out)[..], [.., Observer::Sound]));
    }
}
