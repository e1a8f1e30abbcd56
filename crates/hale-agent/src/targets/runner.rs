//! The task that owns the machine of every target.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hale_check::{Finished, ProbeHandle};
use hale_health::{Observer, Status, TargetMachine, TargetNote, TargetOutcome, Time, Verdict};
use hale_model::{
    event::{EventData, NewEvent, TargetPaused, TargetProbeFailed, TargetProbeRecovered, TargetResumed},
    report::{OutcomeRecord, Report},
    spec::Target,
    status::TargetStatus,
};
use hale_supervisor::{
    clock::Clock,
    engine::TargetChecks,
    guard::{Guard, network_host},
    log::log_event,
    sink::Sink,
};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::{Command, Pause, TargetError, TargetOptions};

/// One target that is watched.
struct Watched {
    target: Arc<Target>,
    machine: TargetMachine,
    /// Dropped, it ends the checks.
    _checks: ProbeHandle,
    token: u64,
    paused_until: Option<Time>,
    host: Option<String>,
}

pub(super) struct Runner {
    source: String,
    checks: TargetChecks,
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    guard: Option<Guard>,
    observer: Option<watch::Receiver<Observer>>,
    watched: BTreeMap<String, Watched>,
    by_token: HashMap<u64, String>,
    /// When which pause ends.
    pauses: BTreeSet<(Time, String)>,
    /// When to look again whether something has not been heard of for too long.
    sweep_at: Time,
    /// What the guard said last.
    doubt: Observer,
    statuses: watch::Sender<Arc<BTreeMap<String, Status>>>,
}

/// Whose status may have changed.
enum Touched {
    Nobody,
    One(String),
    All,
}

/// How often it is looked whether something has not been heard of for too long (H28).
const SWEEP: Duration = Duration::from_secs(5);

async fn changed(observer: &mut Option<watch::Receiver<Observer>>) {
    if let Some(receiver) = observer {
        if receiver.changed().await.is_ok() {
            return;
        }
        *observer = None;
    }
    std::future::pending().await
}

impl Runner {
    pub(super) fn new(
        options: TargetOptions,
        statuses: watch::Sender<Arc<BTreeMap<String, Status>>>,
    ) -> Self {
        Self {
            source: format!("/nodes/{}", options.node),
            checks: options.checks,
            sink: options.sink,
            sweep_at: options.clock.now() + SWEEP,
            clock: options.clock,
            observer: options.guard.as_ref().map(Guard::observer),
            guard: options.guard,
            watched: BTreeMap::new(),
            by_token: HashMap::new(),
            pauses: BTreeSet::new(),
            doubt: Observer::Sound,
            statuses,
        }
    }

    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Command>) {
        loop {
            let due = self.pauses.first().map_or(self.sweep_at, |(until, _)| self.sweep_at.min(*until));
            let touched = tokio::select! {
                biased;
                command = asked.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = changed(&mut self.observer) => self.on_observer(),
                () = self.clock.sleep_until(due) => self.on_time(),
                Some(finished) = self.checks.next() => self.on_finished(finished),
            };
            self.tell_statuses(touched);
        }
    }

    fn on_command(&mut self, command: Command) -> Touched {
        // Whoever asked may have gone away; that changes nothing.
        match command {
            Command::Apply { targets, answer } => {
                drop(answer.send(self.apply(targets)));
                Touched::All
            }
            Command::Pause { name, pause, answer } => {
                drop(answer.send(self.pause(&name, pause)));
                Touched::One(name)
            }
            Command::Resume { name, by, answer } => {
                drop(answer.send(self.resume(&name, by)));
                Touched::One(name)
            }
            Command::Status { answer } => {
                let now = self.clock.now();
                drop(answer.send(self.watched.values().map(|it| it.status(now, &*self.clock)).collect()));
                Touched::Nobody
            }
        }
    }

    fn pause(&mut self, name: &str, pause: Pause) -> Result<(), TargetError> {
        let until = pause.lasts.map(|lasts| self.clock.now() + lasts);
        let watched = self.watched.get_mut(name).ok_or_else(|| TargetError::NotFound(name.to_owned()))?;
        watched.machine.pause();
        if let Some(old) = std::mem::replace(&mut watched.paused_until, until) {
            self.pauses.remove(&(old, name.to_owned()));
        }
        self.pauses.extend(until.map(|until| (until, name.to_owned())));
        let Pause { by, reason, .. } = pause;
        let until = until.map(|until| self.clock.wall_at(until));
        self.report(name, EventData::TargetPaused(TargetPaused { by, reason, until }));
        Ok(())
    }

    fn resume(&mut self, name: &str, by: String) -> Result<(), TargetError> {
        let watched = self.watched.get_mut(name).ok_or_else(|| TargetError::NotFound(name.to_owned()))?;
        if !watched.machine.paused() {
            return Ok(());
        }
        watched.machine.resume(self.clock.now());
        if let Some(until) = watched.paused_until.take() {
            self.pauses.remove(&(until, name.to_owned()));
        }
        self.report(name, EventData::TargetResumed(TargetResumed { by }));
        Ok(())
    }

    fn apply(&mut self, targets: Vec<Arc<Target>>) -> Result<(), TargetError> {
        let wanted: BTreeMap<String, Arc<Target>> =
            targets.into_iter().map(|target| (target.name.clone(), target)).collect();
        let gone: Vec<String> = self
            .watched
            .iter()
            .filter(|(name, it)| wanted.get(*name).is_none_or(|new| new.digest != it.target.digest))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.forget(&name, if wanted.contains_key(&name) { "it changed" } else { "it left the list" });
        }
        let mut first = Ok(());
        for (name, target) in wanted {
            if !self.watched.contains_key(&name)
                && let Err(error) = self.watch(target)
            {
                warn!(target = name, %error, "a target can not be probed");
                first = first.and(Err(error));
            }
        }
        first
    }

    fn watch(&mut self, target: Arc<Target>) -> Result<(), TargetError> {
        let (name, timing) = (target.name.clone(), target.timing);
        let registered = self.checks.register(&name, &target.check, timing.period, timing.timeout);
        let (token, checks) = registered
            .map_err(|error| TargetError::Invalid { name: name.clone(), reason: error.to_string() })?;
        info!(
            target = name,
            check = target.check.as_str(),
            period = ?timing.period,
            timeout = ?timing.timeout,
            failure_threshold = timing.failure_threshold,
            "probing starts"
        );
        let mut machine = TargetMachine::new(self.clock.now(), timing);
        if matches!(self.observer_now(), Observer::Blind { .. }) {
            machine.observer_changed(self.clock.now(), true);
        }
        let host = network_host(&target.check, None);
        self.by_token.insert(token, name.clone());
        let watched = Watched { target, machine, _checks: checks, token, paused_until: None, host };
        self.watched.insert(name, watched);
        Ok(())
    }

    fn forget(&mut self, name: &str, why: &str) {
        if let Some(old) = self.watched.remove(name) {
            self.by_token.remove(&old.token);
            if let Some(until) = old.paused_until {
                self.pauses.remove(&(until, name.to_owned()));
            }
            if let Some(guard) = &self.guard {
                guard.forget(&guard_name(name));
            }
            info!(target = name, why, "probing ends");
        }
    }

    fn observer_now(&self) -> Observer {
        self.observer.as_ref().map_or(Observer::Sound, |it| it.borrow().clone())
    }

    fn on_finished(&mut self, finished: Finished) -> Touched {
        // What was cancelled has no outcome.
        let Some(name) = self.by_token.get(&finished.token).cloned() else { return Touched::Nobody };
        let now = self.clock.now();
        self.show_guard(&name, &finished.result.verdict);
        let observer = self.observer_now();
        let Some(watched) = self.watched.get_mut(&name) else { return Touched::Nobody };
        let outcome = TargetOutcome {
            verdict: finished.result.verdict.clone(),
            status: finished.result.http_status.unwrap_or(0),
            started_at: finished.started_at,
        };
        let note = watched.machine.outcome(now, &outcome, &observer);
        let record = watched.record(&finished, &*self.clock);
        if let Some(reason) = record.reason {
            let (count, threshold) = (record.consecutive, record.threshold);
            let (reason, detail) = (reason.as_str(), record.detail.as_deref());
            if watched.machine.prober_errors() == 1 {
                warn!(
                    target = name,
                    detail, "a target can not be asked; it is tried again, and its verdict stays"
                );
            }
            debug!(target = name, count, threshold, reason, detail, "a check failed");
        }
        self.sink.report(Report::Outcome(record));
        self.tell(&name, note);
        Touched::One(name)
    }

    /// The node's guard sees an outcome first: the failure that makes it suspicious is held already (H22).
    fn show_guard(&self, name: &str, verdict: &Verdict) {
        let Some(guard) = &self.guard else { return };
        let Some(host) = self.watched.get(name).and_then(|it| it.host.as_deref()) else { return };
        match verdict {
            Verdict::Failure { reason, .. } if reason.is_prober_error() => {}
            verdict => guard.outcome(&guard_name(name), host, verdict.is_success()),
        }
    }

    fn on_observer(&mut self) -> Touched {
        let observer = self.observer_now();
        let now = self.clock.now();
        let blind = matches!(observer, Observer::Blind { .. });
        let was_blind = matches!(self.doubt, Observer::Blind { .. });
        // What an unwell node saw is forgotten when it goes blind, and when it is well again.
        let forgets = blind != was_blind || (is_unwell(&self.doubt) && !is_unwell(&observer));
        self.doubt = observer.clone();
        let mut notes = Vec::new();
        for (name, watched) in &mut self.watched {
            if forgets {
                watched.machine.observer_changed(now, blind);
            }
            notes.push((name.clone(), watched.machine.settle(now, &observer)));
        }
        for (name, note) in notes {
            self.tell(&name, note);
        }
        Touched::All
    }

    fn on_time(&mut self) -> Touched {
        let now = self.clock.now();
        while let Some((_, name)) = self.pauses.first().filter(|(until, _)| *until <= now).cloned() {
            let _ = self.resume(&name, "expired".to_owned());
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
        }
        Touched::All
    }

    fn tell(&self, name: &str, note: Option<TargetNote>) {
        match note {
            None => {}
            Some(TargetNote::ProbeFailed { consecutive_failures, last_status, last_reason, last_error }) => {
                let failed = TargetProbeFailed { consecutive_failures, last_status, last_reason, last_error };
                self.report(name, EventData::TargetProbeFailed(failed));
            }
            Some(TargetNote::ProbeRecovered { prior_failure_count, down_for }) => {
                let down_for = down_for.as_secs_f64();
                let recovered = TargetProbeRecovered { prior_failure_count, down_for };
                self.report(name, EventData::TargetProbeRecovered(recovered));
            }
        }
    }

    /// Tells an event, and writes its line (O2).
    fn report(&self, name: &str, data: EventData) {
        log_event(name, &data);
        let (time, source, subject) = (self.clock.wall(), self.source.clone(), name.to_owned());
        self.sink.report(Report::Event(Box::new(NewEvent { time, source, subject, data })));
    }

    /// Tells those who depend on targets, if anything has changed for them.
    fn tell_statuses(&self, touched: Touched) {
        let now = self.clock.now();
        let status =
            |it: &Watched| if it.machine.paused() { Status::Unknown } else { it.machine.status(now) };
        let same = {
            let told = self.statuses.borrow();
            let same = |name: &String, it: &Watched| told.get(name) == Some(&status(it));
            match &touched {
                Touched::Nobody => true,
                Touched::One(name) => self.watched.get(name).is_none_or(|it| same(name, it)),
                Touched::All => {
                    told.len() == self.watched.len() && self.watched.iter().all(|(name, it)| same(name, it))
                }
            }
        };
        if !same {
            let all = self.watched.iter().map(|(name, it)| (name.clone(), status(it)));
            self.statuses.send_replace(Arc::new(all.collect()));
        }
    }
}

/// Whether the node has found itself unwell.
const fn is_unwell(observer: &Observer) -> bool {
    matches!(observer, Observer::Blind { .. } | Observer::Suspect { confirmed: true, .. })
}

/// What the node's guard knows a target by.
fn guard_name(name: &str) -> String {
    format!("target {name}")
}

impl Watched {
    fn record(&self, finished: &Finished, clock: &dyn Clock) -> OutcomeRecord {
        let (reason, detail) = match &finished.result.verdict {
            Verdict::Success => (None, None),
            Verdict::Failure { reason, detail } => (Some(*reason), Some(detail.clone())),
        };
        let timing = &self.target.timing;
        let (consecutive, threshold) = match reason {
            None => (self.machine.consecutive_successes(), timing.success_threshold),
            Some(reason) if reason.is_prober_error() => {
                (self.machine.prober_errors(), timing.failure_threshold)
            }
            Some(_) => (self.machine.consecutive_failures(), timing.failure_threshold),
        };
        OutcomeRecord {
            subject: self.target.name.clone(),
            probe: None,
            incarnation: 0,
            at: clock.wall_at(finished.started_at),
            took_ms: finished.result.timings.total.as_secs_f64() * 1000.0,
            reason,
            detail,
            consecutive,
            threshold,
        }
    }

    fn status(&self, now: Time, clock: &dyn Clock) -> TargetStatus {
        let failure = self.machine.last_failure();
        TargetStatus {
            name: self.target.name.clone(),
            status: self.machine.status(now),
            since: self.machine.since().map(|at| clock.wall_at(at)),
            consecutive_failures: self.machine.consecutive_failures(),
            last_reason: failure.map(|(reason, _)| reason),
            last_detail: failure.map(|(_, detail)| detail.to_owned()),
            last_outcome_at: self.machine.last_outcome_at().map(|at| clock.wall_at(at)),
            paused: self.machine.paused(),
            prober_errors: self.machine.prober_errors(),
        }
    }
}
