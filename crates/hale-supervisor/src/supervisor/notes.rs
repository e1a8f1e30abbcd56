//! From what a machine notes to the event that is told of it.

use hale_health::{Hold, Note, ReadyChange, Time};
use hale_model::{
    event::{
        EventData, Forensics, Instance, ReplicaExited, ReplicaFailed, ReplicaFlapping, ReplicaFlappingEnded,
        ReplicaHeld, ReplicaNotReady, ReplicaPaused, ReplicaProberError, ReplicaReady, ReplicaRecovered,
        ReplicaReleased, ReplicaRestartFailed, ReplicaRestartSucceeded, ReplicaRestarted, ReplicaRestarting,
        ReplicaResumed, ReplicaRunning, ReplicaStarting, ReplicaStopFailed, ReplicaStopped, ReplicaUnhealthy,
        ReplicaWouldHave,
    },
    status::{ExitStatus, HoldStatus},
};

use crate::clock::Clock;

/// A hold as it is told.
pub(super) fn hold_status(hold: &Hold, clock: &dyn Clock) -> HoldStatus {
    HoldStatus {
        by: hold.by.as_str().to_owned(),
        since: clock.wall_at(hold.since),
        until: hold.until.map(|until| clock.wall_at(until)),
        reason: hold.reason.clone(),
    }
}

/// The event of a change of readiness.
pub(super) fn ready_event(change: ReadyChange, instance: Instance) -> EventData {
    let ReadyChange { reason, .. } = change;
    if change.ready {
        let not_ready_seconds = change.not_ready_for.map(|it| it.as_secs_f64());
        return EventData::ReplicaReady(ReplicaReady { instance, reason, not_ready_seconds });
    }
    EventData::ReplicaNotReady(ReplicaNotReady {
        instance,
        reason,
        probe_reason: change.probe_reason,
        consecutive_failures: change.consecutive_failures,
        failure_threshold: change.failure_threshold,
    })
}

/// The event of a note; `None` for one that is about no event. What was kept of the old instance goes with the restart
/// it belongs to (H25).
pub(super) fn event(
    replica: &str,
    note: Note,
    instance: Instance,
    exited_at: Option<Time>,
    forensics: Option<Box<Forensics>>,
    clock: &dyn Clock,
) -> Option<EventData> {
    let exit_status =
        |exit| ExitStatus::new(exit, exited_at.map_or_else(|| clock.wall(), |at| clock.wall_at(at)));
    Some(match note {
        Note::Starting { reason, restarts } => {
            EventData::ReplicaStarting(ReplicaStarting { instance, reason, restarts })
        }
        Note::Running { reason, startup } => EventData::ReplicaRunning(ReplicaRunning {
            instance,
            reason,
            startup_seconds: startup.as_secs_f64(),
        }),
        Note::Exited { exit, expected, uptime } => EventData::ReplicaExited(ReplicaExited {
            instance,
            exit: exit_status(exit),
            expected,
            uptime_seconds: uptime.as_secs_f64(),
        }),
        Note::Failed { reason, last_reasons, budget_exhausted } => {
            let hint = format!("mend the cause, then `hale restart {replica}`");
            EventData::ReplicaFailed(ReplicaFailed { instance, reason, last_reasons, hint, budget_exhausted })
        }
        Note::Stopped { reason, exit, .. } => {
            EventData::ReplicaStopped(ReplicaStopped { instance, reason, exit: exit.map(exit_status) })
        }
        Note::StopFailed { detail } => EventData::ReplicaStopFailed(ReplicaStopFailed { instance, detail }),
        other => return about_restarts(other, instance, forensics, clock),
    })
}

fn about_restarts(
    note: Note,
    instance: Instance,
    forensics: Option<Box<Forensics>>,
    clock: &dyn Clock,
) -> Option<EventData> {
    Some(match note {
        Note::Restarting { reason, cause, restarts_in_window, max_restarts, backoff } => {
            EventData::ReplicaRestarting(ReplicaRestarting {
                instance,
                reason,
                cause,
                restarts_in_window,
                max_restarts,
                backoff_seconds: backoff.as_secs_f64(),
            })
        }
        Note::Restarted { reason, cause, restarts, restarts_in_window, max_restarts, down } => {
            EventData::ReplicaRestarted(ReplicaRestarted {
                instance,
                reason,
                cause,
                restarts,
                restarts_in_window,
                max_restarts,
                down_seconds: down.as_secs_f64(),
                forensics,
            })
        }
        Note::RestartSucceeded { min_uptime } => {
            EventData::ReplicaRestartSucceeded(ReplicaRestartSucceeded {
                instance,
                min_uptime_seconds: min_uptime.as_secs_f64(),
            })
        }
        Note::RestartFailed { reason, uptime, failed_in_a_row } => {
            let uptime_seconds = uptime.as_secs_f64();
            EventData::ReplicaRestartFailed(ReplicaRestartFailed {
                instance,
                reason,
                uptime_seconds,
                failed_in_a_row,
            })
        }
        probing => return about_probes(probing, instance, clock),
    })
}

fn about_probes(note: Note, instance: Instance, clock: &dyn Clock) -> Option<EventData> {
    Some(match note {
        Note::Unhealthy {
            probe,
            probe_reason,
            detail,
            consecutive_failures,
            failure_threshold,
            first_failure_at,
        } => EventData::ReplicaUnhealthy(ReplicaUnhealthy {
            instance,
            probe,
            probe_reason,
            detail,
            consecutive_failures,
            failure_threshold,
            first_failure_at: clock.wall_at(first_failure_at),
        }),
        Note::Recovered { probe, prior_failure_count, down } => {
            EventData::ReplicaRecovered(ReplicaRecovered {
                instance,
                probe,
                prior_failure_count,
                down_seconds: down.as_secs_f64(),
            })
        }
        Note::ProberError { probe, detail } => {
            EventData::ReplicaProberError(ReplicaProberError { instance, probe, detail })
        }
        Note::Flapping { penalty, suppress } => {
            EventData::ReplicaFlapping(ReplicaFlapping { instance, penalty, suppress })
        }
        Note::FlappingEnded { penalty, held } => EventData::ReplicaFlappingEnded(ReplicaFlappingEnded {
            instance,
            penalty,
            held_seconds: held.as_secs_f64(),
        }),
        holding => return about_holds(holding, instance, clock),
    })
}

fn about_holds(note: Note, instance: Instance, clock: &dyn Clock) -> Option<EventData> {
    Some(match note {
        Note::Held { action, hold } => EventData::ReplicaHeld(ReplicaHeld {
            instance,
            action: action.to_owned(),
            hold: hold_status(&hold, clock),
        }),
        Note::Released { action, by, held, outcome } => EventData::ReplicaReleased(ReplicaReleased {
            instance,
            action: action.to_owned(),
            by: by.as_str().to_owned(),
            held_seconds: held.as_secs_f64(),
            outcome,
        }),
        Note::Paused { scope, pause } => EventData::ReplicaPaused(ReplicaPaused {
            instance,
            probe: scope.probe(),
            by: pause.by,
            reason: pause.reason,
            until: pause.until.map(|until| clock.wall_at(until)),
        }),
        Note::Resumed { scope, by } => {
            EventData::ReplicaResumed(ReplicaResumed { instance, probe: scope.probe(), by })
        }
        Note::WouldHave { action, reason } => {
            EventData::ReplicaWouldHave(ReplicaWouldHave { instance, action: action.to_owned(), reason })
        }
        _ => return None,
    })
}
