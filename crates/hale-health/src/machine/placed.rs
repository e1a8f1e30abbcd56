//! Replicas that are placed one by one, each with settings of its own: while a change goes through a cluster, two
//! replicas of one workload on one node may be declared differently.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{By, Decision, Found, Memento, Pause, PauseScope, Workload, rolling::Rolling};
use crate::{ReplicaPolicy, Time, WorkloadPolicy};

/// What holds for a replica from its first moment on.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// Its settings; those of its workload when absent.
    pub policy: Option<Arc<ReplicaPolicy>>,
    /// It is not to be started, on whose behalf.
    pub stopped: Option<By>,
    /// Pauses that are on it.
    pub pauses: Vec<(PauseScope, Pause)>,
    /// What an earlier agent left of it (N6): it goes on from there, is not asked to start, and keeps the pauses it had.
    pub resumed: Option<Resumed>,
}

/// What an earlier agent left of a replica.
#[derive(Debug, Clone, Default)]
pub struct Resumed {
    /// What it remembered.
    pub memento: Option<Memento>,
    /// What was found of its last instance.
    pub found: Option<Found>,
}

impl Workload {
    /// Says what is to hold for a replica that [`Workload::set_ordinals`] is about to create.
    pub fn arrive(&mut self, ordinal: u32, arrival: Arrival) {
        self.arrivals.insert(ordinal, arrival);
    }

    /// Changes what holds for the replicas together; each keeps its own settings.
    pub const fn set_together(&mut self, together: WorkloadPolicy) {
        self.together = together;
    }

    /// Changes the settings of one replica. Probes whose timing changed begin anew; all else holds from now on.
    pub fn set_policy_of(
        &mut self,
        now: Time,
        ordinal: u32,
        policy: ReplicaPolicy,
        out: &mut Vec<(u32, Decision)>,
    ) {
        let now = self.advance(now);
        let Some(slot) = self.slots.get_mut(&ordinal) else { return };
        let mut decisions = Vec::new();
        slot.replica.set_policy(now, Arc::new(policy), &mut decisions);
        out.extend(decisions.into_iter().map(|it| (ordinal, it)));
        let _ = self.touch(now, ordinal, None, out);
        self.settle_waiting(now, out);
    }

    /// Restarts these replicas one after the other, as [`super::WorkloadInput::Restart`] does all. It takes the place
    /// of a round that goes on; what that one had left is restarted with these.
    pub fn restart_some(
        &mut self,
        now: Time,
        ordinals: impl IntoIterator<Item = u32>,
        (min_ready, progress_deadline): (Duration, Duration),
        by: By,
        out: &mut Vec<(u32, Decision)>,
    ) {
        let now = self.advance(now);
        let mut left: BTreeSet<u32> = ordinals.into_iter().collect();
        left.extend(self.rolling.take().into_iter().flat_map(Rolling::left));
        self.rolling = Some(Rolling::new(by, min_ready, progress_deadline, left.into_iter()));
        self.roll(now, out);
    }
}
