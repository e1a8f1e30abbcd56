//! Taking a beat in (N7, N8, S2).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use hale_api::{proto, wire};
use hale_model::{
    cluster::{PlacementState, SessionState},
    event::{EventData, NewEvent},
    status::TargetStatus,
    trace, trace_span,
};
use hale_store::cluster::{Committed, WriteError};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Over, Session};
use crate::cluster::{
    live::Entry,
    seen::{self, Seen},
    short,
    snapshot::Snapshot,
};

/// The most entries of an acknowledgement that name what was not taken; the rest is counted and logged alone.
const REJECTED: usize = 100;

/// The longest text of an event (256 KiB of forensics, H25, and what stands around them).
const EVENT: usize = 512 * 1024;

/// A difference of clocks that is warned of (N8), milliseconds.
const SKEW: i64 = 5_000;

/// `type` and `data` of an event, as they came.
#[derive(Deserialize)]
struct Told {
    #[serde(flatten)]
    data: EventData,
}

impl Session {
    /// Takes a beat in and acknowledges it.
    pub(super) fn beat(&mut self, beat: proto::Beat) {
        let skewed = self.live.skew_ms().abs() > SKEW;
        self.live.beat(Some(beat.sent_at));
        if !skewed && self.live.skew_ms().abs() > SKEW {
            tracing::warn!(node = %self.node, skew_ms = self.live.skew_ms(), "the clock of a node is off; NTP mends that");
        }
        self.shared.counters.beats.add(1);
        if !self.leaving && self.pending.state() != SessionState::Connected {
            self.pending.set_state(SessionState::Connected);
        }
        self.arrived = (beat.sequence, beat.sent_boottime);
        self.advance();
        self.pending.arrived(beat.sequence);
        if !is_idle(&beat) {
            self.news(beat);
        }
        self.write();
        if self.pending.is_empty() {
            self.out.ack.durable_sequence = self.out.ack.sequence;
        }
        self.out.acknowledge();
    }

    /// Acknowledges the newest beat, if the agent may count on that (S9): not while others may hold this server for
    /// dead, and not before it is durable that the node is heard of again, because another server may be about to
    /// replace what it runs. It is heard all the same.
    fn advance(&mut self) {
        if self.shared.holds_lease() && !self.pending.is_silent() {
            (self.out.ack.sequence, self.out.ack.sent_boottime) = self.arrived;
        }
    }

    fn news(&mut self, beat: proto::Beat) {
        let snapshot = self.shared.feed.current();
        let named: HashSet<u64> = beat.replicas.iter().map(|it| it.generation).collect();
        let now = Timestamp::now();
        let mut changed = false;
        for replica in beat.replicas {
            let (generation, name) =
                (replica.generation, format!("{}-{}", short(&replica.workload), replica.ordinal));
            match self.replica(&snapshot, replica, now) {
                Ok(news) => changed |= news,
                Err((code, detail)) => self.reject(generation, name, code, detail),
            }
        }
        for generation in beat.gone {
            changed |= self.gone(&snapshot, generation);
        }
        if beat.full {
            self.heard_all = true;
            changed |= self.sweep(&snapshot, &named);
        }
        changed |= self.targets(&snapshot, beat.targets, &beat.gone_targets, beat.full);
        if let Some(resources) = beat.resources {
            self.live.heard().resources = Some(resources);
        }
        beat.events.into_iter().for_each(|event| self.event(event));
        if !beat.digest.is_empty() && beat.digest != self.digest() {
            tracing::info!(node = %self.node, "what is known of a node is not what it says: all of it is asked for");
            self.shared.counters.resyncs.add(1);
            self.out.ack.want_full = true;
        }
        if changed {
            self.shared.live.changed();
        }
        if self.adopts.is_some() {
            self.tell();
        }
    }

    /// Takes one instance in; whether people see a difference.
    fn replica(
        &mut self,
        snapshot: &Snapshot,
        replica: proto::Replica,
        now: Timestamp,
    ) -> Result<bool, (&'static str, String)> {
        let generation = replica.generation;
        match snapshot.placements.get(generation) {
            // What a restored database has forgotten is taken in, and placed anew as what runs (S5).
            None if self.adopts.is_some() && generation < adoptable_below(snapshot) => {}
            None => return Err(("unknown", format!("no placement has the generation {generation}"))),
            Some(it) if it.node != *self.node => {
                return Err(("not_yours", format!("generation {generation} is placed on another node")));
            }
            Some(it) if it.workload != replica.workload || it.ordinal != replica.ordinal => {
                let detail = format!("generation {generation} is {}-{}", it.workload, it.ordinal);
                return Err(("malformed", detail));
            }
            Some(_) => {}
        }
        let mut seen = Seen::read(replica, &self.node, now).map_err(|detail| ("malformed", detail))?;
        let (node, name) = (&*self.node, seen.status.name.as_str());
        let span = trace_span!(next seen.traceparent.as_deref(), "server", node, replica = name);
        seen.traceparent = trace::of(&span);
        let _inside = span.enter();
        let seen = Arc::new(seen);
        let mut heard = self.live.heard();
        let old = heard.replicas.get(&generation);
        if let Some(old) = old
            && old.seen.version > seen.version
        {
            return Err(("stale", format!("version {} was told before {}", old.seen.version, seen.version)));
        }
        let durable = match old {
            Some(old) => old.durable.clone(),
            None => snapshot.observed.get(generation).map(|it| Arc::new(Seen::remembered(it))),
        };
        let held = self.pending.holds(generation);
        let is_transition = held || durable.as_ref().is_none_or(|it| seen.is_transition_from(it));
        let visible = old.is_none_or(|it| visible(&it.seen, &seen));
        let entry = Entry { seen: Arc::clone(&seen), durable: durable.clone() };
        heard.gone.remove(&generation);
        heard.replicas.insert(generation, entry);
        drop(heard);
        // Not ready at once; ready once that is durable, or if it was before.
        let was_ready = durable.as_ref().is_some_and(|it| it.status.ready && seen.is_reached_as(it));
        self.shared.draining(&self.node, &seen);
        self.shared.publish(&seen.endpoint(&self.node, was_ready || !is_transition));
        if is_transition {
            self.shared.counters.transitions.add(1);
            self.pending.replica(Arc::clone(&seen), since(durable.as_deref(), snapshot, &seen, now));
        }
        if visible {
            self.shared.changed_workload(&seen.workload);
        }
        Ok(visible)
    }

    fn reject(&mut self, generation: u64, replica: String, code: &'static str, detail: String) {
        tracing::warn!(node = %self.node, replica, generation, code, detail, "an entry of a beat was not taken");
        self.shared.counters.rejected(code);
        if self.out.ack.rejected.len() < REJECTED {
            let rejected = proto::Rejected { generation, replica, code: code.to_owned(), detail };
            self.out.ack.rejected.push(rejected);
        }
    }

    /// An instance is not there any more.
    fn gone(&mut self, snapshot: &Snapshot, generation: u64) -> bool {
        let placement = snapshot.placements.get(generation);
        if placement.is_some_and(|it| it.node != *self.node) {
            self.reject(generation, String::new(), "not_yours", "it is placed on another node".to_owned());
            return false;
        }
        let observed = snapshot.observed.get(generation);
        // What is durable of it may be on its way here yet.
        let (heard, known) = {
            let mut heard = self.live.heard();
            let removed = heard.replicas.remove(&generation);
            let known = removed.is_some() || observed.is_some() || self.pending.holds(generation);
            if known {
                heard.gone.insert(generation);
            }
            (removed, known)
        };
        let of = heard.as_ref().map(|it| (it.seen.workload.clone(), it.seen.ordinal));
        let of = of.or_else(|| observed.map(|it| (it.workload.clone(), it.ordinal)));
        if let Some((workload, ordinal)) = of {
            self.shared.unpublish(&workload, &format!("{workload}-{ordinal}"), generation);
            self.shared.changed_workload(&workload);
        }
        let withdrawn = placement.is_some_and(|it| it.state != PlacementState::Wanted);
        if withdrawn || known {
            self.pending.gone(generation, withdrawn);
        }
        true
    }

    /// After a beat that named everything: what it did not name is not there.
    fn sweep(&mut self, snapshot: &Snapshot, named: &HashSet<u64>) -> bool {
        let mut missing: Vec<u64> =
            self.live.heard().replicas.keys().filter(|it| !named.contains(it)).copied().collect();
        // What is wanted here and was never seen here has only not begun yet.
        for it in snapshot.placed_on(&self.node).filter(|it| !named.contains(&it.generation)) {
            let was_here =
                it.state != PlacementState::Wanted || snapshot.observed.get(it.generation).is_some();
            if was_here && !missing.contains(&it.generation) {
                missing.push(it.generation);
            }
        }
        let mut changed = false;
        for generation in missing {
            changed |= self.gone(snapshot, generation);
        }
        changed
    }

    fn targets(
        &mut self,
        snapshot: &Snapshot,
        targets: Vec<proto::Target>,
        gone: &[String],
        full: bool,
    ) -> bool {
        let mut read = BTreeMap::new();
        for target in targets {
            let name = target.name.clone();
            let own = |node: &Option<String>| node.as_deref() == Some(&*self.node);
            // What stands in a list is no record of its own; its list is.
            let record = snapshot.targets.get(name.as_str());
            let member = target.list.as_deref().filter(|_| record.is_none());
            let code = match member.map_or(record, |list| snapshot.targets.get(list)) {
                None => Err(("unknown", format!("there is no target {:?}", short(&name)))),
                Some(it) if !own(&it.node) => Err(("not_yours", "another node probes it".to_owned())),
                Some(_) => seen::target(target.clone()).map_err(|detail| ("malformed", detail)),
            };
            match code {
                Ok(status) => drop(read.insert(name, (status, target))),
                Err((code, detail)) => self.reject(0, short(&name).to_owned(), code, detail),
            }
        }
        let mut heard = self.live.heard();
        let before = heard.targets.clone();
        if full {
            heard.targets.clear();
        }
        gone.iter().for_each(|name| drop(heard.targets.remove(name)));
        heard.targets.extend(read);
        let word = |it: &BTreeMap<String, (TargetStatus, proto::Target)>| {
            it.values().map(|(it, _)| (it.name.clone(), it.status, it.paused)).collect::<Vec<_>>()
        };
        let changed = word(&before) != word(&heard.targets);
        drop(heard);
        if changed {
            self.shared.changed_targets(&self.node);
        }
        changed
    }

    /// Takes an event over. One that makes no sense is passed over, logged and counted as told: the ones behind it
    /// would never come else.
    fn event(&mut self, event: proto::SpooledEvent) {
        if !self.pending.is_new(event.number) {
            return;
        }
        let own = event.source == format!("/nodes/{}", self.node);
        let read = || -> Result<NewEvent, String> {
            if !own {
                return Err(format!("its source is {:?}", short(&event.source)));
            }
            if event.data.len() > EVENT {
                return Err(format!("it has {} bytes", event.data.len()));
            }
            let told: Told = serde_json::from_str(&event.data).map_err(|error| error.to_string())?;
            if !self.may_tell(&event.subject, &told.data) {
                return Err(format!(
                    "{} of {:?} is not its to tell",
                    told.data.kind(),
                    short(&event.subject)
                ));
            }
            let time = seen::time(event.time)?;
            Ok(NewEvent {
                time,
                source: event.source.clone(),
                subject: event.subject.clone(),
                data: told.data,
            })
        };
        let read = read().map_err(|detail| {
            tracing::warn!(node = %self.node, number = event.number, detail, "an event of a node was not taken");
            self.shared.counters.rejected("malformed");
        });
        self.pending.event(event.number, read.ok(), event.data.len());
    }

    /// Whether an event is one that happens on a node, and on this one: what placement decides is told by who decides.
    fn may_tell(&self, subject: &str, data: &EventData) -> bool {
        if let Some(instance) = data.instance() {
            let snapshot = self.shared.feed.current();
            let placed = snapshot.placements.get(instance.generation);
            let own = placed.is_none_or(|it| {
                it.node == *self.node && subject == format!("{}-{}", it.workload, it.ordinal)
            });
            let decided = matches!(data, EventData::ReplicaPlaced(_) | EventData::ReplicaWithdrawn(_));
            return own && !decided && instance.node == *self.node;
        }
        let judged =
            matches!(data, EventData::NodeLost(_) | EventData::NodeReady(_) | EventData::NodeDrained(_));
        let kind = data.kind();
        let of_node = kind.starts_with("dev.hale.node.") && subject == &*self.node && !judged;
        of_node || kind.starts_with("dev.hale.target.")
    }

    /// What the agent's digest is compared with (N8).
    fn digest(&self) -> [u8; 32] {
        let heard = self.live.heard();
        let ordered: BTreeMap<u64, u64> =
            heard.replicas.iter().map(|(it, entry)| (*it, entry.seen.version)).collect();
        wire::digest(ordered, heard.targets.values().map(|(_, it)| it))
    }

    /// Begins to write what has gathered; `false`: there is nothing.
    pub(super) fn write(&mut self) -> bool {
        self.pending.write(&self.shared.store, &self.node)
    }

    /// A write has ended: what it held is durable now, and ready takes effect.
    pub(super) fn written(&mut self, result: Result<Committed, WriteError>) -> Option<Over> {
        let durable = match self.pending.done(result, &self.shared.store, &self.node) {
            Ok(Some(durable)) => durable,
            Ok(None) => {
                self.shared.counters.write_failures.add(1);
                return None;
            }
            Err(error) => {
                tracing::info!(node = %self.node, %error, "another session has the node now");
                let detail = "another session has this node".to_owned();
                return Some(Over::Goodbye(proto::Goodbye {
                    code: "superseded".to_owned(),
                    detail,
                    ..Default::default()
                }));
            }
        };
        let mut effective = Vec::new();
        let mut heard = self.live.heard();
        for seen in durable.replicas {
            let Some(entry) = heard.replicas.get_mut(&seen.generation) else { continue };
            entry.durable = Some(Arc::clone(&seen));
            if entry.seen.version == seen.version {
                effective.push(seen);
            }
        }
        drop(heard);
        for seen in effective {
            self.shared.publish(&seen.endpoint(&self.node, true));
        }
        self.write();
        self.advance();
        self.out.ack.durable_sequence =
            if self.pending.is_empty() { self.out.ack.sequence } else { durable.sequence };
        self.out.ack.events_durable = durable.events;
        self.out.acknowledge();
        self.pending.must_resync().then(|| {
            let detail =
                "more happened than could be kept in mind while the database took nothing".to_owned();
            Over::Goodbye(proto::Goodbye { code: "resync".to_owned(), detail, ..Default::default() })
        })
    }
}

/// Below this, generations may have been given that this database does not know of.
fn adoptable_below(snapshot: &Snapshot) -> u64 {
    snapshot.cluster.as_ref().map_or(0, |it| it.adoptable_below)
}

/// Nothing has changed.
fn is_idle(beat: &proto::Beat) -> bool {
    beat.replicas.is_empty()
        && beat.gone.is_empty()
        && beat.targets.is_empty()
        && beat.gone_targets.is_empty()
        && beat.events.is_empty()
        && beat.digest.is_empty()
        && beat.resources.is_none()
        && !beat.full
}

/// Whether followers of status want to hear of it: a phase, a readiness, a hold.
fn visible(old: &Seen, new: &Seen) -> bool {
    new.is_transition_from(old)
        || old.status.held_by != new.status.held_by
        || old.status.paused != new.status.paused
        || old.status.flapping != new.status.flapping
}

/// Since when phase and readiness are as they are now.
fn since(durable: Option<&Seen>, snapshot: &Snapshot, new: &Seen, now: Timestamp) -> Timestamp {
    let same =
        durable.is_some_and(|it| (it.status.phase, it.status.ready) == (new.status.phase, new.status.ready));
    let known = snapshot.observed.get(new.generation).filter(|_| same).map(|it| it.since);
    known.or_else(|| new.status.last_transition.as_ref().map(|it| it.at)).unwrap_or(now)
}
