//! Objects, kept by what they are, and who belongs to whom (K2).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Moment, Settings, batch,
    decide::{self, Group},
    event::{Event, Events},
    objects::{Conditions, Kind, Meta, Owner, Pod},
    pod::Seen,
    read::{owned, text},
    resources,
    verdict::{Draft, Resource, Verdict},
    workload::Workload,
};

/// Namespace, kind, name.
type Key = (String, Kind, String);

/// What became of an object that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It tells of health, and is kept.
    Kept,
    /// It tells nothing of health.
    Ignored,
    /// It has no kind or no name: nothing can be said about it.
    Nameless,
}

/// Something and which of two versions of it is the newer one.
#[derive(Debug)]
struct Ranked<T> {
    rank: (Option<Timestamp>, u64, Option<Timestamp>, u64),
    it: T,
}

/// Everything that is known of a cluster, or of a part of it.
#[derive(Debug, Default)]
pub struct World {
    workloads: BTreeMap<Key, Ranked<Workload>>,
    pods: BTreeMap<(String, String), Ranked<Pod>>,
    claims: BTreeMap<(String, String), Ranked<Claim>>,
    /// Whether each is ready, as it says, or as is said of it.
    nodes: BTreeMap<String, Ranked<bool>>,
    /// By uid: the two APIs tell of the same ones.
    events: BTreeMap<String, Ranked<Event>>,
    /// Kinds of which all objects are here, even if that is none.
    complete: BTreeSet<Kind>,
}

/// A volume claim.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) meta: Meta,
    pub(super) phase: String,
}

/// How volume claims are.
pub(super) struct Claims<'w>(&'w BTreeMap<(String, String), Ranked<Claim>>, &'w Events<'w>);

impl Claims<'_> {
    /// One of them; none of which nothing is known.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Resource> {
        let claim = self.0.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(resources::claim(&claim.it, self.1))
    }
}

impl World {
    /// Takes an object in. Of several versions of one, the newest counts, in whatever order they come; whatever was
    /// made anew under an old name is another one.
    pub fn add(&mut self, api_version: Option<&str>, kind: Option<&str>, object: &Value) -> Added {
        let version = text(object, &["apiVersion"]).or(api_version);
        let Some(word) = text(object, &["kind"]).or(kind) else { return Added::Nameless };
        let Some(kind) = Kind::of(version, word) else { return Added::Ignored };
        let Some(meta) = Meta::read(object) else { return Added::Nameless };
        let mut hasher = DefaultHasher::new();
        object.to_string().hash(&mut hasher);
        let revision =
            text(object, &["metadata", "resourceVersion"]).and_then(|it| it.parse().ok()).unwrap_or(0);
        let rank = (meta.created, revision, None, hasher.finish());
        let place = (meta.namespace.clone(), meta.name.clone());
        match kind {
            Kind::Event => {
                let Some(event) = Event::read(object) else { return Added::Ignored };
                let key = meta.uid.unwrap_or_else(|| format!("{}/{}", place.0, place.1));
                // Of one event the two APIs may tell different counts: the later one is right.
                let rank = (None, u64::from(event.count), event.last, rank.3);
                keep(&mut self.events, key, Ranked { rank, it: event });
            }
            Kind::Pod => {
                let Some(pod) = Pod::read(object) else { return Added::Nameless };
                keep(&mut self.pods, place, Ranked { rank, it: pod });
            }
            Kind::PersistentVolumeClaim => {
                let phase = owned(object, &["status", "phase"]).unwrap_or_else(|| "Pending".to_owned());
                keep(&mut self.claims, place, Ranked { rank, it: Claim { meta, phase } });
            }
            Kind::Node => {
                let ready = Conditions::read(object).holds("Ready");
                keep(&mut self.nodes, meta.name, Ranked { rank, it: ready });
            }
            _ => {
                let Some(workload) = Workload::read(kind, object) else { return Added::Nameless };
                keep(&mut self.workloads, (place.0, kind, place.1), Ranked { rank, it: workload });
            }
        }
        Added::Kept
    }

    /// Says that all objects of a kind are here: that one is not here then means that there is none.
    pub fn complete(&mut self, kind: Kind) {
        self.complete.insert(kind);
    }

    /// Judges every top-level workload, sorted by namespace and name: one that no other of these kinds controls.
    /// What a kind of somebody else's controls is as good as on top: nothing is known of what is above it.
    #[must_use]
    pub fn judge(&self, now: Timestamp, settings: &Settings) -> Vec<Verdict> {
        let index = Index::of(self, Moment { now, settings });
        let top = |meta: &Meta| meta.controller.as_ref().is_none_or(|it| !is_workload(it));
        let workloads = self.workloads.values().map(|it| &it.it).filter(|it| top(&it.meta));
        let mut verdicts: Vec<Verdict> = workloads.map(|it| index.workload(it)).collect();
        let pods = self.pods.values().map(|it| &it.it).filter(|it| top(&it.meta));
        verdicts.extend(pods.map(|it| index.bare_pod(it)));
        verdicts.sort_by(|a, b| (&a.namespace, &a.name, a.kind).cmp(&(&b.namespace, &b.name, b.kind)));
        verdicts
    }

    /// Controllers that objects here name and that are not here, as `kind namespace/name`: what belongs to them is not
    /// judged.
    #[must_use]
    pub fn missing_controllers(&self) -> Vec<String> {
        let owned = self.workloads.values().map(|it| &it.it.meta);
        let owned = owned.chain(self.pods.values().map(|it| &it.it.meta));
        let missing: BTreeSet<String> = owned
            .filter_map(|meta| {
                let owner = meta.controller.as_ref().filter(|it| is_workload(it))?;
                let lost = self.controller(meta).is_none();
                lost.then(|| format!("{} {}/{}", owner.kind, meta.namespace, owner.name))
            })
            .collect();
        missing.into_iter().collect()
    }

    /// The object that controls another: by uid, and by name only where one of both bears none.
    fn controller(&self, meta: &Meta) -> Option<(&Key, &Workload)> {
        let owner = meta.controller.as_ref()?;
        let kind = Kind::of(owner.version.as_deref(), &owner.kind)?;
        let key = (meta.namespace.clone(), kind, owner.name.clone());
        let (key, found) = self.workloads.get_key_value(&key)?;
        let same = match (owner.uid.as_deref(), found.it.meta.uid.as_deref()) {
            (Some(wanted), Some(uid)) => wanted == uid,
            _ => true,
        };
        same.then_some((key, &found.it))
    }
}

fn is_workload(owner: &Owner) -> bool {
    let kind = Kind::of(owner.version.as_deref(), &owner.kind);
    !matches!(kind, None | Some(Kind::Node | Kind::Event | Kind::PersistentVolumeClaim | Kind::Pod))
}

fn keep<K: Ord, T>(map: &mut BTreeMap<K, Ranked<T>>, key: K, new: Ranked<T>) {
    match map.get(&key) {
        Some(old) if old.rank >= new.rank => {}
        _ => {
            map.insert(key, new);
        }
    }
}

/// Who belongs to whom, for one judgement.
struct Index<'w> {
    world: &'w World,
    moment: Moment<'w>,
    events: Events<'w>,
    pods: HashMap<&'w Key, Vec<&'w Pod>>,
    made: HashMap<&'w Key, Vec<(&'w Key, &'w Workload)>>,
    /// Namespaces, and of which kinds there is something in them.
    seen: BTreeSet<(&'w str, Kind)>,
}

impl<'w> Index<'w> {
    fn of(world: &'w World, moment: Moment<'w>) -> Self {
        let mut index = Self {
            world,
            moment,
            events: Events::of(world.events.values().map(|it| &it.it)),
            pods: HashMap::new(),
            made: HashMap::new(),
            seen: BTreeSet::new(),
        };
        for pod in world.pods.values().map(|it| &it.it) {
            index.seen.insert((&pod.meta.namespace, Kind::Pod));
            if let Some((key, _)) = world.controller(&pod.meta) {
                index.pods.entry(key).or_default().push(pod);
            }
        }
        for (own, ranked) in &world.workloads {
            index.seen.insert((&own.0, own.1));
            if let Some((key, _)) = world.controller(&ranked.it.meta) {
                index.made.entry(key).or_default().push((own, &ranked.it));
            }
        }
        index
    }

    /// Whether the pods of a workload would be known if there were any: some of its namespace are, and some of what is
    /// between it and them.
    fn known(&self, root: &Workload) -> bool {
        let has = |kind| {
            self.world.complete.contains(&kind) || self.seen.contains(&(root.meta.namespace.as_str(), kind))
        };
        has(Kind::Pod)
            && match root.kind {
                Kind::Deployment => has(Kind::ReplicaSet),
                Kind::CronJob => has(Kind::Job),
                _ => true,
            }
    }

    fn look(&self, pod: &'w Pod) -> Seen<'w> {
        let node = pod.node.as_deref().and_then(|it| self.world.nodes.get(it)).map(|it| it.it);
        Seen::at(pod, &self.events, node, self.moment)
    }

    fn group(&self, key: &Key, controller: &'w Workload) -> Group<'w> {
        let pods = self.pods.get(key).into_iter().flatten().map(|it| self.look(it)).collect();
        Group { controller, pods }
    }

    fn workload(&self, root: &'w Workload) -> Verdict {
        let key = (root.meta.namespace.clone(), root.kind, root.meta.name.clone());
        let made = self.made.get(&key).into_iter().flatten();
        let groups: Vec<Group<'_>> = match root.kind {
            Kind::Deployment => {
                made.filter(|(it, _)| it.1 == Kind::ReplicaSet).map(|(key, it)| self.group(key, it)).collect()
            }
            Kind::CronJob => {
                made.filter(|(it, _)| it.1 == Kind::Job).map(|(key, it)| self.group(key, it)).collect()
            }
            _ => vec![self.group(&key, root)],
        };
        let known = self.known(root);
        let mut draft = match (root.kind, groups.first()) {
            (Kind::CronJob, _) => batch::cron_job(root, &groups, known, &self.events, self.moment),
            (Kind::Job, Some(group)) => batch::job(group, known, &self.events, self.moment),
            _ => decide::workload(root, &groups, known, &self.events, self.moment),
        };
        resources::list(&mut draft, Some(root), &groups, &self.claims());
        draft.of(root.kind, &root.meta.namespace, &root.meta.name)
    }

    fn bare_pod(&self, pod: &'w Pod) -> Verdict {
        let seen = self.look(pod);
        let mut draft: Draft = decide::bare_pod(&seen, self.moment);
        resources::pod(&mut draft, &seen, &self.claims());
        draft.of(Kind::Pod, &pod.meta.namespace, &pod.meta.name)
    }

    fn claims(&self) -> Claims<'_> {
        Claims(&self.world.claims, &self.events)
    }
}
