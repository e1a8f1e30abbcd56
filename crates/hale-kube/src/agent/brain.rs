//! What the agent knows and what it makes of it: everything that was seen comes in here, one thing after the other, and
//! what is to be told comes out. No clock, no socket, no task.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use hale_health::Time;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    apply::{Applied, Leaving},
    cluster::{Seen, Watch},
    health::{self, Gap, Gaps, Health, Known, Named},
    judge::{Kind, Member, Other, Part, Settings, World},
    manifest::Manifest,
};

/// How long a watch may be broken until what it told is old.
const OLD_AFTER_SECS: u64 = 20;

/// How long what was applied may take to be seen.
const FRESH_SECS: u64 = 10;

/// Events are judged by for as long as a cluster keeps them.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Events that are held at most; beyond that the older half is forgotten.
const MOST_EVENTS: usize = 20_000;

/// Deployment objects that are judged anew at once only because time went by. The rest has its turn after.
const TURNS: usize = 200;

/// How often what is not plainly healthy is judged anew, even if nothing changes.
const UNSETTLED: Duration = Duration::from_secs(1);

/// A deployment object that the agent was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its id.
    pub id: String,
    /// The id of its stack.
    pub stack: String,
    /// Its manifests, or why they can't be read.
    pub manifests: Result<Vec<Manifest>, String>,
    /// It ends the stack: all that was applied for it is deleted.
    pub deleting: bool,
}

/// What was found of one in the cluster.
#[derive(Debug, Default)]
struct Object {
    wanted: Vec<Part>,
    deleting: bool,
    wrong: Option<String>,
    applied: Vec<Applied>,
    leaving: Vec<Leaving>,
    others: Vec<(Named, Other)>,
    /// It is to be applied, and was not yet.
    awaited: bool,
    fresh_until: Option<Time>,
    told: Option<Health>,
    /// When time alone has it judged anew.
    turn: Time,
}

/// Where a watch stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Its first list is not here yet.
    Waiting,
    Fine,
    /// It can't be asked since then.
    Broken {
        since: Time,
        why: String,
    },
}

/// The agent's mind.
pub struct Brain {
    world: World,
    gaps: Gaps,
    settings: Settings,
    /// The namespace of manifests that say none.
    namespace: String,
    standing: BTreeMap<Watch, Standing>,
    objects: BTreeMap<String, Object>,
    dirty: BTreeSet<String>,
    /// The objects by when time alone has them judged anew.
    turns: BTreeSet<(Time, String)>,
}

impl Brain {
    /// Knows nothing yet, and waits for these.
    #[must_use]
    pub fn new(watches: &[Watch], namespaces: Vec<String>, namespace: &str) -> Self {
        Self {
            world: World::default(),
            gaps: Gaps::new(namespaces),
            settings: Settings::default(),
            namespace: namespace.to_owned(),
            standing: watches.iter().map(|it| (it.clone(), Standing::Waiting)).collect(),
            objects: BTreeMap::new(),
            dirty: BTreeSet::new(),
            turns: BTreeSet::new(),
        }
    }

    /// Whether each kind was listed, or is known to be out of reach: until then nothing is judged.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.standing.values().all(|it| *it != Standing::Waiting)
    }

    /// What can't be seen, in words.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let words = |(watch, gap): (&Watch, &Gap)| {
            let why = match gap {
                Gap::Forbidden(why) | Gap::Lost(why) => why,
            };
            let place = watch.namespace.as_deref().map(|it| format!(" in {it}")).unwrap_or_default();
            format!("{}{place}: {why}", watch.kind.as_str())
        };
        self.gaps.iter().map(words).collect()
    }

    /// How many objects of the cluster are held, for the metrics.
    #[must_use]
    pub fn held(&self) -> usize {
        self.world.held()
    }

    /// How many objects are in each status.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<hale_model::Status, usize> {
        let mut counts = BTreeMap::new();
        for health in self.objects.values().filter_map(|it| it.told.as_ref()) {
            *counts.entry(health.status).or_default() += 1;
        }
        counts
    }

    /// Takes in what a watch saw.
    pub fn seen(&mut self, watch: &Watch, seen: Seen, at: Time) {
        match seen {
            Seen::Put(objects) => {
                for object in &objects {
                    if watch.kind == Kind::Node {
                        self.node(object);
                        continue;
                    }
                    // Before, for what leaves one object and comes to another.
                    self.touch(watch.kind, object);
                    self.world.replace(watch.kind, object);
                    self.touch(watch.kind, object);
                }
                if watch.kind == Kind::Event && self.world.events() > MOST_EVENTS {
                    self.world.forget_half_of_events();
                }
            }
            Seen::Gone(object) => {
                // An event that a cluster forgets was true nevertheless; it goes by its age.
                if watch.kind != Kind::Event {
                    self.touch(watch.kind, &object);
                    self.world.take_out(watch.kind, &object);
                }
            }
            Seen::Listed(named) => {
                let gone = self.world.gone(watch.kind, watch.namespace.as_deref(), &named);
                for (namespace, name) in gone {
                    self.touch_part(&Part {
                        namespace: namespace.clone(),
                        kind: watch.kind,
                        name: name.clone(),
                    });
                    self.world.remove(watch.kind, &namespace, &name);
                }
                self.world.complete_in(watch.namespace.as_deref(), watch.kind);
                self.stands(watch, Standing::Fine);
                if self.gaps.set(watch, None) {
                    self.touch_all();
                }
                if self.ready() {
                    self.touch_all();
                }
            }
            Seen::Alive => {
                if self.standing.get(watch) != Some(&Standing::Waiting) {
                    self.stands(watch, Standing::Fine);
                    if self.gaps.set(watch, None) {
                        self.touch_all();
                    }
                }
            }
            Seen::Broken(error) => self.broken(watch, &error, at),
        }
    }

    fn broken(&mut self, watch: &Watch, error: &crate::cluster::ClusterError, at: Time) {
        use crate::cluster::ClusterError as E;
        let why = error.to_string();
        if matches!(error, E::Forbidden(_) | E::NotFound(_)) {
            // What was known of it may not be known any more.
            let none = std::collections::HashSet::new();
            for (namespace, name) in self.world.gone(watch.kind, watch.namespace.as_deref(), &none) {
                self.world.remove(watch.kind, &namespace, &name);
            }
            self.world.incomplete_in(watch.namespace.as_deref(), watch.kind);
            self.stands(watch, Standing::Broken { since: at, why: why.clone() });
            if self.gaps.set(watch, Some(Gap::Forbidden(why))) {
                self.touch_all();
            }
        } else if !matches!(self.standing.get(watch), Some(Standing::Broken { .. })) {
            // Where nothing was ever known, there is nothing to go on with meanwhile.
            if self.standing.get(watch) == Some(&Standing::Waiting)
                && self.gaps.set(watch, Some(Gap::Lost(why.clone())))
            {
                self.touch_all();
            }
            self.stands(watch, Standing::Broken { since: at, why });
        }
    }

    /// Why a watch can't be asked, as it was told last.
    #[must_use]
    pub fn broken_by(&self, watch: &Watch) -> Option<&str> {
        match self.standing.get(watch) {
            Some(Standing::Broken { why, .. }) => Some(why),
            _ => None,
        }
    }

    fn stands(&mut self, watch: &Watch, standing: Standing) {
        self.standing.insert(watch.clone(), standing);
    }

    /// What has been out of reach for too long is old.
    fn grow_old(&mut self, at: Time) {
        let old: Vec<(Watch, String)> = self
            .standing
            .iter()
            .filter_map(|(watch, standing)| match standing {
                Standing::Broken { since, why } if at.since(*since).as_secs() >= OLD_AFTER_SECS => {
                    Some((watch.clone(), why.clone()))
                }
                _ => None,
            })
            .collect();
        for (watch, why) in old {
            if !self.gaps.has(&watch) && self.gaps.set(&watch, Some(Gap::Lost(why))) {
                self.touch_all();
            }
        }
    }

    /// Nodes tell every few seconds how they are, and it is mostly the same.
    fn node(&mut self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let before = self.world.is_ready(name);
        self.world.replace(Kind::Node, object);
        if self.world.is_ready(name) != before {
            self.touch(Kind::Node, object);
        }
    }

    /// Marks what an object of the cluster may change.
    fn touch(&mut self, kind: Kind, object: &Value) {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of =
            |about: &Value| Part { namespace: word(&about["namespace"]), kind, name: word(&about["name"]) };
        if kind == Kind::Event {
            let about = &object["involvedObject"];
            if let Some(kind) =
                Kind::of(about["apiVersion"].as_str(), about["kind"].as_str().unwrap_or_default())
            {
                self.touch_part(&Part { kind, ..of(about) });
            }
        } else {
            self.touch_part(&of(&object["metadata"]));
        }
    }

    fn touch_part(&mut self, part: &Part) {
        let ids = match part.kind {
            Kind::Node => self.world.concerned_by_node(&part.name),
            Kind::PersistentVolumeClaim => self.world.concerned_by_claim(part),
            _ => self.world.concerns(part),
        };
        for id in ids {
            if self.objects.contains_key(&id) {
                self.dirty.insert(id);
            }
        }
    }

    fn touch_all(&mut self) {
        self.dirty.extend(self.objects.keys().cloned());
    }

    /// Takes in what the agent is to look after, whole, and whether it is applied. What is not named any more is
    /// forgotten.
    pub fn wanted(&mut self, all: &[Wanted], applied: bool) {
        let ids: BTreeSet<&str> = all.iter().map(|it| it.id.as_str()).collect();
        let gone: Vec<String> =
            self.objects.keys().filter(|it| !ids.contains(it.as_str())).cloned().collect();
        for id in gone {
            self.world.unassign(&id);
            if let Some(object) = self.objects.remove(&id) {
                self.turns.remove(&(object.turn, id.clone()));
            }
            self.dirty.remove(&id);
        }
        for wanted in all {
            if self.objects.contains_key(&wanted.id) {
                continue;
            }
            let awaited = applied && wanted.manifests.is_ok();
            let mut object = Object { deleting: wanted.deleting, awaited, ..Object::default() };
            match &wanted.manifests {
                Err(why) => object.wrong = Some(why.clone()),
                Ok(_) if wanted.deleting => {}
                Ok(manifests) => {
                    let parts = manifests.iter().filter_map(|it| it.part(&self.namespace));
                    object.wanted = parts.filter(|it| is_watched(it.kind)).collect();
                    for part in &object.wanted {
                        self.world.assign(part, &wanted.id);
                    }
                }
            }
            self.objects.insert(wanted.id.clone(), object);
            self.turns.insert((Time::ZERO, wanted.id.clone()));
            self.dirty.insert(wanted.id.clone());
        }
    }

    /// Takes in how applying, deleting, and looking after objects of other kinds went.
    pub fn applied(&mut self, id: &str, outcome: Outcome, at: Time) {
        let Some(object) = self.objects.get_mut(id) else { return };
        if outcome.applied.is_some() || outcome.leaving.is_some() {
            object.awaited = false;
        }
        if let Some(applied) = outcome.applied {
            if object.fresh_until.is_none() || applied != object.applied {
                object.fresh_until = Some(at + Duration::from_secs(FRESH_SECS));
            }
            object.applied = applied;
        }
        if let Some(leaving) = outcome.leaving {
            object.leaving = leaving;
        }
        if let Some(others) = outcome.others {
            object.others = others;
        }
        self.dirty.insert(id.to_owned());
    }

    /// Judges what has changed, and what may have changed by time alone. Gives what is news.
    pub fn judge(&mut self, now: Timestamp, at: Time, interval: Duration) -> Vec<(String, Health)> {
        if !self.ready() {
            return Vec::new();
        }
        self.grow_old(at);
        let mut due = std::mem::take(&mut self.dirty);
        let turns = self.turns.iter().take_while(|(turn, _)| *turn <= at).take(TURNS);
        due.extend(turns.map(|(_, id)| id.clone()));
        let mut news = Vec::new();
        for id in due {
            let Some(health) = self.look(&id, now, at) else { continue };
            let Some(object) = self.objects.get_mut(&id) else { continue };
            // Time alone makes `Pending` a condition, and forgets a kill.
            let plain = health.status == hale_model::Status::Healthy && health.conditions.is_empty();
            let turn = at + if plain { interval } else { UNSETTLED };
            self.turns.remove(&(std::mem::replace(&mut object.turn, turn), id.clone()));
            self.turns.insert((turn, id.clone()));
            if object.told.as_ref() != Some(&health) {
                object.told = Some(health.clone());
                news.push((id, health));
            }
        }
        news
    }

    /// When there is something to judge again if nothing changes meanwhile; the beginning of time for at once. None
    /// while nothing is known yet, or nothing is to be looked after.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        if !self.ready() {
            return None;
        }
        if !self.dirty.is_empty() {
            return Some(Time::ZERO);
        }
        let old = self.standing.iter().filter_map(|(watch, standing)| match standing {
            Standing::Broken { since, .. } if !self.gaps.has(watch) => {
                Some(*since + Duration::from_secs(OLD_AFTER_SECS))
            }
            _ => None,
        });
        old.chain(self.turns.first().map(|(turn, _)| *turn)).min()
    }

    fn look(&self, id: &str, now: Timestamp, at: Time) -> Option<Health> {
        let object = self.objects.get(id)?;
        let known = Known {
            wanted: &object.wanted,
            applied: &object.applied,
            leaving: &object.leaving,
            others: &object.others,
            awaited: object.awaited,
            fresh: object.fresh_until.is_some_and(|it| at < it),
            deleting: object.deleting,
            wrong: object.wrong.as_deref(),
        };
        Some(health::health(&self.world, &self.gaps, id, &known, now, &self.settings))
    }

    /// How all are, as last judged: what is told at every interval.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Health)> {
        let told = self.objects.iter().filter_map(|(id, it)| Some((id.clone(), it.told.clone()?)));
        told.collect()
    }

    /// What a deployment object is made of, and how that is; none when the agent does not know it.
    #[must_use]
    pub fn family(&self, id: &str) -> Option<Family> {
        let object = self.objects.get(id)?;
        let mut members: Vec<Member> = Vec::new();
        for part in self.world.parts(id) {
            members.extend(self.world.family(&part));
        }
        // What is wanted and not there may still have been spoken of.
        let here: BTreeSet<Part> = members.iter().map(|it| it.part.clone()).collect();
        let missing = object.wanted.iter().filter(|it| !here.contains(it)).cloned();
        members.extend(missing.map(|part| Member { part, uid: None }));
        Some(Family { members, health: object.told.clone(), gaps: self.gaps() })
    }

    /// Forgets events that no cluster would still have.
    pub fn forget(&mut self, now: Timestamp) {
        if let Ok(before) = now.checked_sub(EVENTS_KEPT) {
            self.world.forget_events_before(before);
        }
    }
}

/// How looking after an object went; what is none was not tried.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Each manifest that was applied.
    pub applied: Option<Vec<Applied>>,
    /// What should be gone.
    pub leaving: Option<Vec<Leaving>>,
    /// Objects of kinds that are not watched.
    pub others: Option<Vec<(Named, Other)>>,
}

/// What a deployment object is made of.
#[derive(Debug, Clone)]
pub struct Family {
    /// All objects of it, and those that should be there.
    pub members: Vec<Member>,
    /// How it is, if that was judged yet.
    pub health: Option<Health>,
    /// What can't be seen of the cluster.
    pub gaps: Vec<String>,
}

/// Whether the kind is followed; what is not is asked for one by one.
pub(crate) fn is_watched(kind: Kind) -> bool {
    crate::cluster::WATCHED.iter().any(|it| it.0 == kind)
}
