//! What goes into a beat (N7).

use std::time::Duration;

use hale_api::proto;
use hale_model::{trace, trace_span};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Link, session::Session};
use crate::state::Delta;

/// The most replicas and targets in a beat that is not full; the next one follows at once.
const MOST_CHANGES: usize = 500;

/// The most events in a beat, and their most bytes: well below what a message may have.
const MOST_EVENTS: usize = 200;
const MOST_EVENT_BYTES: usize = 1024 * 1024;

/// Events on their way that are not durable yet: a server that is slow to write is not flooded.
const MOST_EVENTS_IN_FLIGHT: u64 = 2000;

/// How often resources go along.
const RESOURCES_EVERY: Duration = Duration::from_secs(30);

impl Link {
    /// The spans of a beat, one for each trace that a replica in it is told in (O2): once, with what changed. They end
    /// when it was sent.
    fn traced(&mut self, beat: &mut proto::Beat) -> Vec<tracing::Span> {
        let mut spans = Vec::new();
        let sequence = beat.sequence;
        for replica in beat.replicas.iter_mut().filter(|it| !it.traceparent.is_empty()) {
            let told = self.traces.insert(replica.generation, replica.traceparent.clone());
            if told.as_ref() == Some(&replica.traceparent) {
                replica.traceparent.clear();
                continue;
            }
            let (workload, ordinal) = (replica.workload.as_str(), replica.ordinal);
            let span = trace_span!(next Some(&replica.traceparent), "beat", sequence, workload, ordinal);
            if let Some(own) = trace::of(&span) {
                replica.traceparent.clone_from(&own);
                beat.traceparent = own;
            }
            spans.push(span);
        }
        for generation in &beat.gone {
            self.traces.remove(generation);
        }
        spans
    }
}

impl Link {
    /// Tells what is new; when that is nothing, that the node lives.
    pub(super) async fn beat(&mut self, session: &mut Session) {
        // Before anything was loaded nothing is known of what runs here: that is not to be taken for nothing.
        let full = session.want_full && self.view.borrow().loaded;
        session.want_full &= !full;
        let events = self.events(session).await;
        self.use_samples();
        session.sequence += 1;
        let delta = if full {
            self.tracker.full(session.sequence)
        } else {
            self.tracker.delta(session.sequence, MOST_CHANGES)
        };
        self.send(session, full, delta, events);
    }

    /// Tells events alone, if there are any.
    pub(super) async fn send_events(&mut self, session: &mut Session) {
        let events = self.events(session).await;
        if !events.0.is_empty() {
            session.sequence += 1;
            let delta = self.tracker.delta(session.sequence, MOST_CHANGES);
            self.send(session, false, delta, events);
        }
    }

    fn send(
        &mut self,
        session: &mut Session,
        full: bool,
        delta: Delta,
        events: (Vec<proto::SpooledEvent>, bool),
    ) {
        let now = Instant::now();
        let more = self.tracker.has_news() || events.1;
        let events = events.0;
        let mut beat = proto::Beat {
            sequence: session.sequence,
            sent_at: Timestamp::now().as_microsecond(),
            sent_boottime: self.parts.clock.now().as_nanos(),
            full,
            replicas: delta.replicas,
            gone: delta.gone,
            targets: delta.targets,
            gone_targets: delta.gone_targets,
            events,
            ..proto::Beat::default()
        };
        let revision = self.view.borrow().revision;
        if session.told_revision != Some(revision) {
            session.told_revision = Some(revision);
            beat.desired_revision = revision;
        }
        if now >= session.compare_at && !more {
            session.compare_at = now + super::session::COMPARE_EVERY;
            beat.digest = self.tracker.digest().to_vec();
        }
        if now >= session.resources_at {
            session.resources_at = now + RESOURCES_EVERY;
            beat.resources = self.parts.samples.borrow().resources;
        }
        if let Some(last) = beat.events.last() {
            session.event_sent = last.number;
        }
        let _sending = self.traced(&mut beat);
        if session.send_beat(beat) {
            self.parts.metrics.beats_sent.inc();
        }
        if more {
            session.want_beat();
        }
        self.count_spool();
    }

    /// Events that were not sent yet, as many as fit, and whether there are more.
    async fn events(&mut self, session: &Session) -> (Vec<proto::SpooledEvent>, bool) {
        let in_flight = session.event_sent.saturating_sub(session.event_durable);
        if in_flight >= MOST_EVENTS_IN_FLIGHT {
            return (Vec::new(), false);
        }
        let mut events = match self.parts.reports.spool.read(session.event_sent, MOST_EVENTS).await {
            Ok(events) => events,
            Err(error) => {
                tracing::error!(%error, "events are told later");
                return (Vec::new(), false);
            }
        };
        let mut bytes = 0;
        let fits = events.iter().take_while(|it| {
            bytes += it.data.len();
            bytes <= MOST_EVENT_BYTES
        });
        let fits = fits.count().max(1);
        let more = events.len() >= MOST_EVENTS || events.len() > fits;
        events.truncate(fits);
        (events, more)
    }

    /// What replicas use goes along with what is told of them.
    fn use_samples(&mut self) {
        let sample = self.parts.samples.borrow().clone();
        for used in &sample.usages {
            self.tracker.observe_usage(&used.workload, used.ordinal, used.incarnation, used.usage);
        }
    }

    pub(super) fn count_spool(&self) {
        let counters = self.parts.reports.spool.counters();
        self.parts.metrics.spooled.set(i64::try_from(counters.waiting).unwrap_or(i64::MAX));
        self.parts.metrics.spool_lost.set(i64::try_from(counters.lost).unwrap_or(i64::MAX));
    }
}
