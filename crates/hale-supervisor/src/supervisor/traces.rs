//! The beginning of a trace (O2): the outcome that tipped a threshold, or the end that nobody asked for, then the
//! restart, until the replica is ready again.
//!
//! A replica has one trace at a time. It is kept with the replica and not in a task, because what follows comes back
//! through the dispatcher as events of their own.

use hale_health::{Decision, Note};
use hale_model::trace;
use tracing::Span;

use super::unit::Unit;

/// What a replica's changes are traced by.
#[derive(Debug, Default)]
pub(super) struct Traced {
    /// The `traceparent` of the last span of its trace; `None` between incidents.
    pub(super) parent: Option<String>,
    /// The `traceparent` that went with the request whose outcome is met now.
    pub(super) asked: Option<String>,
    /// The restart that goes on.
    restart: Option<Span>,
}

/// What a decision is called in a trace, where it is worth one.
fn name(decision: &Decision) -> Option<&'static str> {
    Some(match decision {
        Decision::Ready(change) if change.ready => "ready",
        Decision::Ready(_) => "not_ready",
        Decision::Note(Note::Unhealthy { .. }) => "unhealthy",
        Decision::Note(Note::Restarting { .. }) => "restarting",
        Decision::Note(Note::Restarted { .. }) => "restarted",
        Decision::Note(Note::Exited { expected: false, .. }) => "exited",
        Decision::Note(Note::Failed { .. }) => "failed",
        _ => return None,
    })
}

impl Unit {
    /// The span that these decisions are to be carried out in: the next of the replica's trace, or the first of one
    /// when an outcome or an end began it.
    pub(super) fn trace(&mut self, decisions: &[(u32, Decision)]) -> Span {
        if !trace::is_on() {
            return Span::none();
        }
        let Some((ordinal, what)) = decisions.iter().find_map(|(at, it)| Some((*at, name(it)?))) else {
            return Span::none();
        };
        let slot = self.slot(ordinal);
        let asked = slot.traced.asked.take();
        let replica = slot.name.as_str();
        let span = match (&slot.traced.parent, asked.as_deref()) {
            (Some(parent), _) => hale_model::trace_span!(next Some(parent), "decision", replica, what),
            (None, Some(own)) => hale_model::trace_span!(first Some(own), "outcome", replica, what),
            (None, None) => hale_model::trace_span!(first None, "outcome", replica, what),
        };
        slot.traced.parent = trace::of(&span);
        span
    }

    /// What these decisions have begun or ended, once they were carried out.
    pub(super) fn traced(&mut self, decisions: &[(u32, Decision)]) {
        for (ordinal, decision) in decisions {
            let Some(slot) = self.slots.get_mut(ordinal) else { continue };
            match decision {
                Decision::Note(Note::Restarting { reason, .. }) => {
                    let (parent, replica) = (slot.traced.parent.as_deref(), slot.name.as_str());
                    let restart = hale_model::trace_span!(next parent, "restart", replica, reason);
                    slot.traced.parent = trace::of(&restart).or(slot.traced.parent.take());
                    slot.traced.restart = Some(restart);
                }
                Decision::Note(Note::Restarted { .. }) => slot.traced.restart = None,
                Decision::Ready(change) if change.ready => slot.traced = Traced::default(),
                Decision::Note(Note::Failed { .. } | Note::Stopped { .. }) => slot.traced = Traced::default(),
                _ => {}
            }
        }
    }
}
