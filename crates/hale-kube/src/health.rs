//! How a deployment object is (K4): the worst of its parts, the sum of its pods, and all that they are in. Pure.

use std::collections::{BTreeMap, BTreeSet};

use hale_model::Status;
use jiff::Timestamp;

use crate::{
    apply::{Applied, Leaving},
    cluster::Watch,
    judge::{Kind, Other, PROGRESSING, Part, Settings, Verdict, World},
};

/// The condition of what could not be applied.
pub const APPLY_FAILED: &str = "ApplyFailed";

/// Most objects that are named of one deployment object. Those that are not ready come first.
const MOST_NAMED: usize = 250;

/// How one deployment object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// In one word.
    pub status: Status,
    /// Of the pods it should have: those that are ready, or are done well.
    pub pods_ready: u32,
    /// The pods it should have.
    pub pods_total: u32,
    /// What it is in: sorted, each once.
    pub conditions: BTreeSet<String>,
    /// What it is made of.
    pub resources: Vec<Named>,
}

/// One of the objects that it is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Whether it is as it should be. The first to order by: what is not comes first.
    pub ready: bool,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Where, if in a namespace.
    pub namespace: Option<String>,
    /// What is to be said of it.
    pub message: Option<String>,
}

/// Why a part of the cluster is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// It may not be asked: nothing was ever known of it.
    Forbidden(String),
    /// It can't be asked any more: what is known of it is old.
    Lost(String),
}

/// The gaps there are.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    gaps: BTreeMap<Watch, Gap>,
    /// The namespaces that are watched; empty for all.
    namespaces: Vec<String>,
}

impl Gaps {
    /// None yet, of an agent for these namespaces.
    #[must_use]
    pub fn new(namespaces: Vec<String>) -> Self {
        Self { gaps: BTreeMap::new(), namespaces }
    }

    /// Something is not known, or is again. Says whether that is news.
    pub fn set(&mut self, watch: &Watch, gap: Option<Gap>) -> bool {
        match gap {
            Some(gap) => self.gaps.insert(watch.clone(), gap.clone()) != Some(gap),
            None => self.gaps.remove(watch).is_some(),
        }
    }

    /// Whether what this follows is not known.
    #[must_use]
    pub fn has(&self, watch: &Watch) -> bool {
        self.gaps.contains_key(watch)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Watch, &Gap)> {
        self.gaps.iter()
    }

    fn of(&self, kind: Kind, namespace: &str) -> Option<Gap> {
        if !self.namespaces.is_empty() && !self.namespaces.iter().any(|it| it == namespace) {
            return Some(Gap::Forbidden(format!(
                "namespace {namespace} is none of those the agent is given"
            )));
        }
        let everywhere = Watch { kind, namespace: None };
        let there = Watch { kind, namespace: Some(namespace.to_owned()) };
        self.gaps.get(&everywhere).or_else(|| self.gaps.get(&there)).cloned()
    }
}

/// What is known of a deployment object beside the world.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// What its manifests name of the kinds that are watched.
    pub wanted: &'a [Part],
    /// How applying each of them went; empty where nothing is applied.
    pub applied: &'a [Applied],
    /// What should be gone.
    pub leaving: &'a [Leaving],
    /// How objects of other kinds are: kind, namespace, name.
    pub others: &'a [(Named, Other)],
    /// It is to be applied or deleted, and that was not tried yet.
    pub awaited: bool,
    /// It was applied just now: what is not seen yet may be on its way.
    pub fresh: bool,
    /// It is to be deleted.
    pub deleting: bool,
    /// Why none of it could be done.
    pub wrong: Option<&'a str>,
}

/// What a part of this kind is judged by.
fn needed(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::Deployment => &[Kind::Deployment, Kind::ReplicaSet, Kind::Pod],
        Kind::StatefulSet => &[Kind::StatefulSet, Kind::Pod],
        Kind::DaemonSet => &[Kind::DaemonSet, Kind::Pod],
        Kind::ReplicaSet => &[Kind::ReplicaSet, Kind::Pod],
        Kind::CronJob => &[Kind::CronJob, Kind::Job, Kind::Pod],
        Kind::Job => &[Kind::Job, Kind::Pod],
        Kind::Pod => &[Kind::Pod],
        Kind::PersistentVolumeClaim => &[Kind::PersistentVolumeClaim],
        Kind::ReplicationController | Kind::Node | Kind::Event => &[],
    }
}

/// Judges a deployment object.
#[must_use]
pub fn health(
    world: &World,
    gaps: &Gaps,
    id: &str,
    known: &Known<'_>,
    now: Timestamp,
    settings: &Settings,
) -> Health {
    let mut draft = Draft::default();
    if let Some(wrong) = known.wrong {
        draft.at_least(Status::Failing);
        draft.conditions.insert(APPLY_FAILED.to_owned());
        draft.name("DeploymentObject", id, None, false, wrong);
    }
    let parts = world.parts(id);
    for part in &parts {
        if let Some(verdict) = world.judge_part(part, now, settings) {
            draft.take_in(verdict);
        }
        draft.gaps(gaps, part);
    }
    let missing = known.wanted.iter().filter(|it| !parts.contains(it));
    for part in missing.filter(|_| !known.deleting) {
        if world.is_here(part) {
            if world.object_of(part) != Some(id) {
                draft.another_s(part);
            }
        } else {
            draft.missing(gaps, part, known.fresh || known.awaited);
        }
    }
    if known.awaited {
        draft.at_least(Status::Degraded);
        draft.conditions.insert(PROGRESSING.to_owned());
    }
    for applied in known.applied {
        if let Some(error) = &applied.error {
            draft.at_least(Status::Degraded);
            draft.conditions.insert(APPLY_FAILED.to_owned());
            let namespace = applied.namespace.clone();
            draft.name(&applied.kind, &applied.name, namespace, false, &format!("not applied: {error}"));
        }
    }
    for (named, other) in known.others {
        draft.at_least(other.status);
        draft.conditions.extend(other.condition.clone());
        draft.resources.insert(named.clone());
    }
    for leaving in known.leaving {
        draft.at_least(Status::Degraded);
        let says = leaving
            .error
            .as_ref()
            .map_or_else(|| "being deleted".to_owned(), |error| format!("not deleted: {error}"));
        let condition = if leaving.error.is_some() { "DeleteFailed" } else { PROGRESSING };
        draft.conditions.insert(condition.to_owned());
        draft.name(&leaving.kind, &leaving.name, leaving.namespace.clone(), false, &says);
    }
    draft.finish()
}

/// What is told of all objects while health is disabled.
#[must_use]
pub fn disabled() -> Health {
    let mut draft = Draft { status: Some(Status::Unknown), ..Draft::default() };
    draft.conditions.insert("disabled".to_owned());
    draft.finish()
}

#[derive(Default)]
struct Draft {
    status: Option<Status>,
    lost: bool,
    ready: u32,
    total: u32,
    conditions: BTreeSet<String>,
    resources: BTreeSet<Named>,
}

impl Draft {
    fn at_least(&mut self, status: Status) {
        self.status = self.status.max(Some(status));
    }

    fn name(&mut self, kind: &str, name: &str, namespace: Option<String>, ready: bool, message: &str) {
        self.resources.insert(Named {
            ready,
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace,
            message: (!message.is_empty()).then(|| message.to_owned()),
        });
    }

    fn take_in(&mut self, verdict: Verdict) {
        self.at_least(verdict.status);
        self.ready = self.ready.saturating_add(verdict.pods_ready);
        self.total = self.total.saturating_add(verdict.pods_total);
        self.conditions.extend(verdict.conditions);
        for it in verdict.resources {
            self.name(it.kind, &it.name, it.namespace, it.ready, &it.message.unwrap_or_default());
        }
    }

    /// What it is judged by and is not known makes it unknown, with the reason; what is old makes it nothing else.
    fn gaps(&mut self, gaps: &Gaps, part: &Part) {
        for kind in needed(part.kind) {
            let Some(gap) = gaps.of(*kind, &part.namespace) else { continue };
            self.at_least(Status::Unknown);
            let why = match &gap {
                Gap::Forbidden(why) => why,
                Gap::Lost(why) => {
                    self.lost = true;
                    why
                }
            };
            let namespace = (!part.namespace.is_empty()).then(|| part.namespace.clone());
            self.name(kind.as_str(), "*", namespace, false, &format!("unknown: {why}"));
        }
    }

    /// It bears the label of another deployment object: the one before, until this one is applied.
    fn another_s(&mut self, part: &Part) {
        let namespace = (!part.namespace.is_empty()).then(|| part.namespace.clone());
        self.at_least(Status::Degraded);
        self.conditions.insert(PROGRESSING.to_owned());
        let says = "it is still that of another deployment object";
        self.name(part.kind.as_str(), &part.name, namespace, false, says);
    }

    fn missing(&mut self, gaps: &Gaps, part: &Part, fresh: bool) {
        let namespace = (!part.namespace.is_empty()).then(|| part.namespace.clone());
        if let Some(gap) = gaps.of(part.kind, &part.namespace) {
            self.lost |= matches!(gap, Gap::Lost(_));
            let (Gap::Forbidden(why) | Gap::Lost(why)) = gap;
            self.at_least(Status::Unknown);
            self.name(part.kind.as_str(), &part.name, namespace, false, &format!("unknown: {why}"));
        } else if fresh {
            self.at_least(Status::Degraded);
            self.conditions.insert(PROGRESSING.to_owned());
            self.name(part.kind.as_str(), &part.name, namespace, false, "not there yet");
        } else {
            let runs = part.kind != Kind::PersistentVolumeClaim;
            self.at_least(if runs { Status::Failing } else { Status::Degraded });
            self.conditions.insert("Missing".to_owned());
            self.name(part.kind.as_str(), &part.name, namespace, false, "it is not there");
        }
    }

    fn finish(mut self) -> Health {
        if self.conditions.len() > 1 {
            self.conditions.remove(PROGRESSING);
        }
        // Old knowledge is none.
        let status = if self.lost { Status::Unknown } else { self.status.unwrap_or(Status::Healthy) };
        let mut resources: Vec<Named> = self.resources.into_iter().collect();
        let all = resources.len();
        if all > MOST_NAMED {
            resources.truncate(MOST_NAMED - 1);
            resources.push(Named {
                ready: true,
                kind: "List".to_owned(),
                name: "more".to_owned(),
                namespace: None,
                message: Some(format!("{} more are not named here", all + 1 - MOST_NAMED)),
            });
        }
        let (pods_ready, pods_total) = (self.ready.min(self.total), self.total);
        Health { status, pods_ready, pods_total, conditions: self.conditions, resources }
    }
}
