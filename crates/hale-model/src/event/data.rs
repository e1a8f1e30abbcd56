//! The closed list of what can happen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

/// What happened: the closed list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum EventData {
    /// A replica's process was spawned.
    #[serde(rename = "dev.hale.replica.starting")]
    ReplicaStarting(ReplicaStarting),
    /// A replica has started: spawned, and its startup probe, if any, has succeeded; or an unhealthy one is well again.
    #[serde(rename = "dev.hale.replica.running")]
    ReplicaRunning(ReplicaRunning),
    /// A replica may receive traffic.
    #[serde(rename = "dev.hale.replica.ready")]
    ReplicaReady(ReplicaReady),
    /// A replica that was ready may no longer receive traffic.
    #[serde(rename = "dev.hale.replica.not_ready")]
    ReplicaNotReady(ReplicaNotReady),
    /// Liveness or startup has tripped: the replica is to be restarted.
    #[serde(rename = "dev.hale.replica.unhealthy")]
    ReplicaUnhealthy(ReplicaUnhealthy),
    /// A probe that had failed its threshold succeeds again.
    #[serde(rename = "dev.hale.replica.recovered")]
    ReplicaRecovered(ReplicaRecovered),
    /// A replica's process ended.
    #[serde(rename = "dev.hale.replica.exited")]
    ReplicaExited(ReplicaExited),
    /// A replica is to be started again.
    #[serde(rename = "dev.hale.replica.restarting")]
    ReplicaRestarting(ReplicaRestarting),
    /// A replica was started again.
    #[serde(rename = "dev.hale.replica.restarted")]
    ReplicaRestarted(ReplicaRestarted),
    /// A restarted replica has been healthy for its minimum uptime.
    #[serde(rename = "dev.hale.replica.restart_succeeded")]
    ReplicaRestartSucceeded(ReplicaRestartSucceeded),
    /// A restarted replica ended, or could not be spawned, before its minimum uptime.
    #[serde(rename = "dev.hale.replica.restart_failed")]
    ReplicaRestartFailed(ReplicaRestartFailed),
    /// Something that would be done is held back.
    #[serde(rename = "dev.hale.replica.held")]
    ReplicaHeld(ReplicaHeld),
    /// A hold has ended.
    #[serde(rename = "dev.hale.replica.released")]
    ReplicaReleased(ReplicaReleased),
    /// A replica was given up.
    #[serde(rename = "dev.hale.replica.failed")]
    ReplicaFailed(ReplicaFailed),
    /// A replica has ended on purpose.
    #[serde(rename = "dev.hale.replica.stopped")]
    ReplicaStopped(ReplicaStopped),
    /// The old instance can't be proven gone; none is started beside it.
    #[serde(rename = "dev.hale.replica.stop_failed")]
    ReplicaStopFailed(ReplicaStopFailed),
    /// A replica's readiness flaps; it is held out of traffic.
    #[serde(rename = "dev.hale.replica.flapping")]
    ReplicaFlapping(ReplicaFlapping),
    /// A flapping replica is let back.
    #[serde(rename = "dev.hale.replica.flapping_ended")]
    ReplicaFlappingEnded(ReplicaFlappingEnded),
    /// A person paused a replica or a probe of it.
    #[serde(rename = "dev.hale.replica.paused")]
    ReplicaPaused(ReplicaPaused),
    /// A pause has ended.
    #[serde(rename = "dev.hale.replica.resumed")]
    ReplicaResumed(ReplicaResumed),
    /// In observe mode: what would have been done.
    #[serde(rename = "dev.hale.replica.would_have")]
    ReplicaWouldHave(ReplicaWouldHave),
    /// A check could not be made; told once per spell.
    #[serde(rename = "dev.hale.replica.prober_error")]
    ReplicaProberError(ReplicaProberError),
    /// The kernel killed something of a container for want of memory; if it was all of it, its end follows.
    #[serde(rename = "dev.hale.replica.out_of_memory")]
    ReplicaOutOfMemory(ReplicaOutOfMemory),
    /// Something that is asked for has less effect here than one would think.
    #[serde(rename = "dev.hale.replica.warning")]
    ReplicaWarning(ReplicaWarning),
    /// A workload was declared or changed.
    #[serde(rename = "dev.hale.workload.applied")]
    WorkloadApplied(WorkloadApplied),
    /// A target has failed its threshold.
    #[serde(rename = "dev.hale.target.probe_failed")]
    TargetProbeFailed(TargetProbeFailed),
    /// A target answers again.
    #[serde(rename = "dev.hale.target.probe_recovered")]
    TargetProbeRecovered(TargetProbeRecovered),
    /// A target whose failure was told is not watched any more, or asks something else now: it will not recover.
    #[serde(rename = "dev.hale.target.forgotten")]
    TargetForgotten(TargetForgotten),
    /// A person or a maintenance window paused a target.
    #[serde(rename = "dev.hale.target.paused")]
    TargetPaused(TargetPaused),
    /// The pause of a target has ended.
    #[serde(rename = "dev.hale.target.resumed")]
    TargetResumed(TargetResumed),
    /// An agent has started.
    #[serde(rename = "dev.hale.node.started")]
    NodeStarted(NodeStarted),
    /// An agent stops.
    #[serde(rename = "dev.hale.node.stopping")]
    NodeStopping(NodeStopping),
    /// Most of a node's probes failed at once: it checks itself before it believes them.
    #[serde(rename = "dev.hale.node.observer_suspect")]
    NodeObserverSuspect(NodeObserverSuspect),
    /// A replica was placed on a node.
    #[serde(rename = "dev.hale.replica.placed")]
    ReplicaPlaced(ReplicaPlaced),
    /// A placement is not wanted any more: it drains and stops.
    #[serde(rename = "dev.hale.replica.withdrawn")]
    ReplicaWithdrawn(ReplicaWithdrawn),
    /// No node takes a replica; told once per spell.
    #[serde(rename = "dev.hale.replica.unplaceable")]
    ReplicaUnplaceable(ReplicaUnplaceable),
    /// All replicas run by the new declaration and are ready.
    #[serde(rename = "dev.hale.workload.updated")]
    WorkloadUpdated(WorkloadUpdated),
    /// A new declaration did not come up and was taken back.
    #[serde(rename = "dev.hale.workload.rolled_back")]
    WorkloadRolledBack(WorkloadRolledBack),
    /// A new declaration does not come up and is not taken back; told once.
    #[serde(rename = "dev.hale.workload.update_stalled")]
    WorkloadUpdateStalled(WorkloadUpdateStalled),
    /// A node is not heard of any more.
    #[serde(rename = "dev.hale.node.lost")]
    NodeLost(NodeLost),
    /// A node that was lost or away is heard of again.
    #[serde(rename = "dev.hale.node.ready")]
    NodeReady(NodeReady),
    /// Nothing runs any more on a node that is drained.
    #[serde(rename = "dev.hale.node.drained")]
    NodeDrained(NodeDrained),
    /// So many nodes are silent at once that the server suspects itself: it moves nothing.
    #[serde(rename = "dev.hale.cluster.braked")]
    ClusterBraked(ClusterBraked),
    /// Enough nodes are heard of again.
    #[serde(rename = "dev.hale.cluster.brake_released")]
    ClusterBrakeReleased(ClusterBrakeReleased),
    /// A deployment object works in part in a cluster.
    #[serde(rename = "dev.hale.deployment.degraded")]
    DeploymentDegraded(DeploymentChanged),
    /// A deployment object does not work in a cluster.
    #[serde(rename = "dev.hale.deployment.failing")]
    DeploymentFailing(DeploymentChanged),
    /// A deployment object of which it was told that it is not well is healthy again.
    #[serde(rename = "dev.hale.deployment.recovered")]
    DeploymentRecovered(DeploymentChanged),
    /// A request for diagnostics has come to its end.
    #[serde(rename = "dev.hale.diagnostics.completed")]
    DiagnosticsCompleted(DiagnosticsCompleted),
    /// The program of a run was started.
    #[serde(rename = "dev.hale.run.started")]
    RunStarted(RunStarted),
    /// A run did what it is for.
    #[serde(rename = "dev.hale.run.succeeded")]
    RunSucceeded(RunSucceeded),
    /// A run did not: its program failed or ran for too long, the resource is not healthy all the same, or the
    /// responder ended.
    #[serde(rename = "dev.hale.run.failed")]
    RunFailed(RunFailed),
    /// A run waits for a person.
    #[serde(rename = "dev.hale.run.awaiting_approval")]
    RunAwaitingApproval(RunAwaitingApproval),
    /// A person has approved or rejected a run.
    #[serde(rename = "dev.hale.run.decided")]
    RunDecided(RunDecided),
    /// A rule that only observes: what would have run.
    #[serde(rename = "dev.hale.run.would_have")]
    RunWouldHave(RunWouldHave),
    /// A run was no success: the next step of its rule is taken.
    #[serde(rename = "dev.hale.run.escalated")]
    RunEscalated(RunEscalated),
    /// An alert has waited for too long and leads to nothing.
    #[serde(rename = "dev.hale.alert.expired")]
    AlertExpired(AlertExpired),
    /// A queue was full: an alert was refused, or gave way to a newer one.
    #[serde(rename = "dev.hale.alert.dropped")]
    AlertDropped(AlertDropped),
    /// A responder starts no runs, or takes no alerts, for a while.
    #[serde(rename = "dev.hale.responder.breaker_opened")]
    BreakerOpened(BreakerOpened),
    /// It does again.
    #[serde(rename = "dev.hale.responder.breaker_closed")]
    BreakerClosed(BreakerClosed),
}

/// The types of the list: one entry makes both what an event is called and its place among all.
macro_rules! types {
    ($($name:ident = $kind:literal,)*) => {
        impl EventData {
            /// Every type of the list, in order.
            pub const TYPES: [&'static str; [$($kind),*].len()] = [$($kind),*];

            /// Its CloudEvents type.
            #[must_use]
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $kind,)*
                }
            }
        }
    };
}

types! {
    ReplicaStarting = "dev.hale.replica.starting",
    ReplicaRunning = "dev.hale.replica.running",
    ReplicaReady = "dev.hale.replica.ready",
    ReplicaNotReady = "dev.hale.replica.not_ready",
    ReplicaUnhealthy = "dev.hale.replica.unhealthy",
    ReplicaRecovered = "dev.hale.replica.recovered",
    ReplicaExited = "dev.hale.replica.exited",
    ReplicaRestarting = "dev.hale.replica.restarting",
    ReplicaRestarted = "dev.hale.replica.restarted",
    ReplicaRestartSucceeded = "dev.hale.replica.restart_succeeded",
    ReplicaRestartFailed = "dev.hale.replica.restart_failed",
    ReplicaHeld = "dev.hale.replica.held",
    ReplicaReleased = "dev.hale.replica.released",
    ReplicaFailed = "dev.hale.replica.failed",
    ReplicaStopped = "dev.hale.replica.stopped",
    ReplicaStopFailed = "dev.hale.replica.stop_failed",
    ReplicaFlapping = "dev.hale.replica.flapping",
    ReplicaFlappingEnded = "dev.hale.replica.flapping_ended",
    ReplicaPaused = "dev.hale.replica.paused",
    ReplicaResumed = "dev.hale.replica.resumed",
    ReplicaWouldHave = "dev.hale.replica.would_have",
    ReplicaProberError = "dev.hale.replica.prober_error",
    ReplicaOutOfMemory = "dev.hale.replica.out_of_memory",
    ReplicaWarning = "dev.hale.replica.warning",
    WorkloadApplied = "dev.hale.workload.applied",
    TargetProbeFailed = "dev.hale.target.probe_failed",
    TargetProbeRecovered = "dev.hale.target.probe_recovered",
    TargetForgotten = "dev.hale.target.forgotten",
    TargetPaused = "dev.hale.target.paused",
    TargetResumed = "dev.hale.target.resumed",
    NodeStarted = "dev.hale.node.started",
    NodeStopping = "dev.hale.node.stopping",
    NodeObserverSuspect = "dev.hale.node.observer_suspect",
    ReplicaPlaced = "dev.hale.replica.placed",
    ReplicaWithdrawn = "dev.hale.replica.withdrawn",
    ReplicaUnplaceable = "dev.hale.replica.unplaceable",
    WorkloadUpdated = "dev.hale.workload.updated",
    WorkloadRolledBack = "dev.hale.workload.rolled_back",
    WorkloadUpdateStalled = "dev.hale.workload.update_stalled",
    NodeLost = "dev.hale.node.lost",
    NodeReady = "dev.hale.node.ready",
    NodeDrained = "dev.hale.node.drained",
    ClusterBraked = "dev.hale.cluster.braked",
    ClusterBrakeReleased = "dev.hale.cluster.brake_released",
    DeploymentDegraded = "dev.hale.deployment.degraded",
    DeploymentFailing = "dev.hale.deployment.failing",
    DeploymentRecovered = "dev.hale.deployment.recovered",
    DiagnosticsCompleted = "dev.hale.diagnostics.completed",
    RunStarted = "dev.hale.run.started",
    RunSucceeded = "dev.hale.run.succeeded",
    RunFailed = "dev.hale.run.failed",
    RunAwaitingApproval = "dev.hale.run.awaiting_approval",
    RunDecided = "dev.hale.run.decided",
    RunWouldHave = "dev.hale.run.would_have",
    RunEscalated = "dev.hale.run.escalated",
    AlertExpired = "dev.hale.alert.expired",
    AlertDropped = "dev.hale.alert.dropped",
    BreakerOpened = "dev.hale.responder.breaker_opened",
    BreakerClosed = "dev.hale.responder.breaker_closed",
}

impl EventData {
    /// What happened and why in one line for people; who and when stand beside it.
    #[must_use]
    pub fn message(&self) -> String {
        crate::describe::event(self)
    }

    /// How much it matters.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a closed list, each of it in one place")]
    pub const fn severity(&self) -> Severity {
        match self {
            // What was asked for is no reason to worry.
            Self::ReplicaExited(ReplicaExited { expected: true, .. })
            | Self::ReplicaRestarting(ReplicaRestarting {
                cause: RestartCause::Manual | RestartCause::Policy,
                ..
            })
            | Self::ReplicaRestarted(ReplicaRestarted {
                cause: RestartCause::Manual | RestartCause::Policy,
                ..
            }) => Severity::Info,
            Self::ReplicaStarting(_)
            | Self::ReplicaRunning(_)
            | Self::ReplicaReady(_)
            | Self::ReplicaRecovered(_)
            | Self::ReplicaRestartSucceeded(_)
            | Self::ReplicaReleased(_)
            | Self::ReplicaStopped(_)
            | Self::ReplicaFlappingEnded(_)
            | Self::ReplicaPaused(_)
            | Self::ReplicaResumed(_)
            | Self::ReplicaWouldHave(_)
            | Self::WorkloadApplied(_)
            | Self::TargetProbeRecovered(_)
            | Self::TargetForgotten(_)
            | Self::TargetPaused(_)
            | Self::TargetResumed(_)
            | Self::NodeStarted(_)
            | Self::NodeStopping(_)
            | Self::ReplicaPlaced(_)
            | Self::ReplicaWithdrawn(_)
            | Self::WorkloadUpdated(_)
            | Self::NodeReady(_)
            | Self::NodeDrained(_)
            | Self::ClusterBrakeReleased(_)
            | Self::DeploymentRecovered(_)
            | Self::DiagnosticsCompleted(_)
            | Self::RunStarted(_)
            | Self::RunSucceeded(_)
            | Self::RunDecided(_)
            | Self::RunWouldHave(_)
            | Self::BreakerClosed(_) => Severity::Info,
            Self::ReplicaNotReady(_)
            | Self::ReplicaExited(_)
            | Self::ReplicaRestarting(_)
            | Self::ReplicaRestarted(_)
            | Self::ReplicaRestartFailed(_)
            | Self::ReplicaHeld(_)
            | Self::ReplicaFlapping(_)
            | Self::ReplicaProberError(_)
            | Self::ReplicaOutOfMemory(_)
            | Self::ReplicaWarning(_)
            | Self::NodeObserverSuspect(_)
            | Self::DeploymentDegraded(_)
            | Self::RunAwaitingApproval(_)
            | Self::RunEscalated(_)
            | Self::AlertExpired(_)
            | Self::AlertDropped(_) => Severity::Warning,
            Self::ReplicaUnhealthy(_)
            | Self::TargetProbeFailed(_)
            | Self::ReplicaUnplaceable(_)
            | Self::WorkloadRolledBack(_)
            | Self::WorkloadUpdateStalled(_)
            | Self::NodeLost(_)
            | Self::DeploymentFailing(_)
            | Self::RunFailed(_)
            | Self::BreakerOpened(_) => Severity::Error,
            Self::ReplicaFailed(_) | Self::ReplicaStopFailed(_) | Self::ClusterBraked(_) => {
                Severity::Critical
            }
        }
    }

    /// Which run of a replica it is about, if it is about one.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a closed list, each of it in one place")]
    pub const fn instance(&self) -> Option<&Instance> {
        match self {
            Self::ReplicaStarting(ReplicaStarting { instance, .. })
            | Self::ReplicaRunning(ReplicaRunning { instance, .. })
            | Self::ReplicaReady(ReplicaReady { instance, .. })
            | Self::ReplicaNotReady(ReplicaNotReady { instance, .. })
            | Self::ReplicaUnhealthy(ReplicaUnhealthy { instance, .. })
            | Self::ReplicaRecovered(ReplicaRecovered { instance, .. })
            | Self::ReplicaExited(ReplicaExited { instance, .. })
            | Self::ReplicaRestarting(ReplicaRestarting { instance, .. })
            | Self::ReplicaRestarted(ReplicaRestarted { instance, .. })
            | Self::ReplicaRestartSucceeded(ReplicaRestartSucceeded { instance, .. })
            | Self::ReplicaRestartFailed(ReplicaRestartFailed { instance, .. })
            | Self::ReplicaHeld(ReplicaHeld { instance, .. })
            | Self::ReplicaReleased(ReplicaReleased { instance, .. })
            | Self::ReplicaFailed(ReplicaFailed { instance, .. })
            | Self::ReplicaStopped(ReplicaStopped { instance, .. })
            | Self::ReplicaStopFailed(ReplicaStopFailed { instance, .. })
            | Self::ReplicaFlapping(ReplicaFlapping { instance, .. })
            | Self::ReplicaFlappingEnded(ReplicaFlappingEnded { instance, .. })
            | Self::ReplicaPaused(ReplicaPaused { instance, .. })
            | Self::ReplicaResumed(ReplicaResumed { instance, .. })
            | Self::ReplicaWouldHave(ReplicaWouldHave { instance, .. })
            | Self::ReplicaProberError(ReplicaProberError { instance, .. })
            | Self::ReplicaOutOfMemory(ReplicaOutOfMemory { instance, .. })
            | Self::ReplicaWarning(ReplicaWarning { instance, .. })
            | Self::ReplicaPlaced(ReplicaPlaced { instance, .. })
            | Self::ReplicaWithdrawn(ReplicaWithdrawn { instance, .. }) => Some(instance),
            Self::WorkloadApplied(_)
            | Self::TargetProbeFailed(_)
            | Self::TargetProbeRecovered(_)
            | Self::TargetForgotten(_)
            | Self::TargetPaused(_)
            | Self::TargetResumed(_)
            | Self::NodeStarted(_)
            | Self::NodeStopping(_)
            | Self::NodeObserverSuspect(_)
            | Self::ReplicaUnplaceable(_)
            | Self::WorkloadUpdated(_)
            | Self::WorkloadRolledBack(_)
            | Self::WorkloadUpdateStalled(_)
            | Self::NodeLost(_)
            | Self::NodeReady(_)
            | Self::NodeDrained(_)
            | Self::ClusterBraked(_)
            | Self::ClusterBrakeReleased(_)
            | Self::DeploymentDegraded(_)
            | Self::DeploymentFailing(_)
            | Self::DeploymentRecovered(_)
            | Self::DiagnosticsCompleted(_)
            | Self::RunStarted(_)
            | Self::RunSucceeded(_)
            | Self::RunFailed(_)
            | Self::RunAwaitingApproval(_)
            | Self::RunDecided(_)
            | Self::RunWouldHave(_)
            | Self::RunEscalated(_)
            | Self::AlertExpired(_)
            | Self::AlertDropped(_)
            | Self::BreakerOpened(_)
            | Self::BreakerClosed(_) => None,
        }
    }
}
