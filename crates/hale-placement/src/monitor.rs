//! Which nodes are heard of (S6): ready, suspect, lost, away; the brake; patience; and whose turn it is to be given up.

use std::{collections::BTreeSet, time::Duration};

use hale_health::Time;
use hale_model::{
    cluster::{NodeCondition, Scheduling, SessionRecord, SessionState},
    event::{ClusterBrakeReleased, ClusterBraked, EventData, NodeDrained, NodeLost, NodeReady},
};
use jiff::Timestamp;

use crate::{
    draft::Draft,
    node::{Contact, Node},
    planner::Planner,
};

/// The longest that a node's announced absence is believed.
const LONGEST_AWAY: Duration = Duration::from_secs(3600);

impl Planner {
    /// A beat of a node came to this server. Call it before the beat is acknowledged: what is fenced (S9) counts from
    /// the last one that was told here.
    pub fn heard(&mut self, now: Time, name: &str) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        // One that has moved to another server is heard of there, whatever it said here last.
        if node.session.as_ref().is_some_and(|it| it.server != self.options.server) {
            return;
        }
        if let Contact::Here { last } = &mut node.contact {
            *last = now.max(*last);
            if node.condition() == NodeCondition::Ready {
                return;
            }
        } else if let Contact::Away { told, fence, .. } = &mut node.contact
            && now <= *told
        {
            *fence = now.max(*fence);
            return;
        } else {
            node.contact = Contact::Here { last: now };
            self.room();
        }
        self.dirty_nodes.insert(name.to_owned());
    }

    /// The servers whose lease lives, by its name, as the database says. A server whose lease ran out acknowledges
    /// beats no more from that moment on: what is fenced (S9) counts on it.
    pub fn servers(&mut self, now: Time, live: &BTreeSet<String>) {
        if self.live_servers == *live {
            return;
        }
        let ended: BTreeSet<String> = self.live_servers.difference(live).cloned().collect();
        self.live_servers.clone_from(live);
        self.live_servers.insert(self.options.server.clone());
        let mut changed = Vec::new();
        for (name, node) in &mut self.nodes {
            let Some(session) = node.session.as_ref().filter(|it| it.server != self.options.server) else {
                continue;
            };
            let vouched =
                self.live_servers.contains(&session.server) && session.state == SessionState::Connected;
            match (vouched, node.contact) {
                (true, Contact::Silent { .. }) => node.contact = Contact::There,
                (false, Contact::There) => node.contact = Contact::Silent { since: now, fence: now },
                // It may have acknowledged a beat that it could not write of, until now.
                (false, Contact::Silent { since, .. })
                    if ended.contains(&session.server)
                        && !matches!(session.state, SessionState::Disconnected { .. }) =>
                {
                    node.contact = Contact::Silent { since, fence: now };
                }
                _ => continue,
            }
            changed.push(name.clone());
        }
        if !changed.is_empty() {
            self.room();
        }
        self.dirty_nodes.extend(changed);
    }

    /// The database was away: as after a start, nothing is judged before all nodes had time to be heard (S3).
    pub fn be_patient(&mut self, now: Time) {
        self.patience = now + self.options.lost_after();
        self.dirty_nodes.extend(self.nodes.keys().cloned());
    }

    pub(crate) fn put_session(&mut self, now: Time, wall: Timestamp, session: SessionRecord) {
        let lives = self.live_servers.contains(&session.server);
        let here = session.server == self.options.server;
        let name = session.node.clone();
        let two_beats = self.options.suspect_after();
        let node = self.nodes.entry(name.clone()).or_insert_with(|| Node::new(now));
        if node.session.as_ref() == Some(&session) {
            return;
        }
        let renewed = node.session.as_ref().is_none_or(|it| it.session != session.session);
        // Where a beat may have been acknowledged until now, fencing counts from now.
        let fence =
            if here { node.fence().unwrap_or(now) } else { silent_fence(node.contact).unwrap_or(now) };
        let since = match node.contact {
            Contact::Here { last } if here => last,
            Contact::Silent { since, .. } if !renewed => since,
            _ => now,
        };
        node.contact = match session.state {
            SessionState::Connected if here && renewed => Contact::Here { last: now },
            SessionState::Connected if here => node.contact,
            SessionState::Connected if lives => Contact::There,
            SessionState::Connected => Contact::Silent { since: now, fence: now },
            // Own beats are counted here.
            SessionState::Silent { .. } if here && matches!(node.contact, Contact::Here { .. }) => {
                node.contact
            }
            SessionState::Silent { .. } => Contact::Silent { since: since.min(now - two_beats), fence },
            SessionState::Disconnected { .. } => Contact::Silent { since, fence },
            SessionState::Away { until } => {
                let left = Duration::try_from(until.duration_since(wall)).unwrap_or_default();
                Contact::Away { told: now, until: now + left.min(LONGEST_AWAY), fence }
            }
        };
        node.session = Some(session);
        self.dirty_nodes.insert(name);
        self.room();
    }

    pub(crate) fn lose_contact(&mut self, now: Time, name: &str) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let fence = silent_fence(node.contact).unwrap_or(now);
        node.session = None;
        if node.connected() {
            node.contact = Contact::Silent { since: now, fence };
        }
        self.dirty_nodes.insert(name.to_owned());
    }

    /// Conditions of the nodes that changed or whose time has come.
    pub(crate) fn judge_nodes(&mut self, draft: &mut Draft) {
        let now = draft.now;
        while let Some((at, _)) = self.node_wakes.first()
            && *at <= now
        {
            if let Some((_, name)) = self.node_wakes.pop_first() {
                if let Some(node) = self.nodes.get_mut(&name) {
                    node.deadline = None;
                }
                self.dirty_nodes.insert(name);
            }
        }
        if self.dirty_nodes.is_empty() {
            return;
        }
        self.judge_brake(draft);
        for name in std::mem::take(&mut self.dirty_nodes) {
            self.judge_node(draft, &name);
        }
        // Its own changes of conditions are no news to it.
        self.dirty_nodes.clear();
    }

    /// When the first of the silent nodes would be lost, the silent ones are counted and not only those that are lost:
    /// nodes cut off together are silent together, but pass the third beat one by one, and the first of them must not
    /// be taken out before it is known that it is all of them. A beat later silent and lost is the same (S6).
    fn judge_brake(&mut self, draft: &mut Draft) {
        let now = draft.now;
        let (mut all, mut silent, mut losing) = (0_u32, 0_u32, self.braked.is_some());
        for node in self.nodes.values().filter(|it| it.record.is_some()) {
            all += 1;
            let silent_for = node.silent_for(now).unwrap_or_default();
            silent += u32::from(silent_for >= self.options.suspect_after());
            losing |= silent_for >= self.options.lost_after() && !node.lost();
        }
        let brake = losing && silent >= 2 && f64::from(silent) >= self.options.brake_at * f64::from(all);
        match (brake && now >= self.patience, self.braked) {
            (true, None) => {
                self.set_brake(draft, Some(now));
                draft.tell("cluster", EventData::ClusterBraked(ClusterBraked { silent, nodes: all }));
            }
            (false, Some(since)) => {
                self.set_brake(draft, None);
                // Those that are yet to be heard of again get their time.
                self.patience = now + self.options.lost_after();
                self.dirty_nodes.extend(self.nodes.keys().cloned());
                self.dirty.extend(self.workloads.keys().cloned());
                self.give_up_at = Some(now);
                self.targets_dirty = true;
                draft.tell(
                    "cluster",
                    EventData::ClusterBrakeReleased(ClusterBrakeReleased {
                        silent,
                        nodes: all,
                        held_seconds: now.since(since).as_secs_f64(),
                    }),
                );
            }
            _ => {}
        }
    }

    fn judge_node(&mut self, draft: &mut Draft, name: &str) {
        let now = draft.now;
        let (suspect_after, lost_after) = (self.options.suspect_after(), self.options.lost_after());
        let may_lose = now >= self.patience && self.braked.is_none();
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.record.is_none() {
            return;
        }
        if node.scheduling() == Scheduling::Draining && node.placements.is_empty() && !node.told_drained {
            node.told_drained = true;
            draft.tell(name, EventData::NodeDrained(NodeDrained {}));
        }
        let (is, silent, heard) = (node.condition(), node.silent_for(now), node.connected());
        let replicas = u32::try_from(node.placements.len()).unwrap_or(u32::MAX);
        let (becomes, again) = match silent {
            None if heard => (NodeCondition::Ready, None),
            None => (NodeCondition::Away, away_until(node.contact)),
            Some(silent) if silent < suspect_after => {
                (if heard { NodeCondition::Ready } else { is }, Some(now + (suspect_after - silent)))
            }
            Some(silent) if silent < lost_after => {
                let becomes = if is == NodeCondition::Lost { is } else { NodeCondition::Suspect };
                (becomes, Some(now + (lost_after - silent)))
            }
            Some(_) if is == NodeCondition::Lost || may_lose => (NodeCondition::Lost, None),
            Some(_) => (NodeCondition::Suspect, (now < self.patience).then_some(self.patience)),
        };
        // An agent away for less than two beats is no news.
        let becomes = if becomes == NodeCondition::Away && is == NodeCondition::Lost { is } else { becomes };
        self.wake_node(name, again);
        if becomes == is {
            return;
        }
        self.set_condition(draft, name, becomes);
        match (is, becomes) {
            (_, NodeCondition::Lost) => {
                let silent_seconds =
                    silent.filter(|it| *it < Duration::MAX).unwrap_or_default().as_secs_f64();
                draft.tell(name, EventData::NodeLost(NodeLost { silent_seconds, replicas }));
            }
            (NodeCondition::Lost | NodeCondition::Away, NodeCondition::Ready) => {
                draft.tell(name, EventData::NodeReady(NodeReady { was: is }));
            }
            _ => {}
        }
    }

    fn wake_node(&mut self, name: &str, at: Option<Time>) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        if let Some(old) = std::mem::replace(&mut node.deadline, at) {
            self.node_wakes.remove(&(old, name.to_owned()));
        }
        self.node_wakes.extend(at.map(|at| (at, name.to_owned())));
    }

    /// Gives up lost nodes whose time has come: at most a share of all nodes within an interval, those first that the
    /// most workloads below their minimum wait for, then the longest lost (S6, S8). From then on all replicas of such a
    /// node may be placed elsewhere. The rate is one of nodes: a node is given up as a whole.
    pub(crate) fn give_up_nodes(&mut self, draft: &mut Draft) {
        let now = draft.now;
        if self.give_up_at.is_none_or(|at| now < at) {
            return;
        }
        self.give_up_at = None;
        if self.braked.is_some() {
            return;
        }
        if now < self.patience {
            self.give_up_at = self.any_lost().then_some(self.patience);
            return;
        }
        let mut waiting = Vec::new();
        for (name, node) in self.nodes.iter().filter(|(_, it)| !it.given_up) {
            let Some(lost_since) = node.lost_since else { continue };
            match self.due(node, lost_since) {
                Some((at, below)) if at <= now => waiting.push((u32::MAX - below, lost_since, name.clone())),
                Some((at, _)) => self.give_up_at = Some(self.give_up_at.map_or(at, |it| it.min(at))),
                None => {}
            }
        }
        waiting.sort();
        let every = self.options.give_up_every;
        while self.given_up.front().is_some_and(|at| now.since(*at) >= every) {
            self.given_up.pop_front();
        }
        let nodes = self.nodes.values().filter(|it| it.record.is_some()).count();
        for (_, _, name) in waiting {
            if self.given_up.len() >= self.may_give_up(nodes) {
                let next = self.given_up.front().map_or(now, |at| *at + every);
                self.give_up_at = Some(self.give_up_at.map_or(next, |it| it.min(next)));
                break;
            }
            self.given_up.push_back(now);
            if let Some(node) = self.nodes.get_mut(&name) {
                node.given_up = true;
            }
            self.look_at_node(&name);
            self.dirty_nodes.remove(&name);
        }
    }

    /// How many of so many nodes may be given up within an interval.
    pub(crate) fn may_give_up(&self, nodes: usize) -> usize {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let share = (self.options.give_up_share * nodes as f64).floor() as usize;
        share.max(1)
    }

    /// When the first replica of a lost node is to be placed elsewhere, and how many of them are of workloads below
    /// their minimum.
    fn due(&self, node: &Node, lost_since: Time) -> Option<(Time, u32)> {
        let (mut at, mut below) = (None::<Time>, 0);
        for slot in node.placements.iter().filter_map(|it| self.slots.get(it)).filter(|it| it.record.wanted())
        {
            let workload = self.workloads.get(&slot.record.workload);
            let Some(spec) = workload.and_then(|it| it.spec.as_ref()) else { continue };
            let Some(after) = spec.declared.disconnect.replace_after else { continue };
            let due = lost_since + after;
            at = Some(at.map_or(due, |it| it.min(due)));
            below += u32::from(self.missing(&slot.record.workload) > 0);
        }
        at.map(|at| (at, below))
    }
}

fn away_until(contact: Contact) -> Option<Time> {
    if let Contact::Away { until, .. } = contact { Some(until) } else { None }
}

/// From when a node that is not heard of is fenced.
fn silent_fence(contact: Contact) -> Option<Time> {
    match contact {
        Contact::Silent { fence, .. } | Contact::Away { fence, .. } => Some(fence),
        Contact::Here { last } => Some(last),
        Contact::There => None,
    }
}
