//! What the desk holds, and what can be asked of it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hale_api::runs::{Alert, Run, RunState};
use hale_health::Time;
use hale_model::spec::{Program, Responder, Rule, Step, SuccessWhen};
use jiff::{SignedDuration, Timestamp};

use super::{
    Breaker, BreakerState, Effect, Now,
    breakers::{Capacity, Failure},
    budget::Budgets,
    queues::Queues,
    seen::Seen,
};
use crate::alert::{Fingerprint, ResourceKey};

/// What the command line says where files don't (R15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeskSettings {
    /// How long a program may run that has no timeout of its own.
    pub run_timeout: Duration,
    /// How long an alert may wait where `limits.maxQueueAge` is not given.
    pub max_queue_age: Duration,
}

/// The desk's own scale begins so long before the driver's, so that what was before the machine was started has a place
/// on it: an alert of yesterday, on a machine that was booted a minute ago.
const BEFORE: Duration = Duration::from_hours(366 * 24);

/// [`Now`] on the desk's own scale.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// On the desk's own scale.
    pub(super) time: Time,
    /// On the wall.
    pub(super) wall: Timestamp,
}

impl From<Now> for Moment {
    fn from(now: Now) -> Self {
        Self { time: now.time + BEFORE, wall: now.wall }
    }
}

impl Moment {
    /// When something was that the wall clock dates; now, if that is still to come.
    pub(super) fn past(self, wall: Timestamp) -> Time {
        self.time - between(wall, self.wall)
    }

    /// When something will be that the wall clock dates; now, if that is over.
    pub(super) fn to_come(self, wall: Timestamp) -> Time {
        self.time + between(self.wall, wall)
    }

    /// The wall's time so much later.
    pub(super) fn wall_in(self, by: Duration) -> Timestamp {
        let by = SignedDuration::try_from(by).ok();
        by.and_then(|by| self.wall.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
    }
}

/// From the earlier to the later; none if it is the other way round.
fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or(Duration::ZERO)
}

/// A run that is not final.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// Its record.
    pub(super) run: Run,
    /// Its alert.
    pub(super) alert: Alert,
    /// Its rule, among the responder's.
    pub(super) rule: usize,
    /// Since when it waits.
    pub(super) since: Time,
    /// Until when it waits for a person, or for its resource to be healthy.
    pub(super) until: Option<Time>,
    /// The health signal came while its program runs.
    pub(super) well: bool,
}

/// The pure core of a responder: see the [module](super).
///
/// What it holds is bounded: by the limits of the file, by 1,000 runs that wait for their resources to be healthy, and by
/// 10,000 fingerprints.
#[derive(Debug)]
pub struct Desk {
    pub(super) responder: Arc<Responder>,
    pub(super) settings: DeskSettings,
    /// Runs that are not final.
    pub(super) held: BTreeMap<String, Held>,
    pub(super) queues: Queues,
    /// Steps of escalations that wait to be started.
    pub(super) lane: VecDeque<String>,
    /// Runs that wait for a person, by cluster, the oldest first.
    pub(super) waiting: BTreeMap<String, VecDeque<String>>,
    /// The runs that are not final of each resource.
    pub(super) claims: BTreeMap<(String, ResourceKey), BTreeSet<String>>,
    pub(super) seen: Seen,
    /// Programs that run, by cluster.
    pub(super) active: BTreeMap<String, usize>,
    pub(super) recovering: usize,
    pub(super) budgets: Budgets,
    pub(super) capacity: Capacity,
    pub(super) failure: Failure,
    pub(super) holding: bool,
}

impl Desk {
    /// An empty desk.
    #[must_use]
    pub fn new(responder: Arc<Responder>, settings: DeskSettings, _now: Now) -> Self {
        let limits = &responder.limits;
        Self {
            settings,
            held: BTreeMap::new(),
            queues: Queues::new(limits),
            lane: VecDeque::new(),
            waiting: BTreeMap::new(),
            claims: BTreeMap::new(),
            seen: Seen::new(limits.duplicate_window),
            active: BTreeMap::new(),
            recovering: 0,
            budgets: Budgets::new(limits),
            capacity: Capacity::default(),
            failure: Failure::new(limits),
            holding: false,
            responder,
        }
    }

    /// The responder is ending: nothing is dequeued any more (R13).
    pub const fn hold(&mut self) {
        self.holding = true;
    }

    /// How many alerts of a cluster wait in its queue.
    #[must_use]
    pub fn depth(&self, cluster: &str) -> usize {
        self.queues.len(cluster)
    }

    /// How many alerts wait in all queues.
    #[must_use]
    pub const fn queued_total(&self) -> usize {
        self.queues.total()
    }

    /// How many alerts of one cluster may wait.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.queues.size()
    }

    /// How many alerts may wait in all.
    #[must_use]
    pub const fn global_capacity(&self) -> usize {
        self.queues.global_size()
    }

    /// How many programs of a cluster run.
    #[must_use]
    pub fn active(&self, cluster: &str) -> usize {
        self.active.get(cluster).copied().unwrap_or(0)
    }

    /// How many programs run.
    #[must_use]
    pub fn active_total(&self) -> usize {
        self.active.values().sum()
    }

    /// How a breaker stands.
    #[must_use]
    pub fn breaker(&self, breaker: Breaker, now: Now) -> BreakerState {
        match breaker {
            Breaker::Capacity => self.capacity.state(),
            Breaker::Failure => self.failure.state(Moment::from(now).time),
        }
    }

    /// The runs that are not final, by id.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.held.values().map(|it| &it.run)
    }

    /// A run that is not final.
    #[must_use]
    pub fn run(&self, id: &str) -> Option<&Run> {
        self.held.get(id).map(|it| &it.run)
    }

    /// The alert of a run that is not final.
    #[must_use]
    pub fn alert_of(&self, run: &str) -> Option<&Alert> {
        self.held.get(run).map(|it| &it.alert)
    }

    /// When [`Desk::sweep`] and [`Desk::next`] must be called at the latest, in this order: a deadline of a recovery or an
    /// approval, the breaker letting a probe through, room in a budget. What waits in queues is the periodic sweep's.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Option<Time> {
        let at = Moment::from(now);
        let deadlines = self.held.values().filter_map(|it| it.until);
        let rooms = (!self.holding)
            .then(|| self.queues.waiting().filter_map(|cluster| self.budgets.frees_at(cluster, at.time)));
        let probe =
            (!self.holding && self.queues.total() > 0).then(|| self.failure.opens_at(at.time)).flatten();
        deadlines.chain(rooms.into_iter().flatten()).chain(probe).min().map(|it| it - BEFORE)
    }

    /// How long an alert may wait.
    pub(super) fn max_age(&self) -> Duration {
        self.responder.limits.max_queue_age.unwrap_or(self.settings.max_queue_age)
    }

    /// Holds a run, and claims its resource for it.
    pub(super) fn keep(&mut self, held: Held) {
        self.claims.entry(claim(&held.run)).or_default().insert(held.run.id.clone());
        self.held.insert(held.run.id.clone(), held);
    }

    /// Brings a run to its end. It is in no queue any more when this is called, and holds no worker.
    pub(super) fn finish(
        &mut self,
        id: &str,
        state: RunState,
        reason: Option<String>,
        at: Moment,
        out: &mut Vec<Effect>,
    ) -> Option<Held> {
        let mut held = self.held.remove(id)?;
        let claim = claim(&held.run);
        if let Some(claimed) = self.claims.get_mut(&claim) {
            claimed.remove(id);
            if claimed.is_empty() {
                self.claims.remove(&claim);
            }
        }
        held.run.state = state;
        held.run.reason = reason;
        held.run.finished_at = Some(at.wall);
        self.seen.ended(&Fingerprint::of(&held.alert), &held.run);
        out.push(Effect::PutRun(Box::new(held.run.clone())));
        Some(held)
    }
}

/// What a run claims.
fn claim(run: &Run) -> (String, ResourceKey) {
    (run.cluster.clone(), (&run.resource).into())
}

/// What one step of a rule does; step 0 is the rule's own program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does<'a> {
    /// It runs a program.
    Runs(&'a Program),
    /// It sends the run's record.
    Sends(&'a hale_model::spec::Remote),
}

/// What a step of a rule does; `None` where the rule has none of that number.
pub(super) fn does(rule: &Rule, step: u32) -> Option<Does<'_>> {
    let Some(before) = step.checked_sub(1) else { return Some(Does::Runs(&rule.run)) };
    match rule.escalate.get(usize::try_from(before).ok()?)? {
        Step::Program(program) => Some(Does::Runs(program)),
        Step::Webhook(remote) => Some(Does::Sends(remote)),
    }
}

/// When a program of a rule is a success: a step of the escalation makes no artifact.
pub(super) fn success_of(rule: &Rule, step: u32) -> SuccessWhen {
    let mut success = rule.success.clone();
    if step > 0 {
        success.artifact = None;
    }
    success
}
