//! What is found on one container (K6).

use jiff::{SignedDuration, Timestamp};

use super::{
    Moment,
    event::Event,
    finding::Finding,
    objects::{Container, Ended, Pod, Restarts, Role, State},
};

/// What a container waits for before it is first made, as far as one can see.
pub(super) const EARLY: [&str; 3] = ["", "ContainerCreating", "PodInitializing"];

/// How a container ended, where that says no more than that it did.
pub(super) const SAYS_NOTHING: [&str; 3] = ["Error", "Completed", "ContainerStatusUnknown"];

/// A container in its pod, with what was said about it.
pub(super) struct Case<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    pub(super) events: &'a [&'a Event],
    pub(super) moment: Moment<'a>,
    /// Since when the pod could have been started.
    pub(super) placed: Option<Timestamp>,
}

impl Case<'_> {
    /// All that is found.
    pub(super) fn findings(&self) -> Vec<Finding> {
        match &self.container.state {
            State::Waiting { reason, message } => self.waiting(reason, message),
            State::Ended(ended) => self.ended(ended),
            State::Running { since } => self.running(*since),
        }
    }

    fn waiting(&self, reason: &str, message: &str) -> Vec<Finding> {
        if EARLY.contains(&reason) {
            // That init containers wait for each other is told by the containers that wait for them.
            if self.container.role != Role::Main {
                return Vec::new();
            }
            let reason = if reason.is_empty() { "ContainerCreating" } else { reason };
            let says = if message.is_empty() { "not started yet" } else { message };
            let late = self.moment.past_grace(self.placed);
            return vec![if late { self.found(reason, says) } else { Finding::progress(self.part(), says) }];
        }
        let mut says = vec![message.to_owned()];
        let last = self.container.last.as_ref();
        says.extend(last.map(|it| format!("it last ended with {}", exit(it))));
        if self.container.restarts > 0 {
            says.push(format!("restarted {} times", self.container.restarts));
        }
        let mut found = vec![self.found(reason, &sentence(&says))];
        // Why it crashes, where more is known than that it does.
        if let Some(last) = last.filter(|it| !SAYS_NOTHING.contains(&it.reason.as_str())) {
            found.push(self.found(&last.reason, &format!("it ended with {}", exit(last))));
        }
        found.extend(self.killed(last));
        found
    }

    fn ended(&self, ended: &Ended) -> Vec<Finding> {
        let may_end = self.container.role == Role::Init || self.pod.restarts != Restarts::Always;
        if ended.code == 0 && may_end && self.container.role != Role::Sidecar {
            return Vec::new();
        }
        let mut found = vec![self.found(&ended.reason, &format!("it ended with {}", exit(ended)))];
        let memory = self.container.last.as_ref().filter(|it| it.reason == "OOMKilled");
        if let Some(before) = memory.filter(|it| it.reason != ended.reason) {
            found.push(self.found("OOMKilled", &format!("before that it ended with {}", exit(before))));
        }
        found.extend(self.killed(Some(ended)));
        found
    }

    fn running(&self, since: Option<Timestamp>) -> Vec<Finding> {
        let last = self.container.last.as_ref();
        let mut found = Vec::new();
        if !self.moment.forgets_kills(since) {
            if let Some(last) = last.filter(|it| it.reason == "OOMKilled") {
                let says = format!("it ran out of memory and was killed ({}); it runs again", exit(last));
                found.push(self.found("OOMKilled", &says));
            }
            found.extend(self.killed(last));
        }
        if found.is_empty() && last.is_some_and(|last| self.in_a_crash_loop(last, since)) {
            let says = format!(
                "between two crashes: restarted {} times, last {}, and has not run longer since",
                self.container.restarts,
                last.map(exit).unwrap_or_default()
            );
            found.push(self.found("CrashLoopBackOff", &says));
        }
        if !self.container.ready && self.container.role != Role::Init {
            found.extend(self.not_ready(since));
        }
        found
    }

    /// A container that crashes again and again runs in between. Until it has run clearly longer than it did before it
    /// last crashed, nothing says that it won't again.
    fn in_a_crash_loop(&self, last: &Ended, since: Option<Timestamp>) -> bool {
        let (Some(began), Some(ended), Some(since)) = (last.started, last.finished, since) else {
            return false;
        };
        let before = ended.duration_since(began).clamp(SignedDuration::ZERO, SignedDuration::from_mins(5));
        let enough = before.saturating_add(before).saturating_add(SignedDuration::from_secs(10));
        last.code != 0
            && last.reason == "Error"
            && self.container.restarts >= 3
            && self.moment.since(since) < enough
    }

    fn killed(&self, last: Option<&Ended>) -> Option<Finding> {
        self.killed_by_probe(last).or_else(|| self.killed_by_hook(last))
    }

    /// It was killed because the hook that is run after its start failed. Its state says so for a moment at most.
    fn killed_by_hook(&self, last: Option<&Ended>) -> Option<Finding> {
        let failed = self.events.iter().filter(|it| it.reason == "FailedPostStartHook");
        let failed = failed.filter(|it| it.is_about(&self.container.name));
        let newest = failed
            .max_by_key(|it| (it.last, it.count, &it.message))
            .filter(|_| last.is_some_and(by_signal))?;
        Some(self.found("PostStartHookError", &newest.message))
    }

    /// It was killed because a liveness or startup probe failed: only events say so, and count for the instance that
    /// ended last, or for the one that is just being killed.
    fn killed_by_probe(&self, last: Option<&Ended>) -> Option<Finding> {
        let from = last.and_then(|it| it.started);
        ["liveness", "startup"].into_iter().find_map(|probe| {
            let failure = format!("{} probe failed", capital(probe));
            let why = self.said(&failure, from);
            let killed = format!("Container {} failed {probe} probe", self.container.name);
            let kill = self.said(&killed, from);
            let times = match (kill, why) {
                (Some(kill), _) => kill.count,
                // That it was killed is not told any more, but that the probe failed just before it was.
                (None, Some(why)) if last.is_some_and(|it| follows(it, why)) => 1,
                // A kubelet tells 25 things of a pod, and then one every 5 minutes: what it told of an earlier kill
                // explains one that looks the same.
                _ => self.said(&killed, None).filter(|_| last.is_some_and(by_signal))?.count,
            };
            let mut says = vec![format!("killed {times} times because its {probe} probe failed")];
            says.extend(why.map(|it| it.message.clone()));
            Some(self.found("LivenessRestart", &sentence(&says)))
        })
    }

    /// It runs, and is not ready.
    fn not_ready(&self, since: Option<Timestamp>) -> Option<Finding> {
        if self.container.started == Some(false) {
            return Some(Finding::progress(self.part(), "its startup probe has not succeeded yet"));
        }
        let failed = "Readiness probe ";
        let failures: u32 = self
            .events
            .iter()
            .filter(|it| it.reason == "Unhealthy" && it.is_about(&self.container.name))
            .filter(|it| it.message.starts_with(failed) && it.seen_from(since))
            .fold(0, |sum, it| sum.saturating_add(it.count));
        let threshold = self.container.readiness.map_or(3, |it| it.threshold);
        let patience = self.container.readiness.map_or(SignedDuration::ZERO, |it| it.patience);
        let patience = patience.max(self.moment.settings.pending_grace);
        let lost = self.pod.conditions.get("ContainersReady").is_some_and(|it| {
            // All containers were ready before, this instance of this one among them.
            let after = |start: Timestamp| it.since.is_some_and(|at| at.duration_since(start).as_secs() > 1);
            it.holds == Some(false) && since.is_some_and(after)
        });
        if failures >= threshold || lost || self.moment.lasts_longer(since, patience) {
            let why = self.said(failed, since).map(|it| it.message.clone());
            let mut says = vec!["it runs and is not ready".to_owned()];
            says.extend(why.map(|it| format!("{it} ({failures} times)")));
            return Some(self.found("ReadinessFailing", &sentence(&says)));
        }
        Some(Finding::progress(self.part(), "it runs and is not ready yet"))
    }

    /// The newest event about it whose message begins so.
    fn said(&self, beginning: &str, from: Option<Timestamp>) -> Option<&Event> {
        let fits = |it: &&&Event| {
            it.message.starts_with(beginning) && it.is_about(&self.container.name) && it.seen_from(from)
        };
        // By message at last, so that the order of events does not matter.
        self.events.iter().filter(fits).max_by_key(|it| (it.last, it.count, it.message.clone())).copied()
    }

    fn found(&self, reason: &str, says: &str) -> Finding {
        let init = self.container.role != Role::Main;
        let condition = if init { format!("Init:{reason}") } else { reason.to_owned() };
        Finding::new(condition, self.part(), says)
    }

    fn part(&self) -> String {
        let what = match self.container.role {
            Role::Main => "container",
            Role::Init => "init container",
            Role::Sidecar => "sidecar",
        };
        format!("{what} {}", self.container.name)
    }
}

/// Whether a container ended, by a signal, just after a probe failed.
fn follows(ended: &Ended, failure: &Event) -> bool {
    let (Some(failed), Some(finished)) = (failure.last, ended.finished) else { return false };
    let after = finished.duration_since(failed).as_secs();
    by_signal(ended) && (-2..=60).contains(&after)
}

/// Whether it was ended by SIGKILL or SIGTERM, which is how a kubelet ends what fails its probe.
fn by_signal(ended: &Ended) -> bool {
    matches!(ended.code, 137 | 143) && ended.reason == "Error"
}

/// `exit code 1 (Error)`.
fn exit(ended: &Ended) -> String {
    let mut words = format!("exit code {} ({})", ended.code, ended.reason);
    if !ended.message.is_empty() {
        words += ": ";
        words += &ended.message;
    }
    words
}

fn sentence(parts: &[String]) -> String {
    parts.iter().filter(|it| !it.is_empty()).cloned().collect::<Vec<_>>().join("; ")
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
