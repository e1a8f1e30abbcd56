//! The task that owns the machine of every target.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use hale_check::Finished;
use hale_health::{Observer, ProbeTiming, Status, TargetMachine, TargetNote, TargetOutcome, Time};
use hale_model::{
    event::{EventData, NewEvent, TargetForgotten, TargetOrigin, TargetPaused, TargetResumed},
    report::Report,
    spec::{ListEntry, Target, in_maintenance},
    status::TargetStatus,
};
use hale_supervisor::{
    clock::Clock, engine::TargetChecks, guard::network_host, log::log_event, outside::is_elsewhere,
    sink::Sink,
};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::{
    Command, Pause, TargetError, TargetOptions, Told,
    doubts::Doubts,
    kept::Kept,
    read::Read,
    watched::{List, Watched},
};

pub(super) struct Runner {
    source: String,
    checks: TargetChecks,
    sink: Arc<dyn Sink>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) doubts: Doubts,
    pub(super) watched: BTreeMap<String, Watched>,
    by_token: HashMap<u64, String>,
    pub(super) lists: BTreeMap<String, List>,
    /// Rises with each list that is opened.
    pub(super) readings: u64,
    /// Where readers tell what they found, and where it is taken.
    pub(super) found: (mpsc::Sender<Read>, mpsc::Receiver<Read>),
    /// Who serves a service, as the server told.
    pub(super) services: BTreeMap<String, Vec<ListEntry>>,
    /// What is in lists, for the next start.
    pub(super) kept: Option<Kept>,
    /// What earlier runs told, and nobody has asked for yet.
    pub(super) told: Told,
    /// Whether a name has become free that an entry of a list may want.
    pub(super) freed: bool,
    /// When which pause ends.
    pub(super) pauses: BTreeSet<(Time, String)>,
    /// When to look again whether something has not been heard of for too long.
    sweep_at: Time,
    statuses: watch::Sender<Arc<BTreeMap<String, Status>>>,
}

/// Whose status may have changed.
pub(super) enum Touched {
    Nobody,
    One(String),
    All,
}

/// How often it is looked whether something has not been heard of for too long (H28).
const SWEEP: Duration = Duration::from_secs(5);

/// Lists that were read and wait to be taken; their readers wait when it is full.
const READS: usize = 8;

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
            doubts: Doubts::new(options.guard, options.outside),
            watched: BTreeMap::new(),
            by_token: HashMap::new(),
            lists: BTreeMap::new(),
            readings: 0,
            found: mpsc::channel(READS),
            services: BTreeMap::new(),
            kept: options.lists.as_deref().map(Kept::new),
            told: options.told,
            freed: false,
            pauses: BTreeSet::new(),
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
                () = self.doubts.changed() => self.on_observer(),
                () = self.clock.sleep_until(due) => self.on_time(),
                Some(read) = self.found.1.recv() => self.on_read(read),
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
            Command::Services(services) => self.on_services(services),
            Command::Status { answer } => {
                drop(answer.send(self.all_statuses()));
                Touched::Nobody
            }
        }
    }

    /// How every target is, lists among them, by name.
    fn all_statuses(&self) -> Vec<TargetStatus> {
        let now = self.clock.now();
        let mut all: BTreeMap<&str, TargetStatus> =
            self.watched.iter().map(|(name, it)| (name.as_str(), it.status(now, &*self.clock))).collect();
        for (name, list) in &self.lists {
            let members = list.members.iter().filter_map(|it| self.watched.get(it));
            all.insert(name, list.told(list.status(members.map(|it| it.machine.status(now)))));
        }
        all.into_values().collect()
    }

    fn pause(&mut self, name: &str, pause: Pause) -> Result<(), TargetError> {
        let until = pause.lasts.map(|lasts| self.clock.now() + lasts);
        self.set_paused(name, true)?;
        self.pauses.retain(|(_, it)| it != name);
        self.pauses.extend(until.map(|until| (until, name.to_owned())));
        let Pause { by, reason, .. } = pause;
        let until = until.map(|until| self.clock.wall_at(until));
        self.report(name, EventData::TargetPaused(TargetPaused { by, reason, until }));
        Ok(())
    }

    fn resume(&mut self, name: &str, by: String) -> Result<(), TargetError> {
        self.pauses.retain(|(_, it)| it != name);
        if !self.set_paused(name, false)? {
            return Ok(());
        }
        self.report(name, EventData::TargetResumed(TargetResumed { by }));
        Ok(())
    }

    /// Has a person's pause begin or end, of all members where it is a list; whether that changed.
    fn set_paused(&mut self, name: &str, paused: bool) -> Result<bool, TargetError> {
        let now = self.clock.now();
        if let Some(list) = self.lists.get_mut(name) {
            let changed = std::mem::replace(&mut list.paused, paused) != paused;
            // A person's word about the list is the last about its members, too.
            self.pauses.retain(|(_, it)| !list.members.contains(it));
            for member in &list.members {
                if let Some(watched) = self.watched.get_mut(member) {
                    watched.by_person = paused;
                    watched.settle_pause(now);
                    watched.keep_period();
                }
            }
            return Ok(changed);
        }
        let watched = self.watched.get_mut(name).ok_or_else(|| TargetError::NotFound(name.to_owned()))?;
        let changed = std::mem::replace(&mut watched.by_person, paused) != paused;
        watched.settle_pause(now);
        watched.keep_period();
        Ok(changed)
    }

    fn apply(&mut self, targets: Vec<Arc<Target>>) -> Result<(), TargetError> {
        let wanted: BTreeMap<String, Arc<Target>> =
            targets.into_iter().map(|target| (target.name.clone(), target)).collect();
        let changed =
            |name: &String, digest: &String| wanted.get(name).is_none_or(|new| new.digest != *digest);
        let gone: Vec<String> = self
            .watched
            .iter()
            // What stands in a list leaves with that, or gives way to one that is declared by its name.
            .filter(|(name, it)| match it.target.origin.list {
                Some(_) => wanted.contains_key(*name),
                None => changed(name, &it.target.digest),
            })
            .map(|(name, _)| name.clone())
            .collect();
        let closed = self.lists.iter().filter(|(name, it)| changed(name, &it.target.digest));
        let closed: Vec<String> = closed.map(|(name, _)| name.clone()).collect();
        let why = |name: &String| if wanted.contains_key(name) { "it changed" } else { "it left the list" };
        for name in &gone {
            let list = self.watched.get(name).and_then(|it| it.target.origin.list.clone());
            if let Some(list) = list
                && let Some(list) = self.lists.get_mut(&list)
            {
                list.members.remove(name);
                list.passed_over = true;
            }
            self.forget(name, why(name));
        }
        closed.iter().for_each(|name| self.close_list(name, why(name)));
        let mut first = Ok(());
        let (lists, single): (Vec<_>, Vec<_>) = wanted.into_values().partition(|it| it.list.is_some());
        for target in single {
            let name = target.name.clone();
            if !self.watched.contains_key(&name)
                && let Err(error) = self.watch(target)
            {
                warn!(target = name, %error, "a target can not be probed");
                first = first.and(Err(error));
            }
        }
        for target in lists {
            if !self.lists.contains_key(&target.name) {
                self.open_list(target);
            }
        }
        self.fill_up();
        self.drop_told();
        first
    }

    pub(super) fn watch(&mut self, target: Arc<Target>) -> Result<(), TargetError> {
        let (name, timing, now) = (target.name.clone(), target.timing, self.clock.now());
        let mut machine = TargetMachine::new(now, timing, target.policy);
        let timing = ProbeTiming { period: machine.period(), ..timing };
        let registered = self.checks.register(&name, &target.check, &timing);
        let (token, checks) = registered
            .map_err(|error| TargetError::Invalid { name: name.clone(), reason: error.to_string() })?;
        info!(
            target = name,
            check = target.check.as_str(),
            period = ?target.timing.period,
            timeout = ?timing.timeout,
            failure_threshold = timing.failure_threshold,
            "probing starts"
        );
        let mut told_since = None;
        match self.told.take(&name) {
            // What an earlier run told is not told again (N13).
            Some(failure) if failure.declaration == target.digest => {
                let wall = self.clock.wall();
                let age = Duration::try_from(wall.duration_since(failure.since)).unwrap_or_default();
                let began = Time::from_nanos(now.as_nanos().saturating_sub(nanos(age)));
                machine = machine.with_published_failure(began, failure.failures);
                told_since = Some(failure.since);
            }
            Some(failure) => self.tell_forgotten(&name, "it changed", failure.about),
            None => {}
        }
        let host = network_host(&target.check, None);
        let elsewhere = host.as_deref().is_some_and(is_elsewhere);
        if matches!(self.doubts.now(elsewhere), Observer::Blind { .. }) {
            machine.observer_changed(now, true);
        }
        let period = timing.period;
        self.by_token.insert(token, name.clone());
        let (by_person, in_window) = (false, None);
        let mut watched = Watched {
            target,
            machine,
            checks,
            period,
            token,
            host,
            elsewhere,
            by_person,
            in_window,
            told_since,
        };
        watched.keep_period();
        self.watched.insert(name.clone(), watched);
        self.keep_window(&name);
        Ok(())
    }

    pub(super) fn forget(&mut self, name: &str, why: &str) {
        let Some(old) = self.watched.remove(name) else { return };
        self.by_token.remove(&old.token);
        self.freed = true;
        self.pauses.retain(|(_, it)| it != name);
        self.doubts.forget(name);
        info!(target = name, why, "probing ends");
        self.sink.report(Report::Forgotten(name.to_owned()));
        if old.machine.published() {
            self.tell_forgotten(name, why, old.target.origin.clone());
        }
    }

    /// A failure was told, and nobody will tell its end: that is on record, too.
    pub(super) fn tell_forgotten(&self, name: &str, why: &str, about: TargetOrigin) {
        let reason = why.to_owned();
        self.report(name, EventData::TargetForgotten(TargetForgotten { reason, about }));
    }

    /// Has a maintenance window of the target begin or end, if one does now (H24).
    fn keep_window(&mut self, name: &str) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let Some(watched) = self.watched.get_mut(name) else { return };
        let on = in_maintenance(&watched.target.maintenance, wall);
        let until = on.map(|(until, _)| until);
        let began = until.is_some() && watched.in_window.is_none();
        let ended = until.is_none() && watched.in_window.is_some();
        if !began && !ended {
            return;
        }
        let reason = on.map(|(_, reason)| reason.to_owned()).unwrap_or_default();
        watched.in_window = until;
        watched.settle_pause(now);
        watched.keep_period();
        let by = MAINTENANCE.to_owned();
        let event = if began {
            EventData::TargetPaused(TargetPaused { by, reason, until })
        } else {
            EventData::TargetResumed(TargetResumed { by })
        };
        self.report(name, event);
    }

    fn keep_windows(&mut self) {
        let with = self.watched.iter().filter(|(_, it)| !it.target.maintenance.is_empty());
        let with: Vec<String> = with.map(|(name, _)| name.clone()).collect();
        with.iter().for_each(|name| self.keep_window(name));
    }

    fn on_finished(&mut self, finished: Finished) -> Touched {
        // What was cancelled has no outcome.
        let Some(name) = self.by_token.get(&finished.token).cloned() else { return Touched::Nobody };
        let now = self.clock.now();
        self.keep_window(&name);
        let Some(watched) = self.watched.get(&name) else { return Touched::Nobody };
        if let Some(host) = &watched.host {
            self.doubts.show(&name, host, &finished);
        }
        let observer = self.observer_of(watched);
        let Some(watched) = self.watched.get_mut(&name) else { return Touched::Nobody };
        let outcome = TargetOutcome {
            verdict: finished.result.verdict.clone(),
            status: finished.result.http_status.unwrap_or(0),
            started_at: finished.started_at,
        };
        let note = watched.machine.outcome(now, &outcome, &observer);
        watched.keep_period();
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

    fn on_time(&mut self) -> Touched {
        let now = self.clock.now();
        while let Some((_, name)) = self.pauses.first().filter(|(until, _)| *until <= now).cloned() {
            // Whatever comes of it: it is over.
            self.pauses.pop_first();
            let _ = self.resume(&name, "expired".to_owned());
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
            self.keep_windows();
        }
        Touched::All
    }

    pub(super) fn tell(&mut self, name: &str, note: Option<TargetNote>) {
        let watched = self.watched.get_mut(name);
        if let Some((note, watched)) = note.zip(watched) {
            let event = watched.event(note, &*self.clock);
            self.report(name, event);
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
        let same = {
            let told = self.statuses.borrow();
            let same = |name: &String, it: &Watched| told.get(name) == Some(&it.holds(now));
            match &touched {
                Touched::Nobody => true,
                Touched::One(name) => self.watched.get(name).is_some_and(|it| same(name, it)),
                Touched::All => {
                    told.len() == self.watched.len() + self.lists.len()
                        && self.watched.iter().all(|(name, it)| same(name, it))
                        && self
                            .lists
                            .iter()
                            .all(|(name, it)| told.get(name) == Some(&self.list_holds(it, now)))
                }
            }
        };
        if !same {
            let single = self.watched.iter().map(|(name, it)| (name.clone(), it.holds(now)));
            let lists = self.lists.iter().map(|(name, it)| (name.clone(), self.list_holds(it, now)));
            self.statuses.send_replace(Arc::new(single.chain(lists).collect()));
        }
    }

    fn list_holds(&self, list: &List, now: Time) -> Status {
        let members = list.members.iter().filter_map(|it| self.watched.get(it));
        list.status(members.map(|it| it.holds(now)))
    }
}

/// Who pauses by plan, in events.
const MAINTENANCE: &str = "maintenance";

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}
