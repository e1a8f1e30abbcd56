//! Objects, kept by what they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    event::Event,
    kin::{Key, Kin, key_of, owner_key},
    objects::{Conditions, Kind, Meta, Pod},
    read::{owned, text},
    workload::Workload,
};

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
pub(super) struct Ranked<T> {
    rank: (Option<Timestamp>, u64, Option<Timestamp>, u64),
    pub(super) it: T,
}

/// Everything that is known of a cluster, or of a part of it.
#[derive(Debug, Default)]
pub struct World {
    pub(super) workloads: BTreeMap<Key, Ranked<Workload>>,
    pub(super) pods: BTreeMap<(String, String), Ranked<Pod>>,
    pub(super) claims: BTreeMap<(String, String), Ranked<Claim>>,
    /// Whether each is ready, as it says, or as is said of it.
    pub(super) nodes: BTreeMap<String, Ranked<bool>>,
    /// By uid: the two APIs tell of the same ones.
    pub(super) events: BTreeMap<String, Ranked<Event>>,
    /// Kinds of which all objects are here, even if that is none: everywhere, or in a namespace.
    complete: BTreeSet<(Option<String>, Kind)>,
    pub(super) kin: Kin,
    /// Deployment objects of what bears no label and is known by name (K1, observe).
    pub(super) assigned: HashMap<Key, Box<str>>,
}

/// A volume claim.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) meta: Meta,
    pub(super) phase: String,
}

impl World {
    /// Takes an object in. Of several versions of one, the newest counts, in whatever order they come; whatever was
    /// made anew under an old name is another one.
    pub fn add(&mut self, api_version: Option<&str>, kind: Option<&str>, object: &Value) -> Added {
        let version = text(object, &["apiVersion"]).or(api_version);
        let Some(word) = text(object, &["kind"]).or(kind) else { return Added::Nameless };
        let Some(kind) = Kind::of(version, word) else { return Added::Ignored };
        let mut hasher = DefaultHasher::new();
        object.to_string().hash(&mut hasher);
        self.take(kind, object, hasher.finish())
    }

    /// `last` decides between versions that nothing else tells apart, in whatever order they come.
    fn take(&mut self, kind: Kind, object: &Value, last: u64) -> Added {
        let Some(meta) = Meta::read(object) else { return Added::Nameless };
        let revision =
            text(object, &["metadata", "resourceVersion"]).and_then(|it| it.parse().ok()).unwrap_or(0);
        let rank = (meta.created, revision, None, last);
        let place = (meta.namespace.clone(), meta.name.clone());
        match kind {
            Kind::Event => {
                let Some(event) = Event::read(object) else { return Added::Ignored };
                let key = event_key(&meta);
                // Of one event the two APIs may tell different counts: the later one is right.
                let rank = (None, u64::from(event.count), event.last, rank.3);
                let before = self.events.get(&key).map(|it| it.it.about.clone());
                let after = event.about.clone();
                if keep(&mut self.events, key.clone(), Ranked { rank, it: event }) {
                    if let Some(before) = before {
                        self.kin.unlink_event(&before, &key);
                    }
                    self.kin.link_event(after, &key);
                }
            }
            Kind::Pod => {
                let Some(pod) = Pod::read(object) else { return Added::Nameless };
                let before = self.pods.get(&place).map(|it| it.it.meta.clone());
                keep(&mut self.pods, place.clone(), Ranked { rank, it: pod });
                let after = self.pods.get(&place).map(|it| &it.it.meta);
                relink(&mut self.kin, kind, before.as_ref(), after);
            }
            Kind::PersistentVolumeClaim => {
                let phase = owned(object, &["status", "phase"]).unwrap_or_else(|| "Pending".to_owned());
                let before = self.claims.get(&place).map(|it| it.it.meta.clone());
                keep(&mut self.claims, place.clone(), Ranked { rank, it: Claim { meta, phase } });
                let after = self.claims.get(&place).map(|it| &it.it.meta);
                relink(&mut self.kin, kind, before.as_ref(), after);
            }
            Kind::Node => {
                let ready = Conditions::read(object).holds("Ready");
                keep(&mut self.nodes, meta.name, Ranked { rank, it: ready });
            }
            _ => {
                let Some(workload) = Workload::read(kind, object) else { return Added::Nameless };
                let key = (place.0, kind, place.1);
                let before = self.workloads.get(&key).map(|it| it.it.meta.clone());
                keep(&mut self.workloads, key.clone(), Ranked { rank, it: workload });
                let after = self.workloads.get(&key).map(|it| &it.it.meta);
                relink(&mut self.kin, kind, before.as_ref(), after);
            }
        }
        Added::Kept
    }

    /// Takes an object in as a watch tells of it: what comes later is newer, whatever it says of itself (a cluster may
    /// have been restored from an older state).
    pub fn replace(&mut self, kind: Kind, object: &Value) -> Added {
        if let Some(meta) = Meta::read(object) {
            if kind == Kind::Event {
                self.remove_event(&event_key(&meta));
            } else {
                self.remove(kind, &meta.namespace, &meta.name);
            }
        }
        // There is no other any more.
        self.take(kind, object, 0)
    }

    /// Whether a node is ready, as it says; none where nothing is known of it.
    #[must_use]
    pub fn is_ready(&self, node: &str) -> Option<bool> {
        self.nodes.get(node).map(|it| it.it)
    }

    /// Takes an object out, as a watch tells of its end.
    pub fn take_out(&mut self, kind: Kind, object: &Value) {
        let Some(meta) = Meta::read(object) else { return };
        if kind == Kind::Event {
            self.remove_event(&event_key(&meta));
        } else {
            self.remove(kind, &meta.namespace, &meta.name);
        }
    }

    /// Takes an object out that is no event.
    pub fn remove(&mut self, kind: Kind, namespace: &str, name: &str) {
        let place = (namespace.to_owned(), name.to_owned());
        let meta = match kind {
            Kind::Event => None,
            Kind::Node => {
                self.nodes.remove(name);
                None
            }
            Kind::Pod => self.pods.remove(&place).map(|it| it.it.meta),
            Kind::PersistentVolumeClaim => self.claims.remove(&place).map(|it| it.it.meta),
            _ => self.workloads.remove(&(place.0, kind, place.1)).map(|it| it.it.meta),
        };
        if let Some(meta) = meta {
            self.kin.unlink(kind, &meta);
        }
    }

    pub(super) fn remove_event(&mut self, key: &str) {
        if let Some(event) = self.events.remove(key) {
            self.kin.unlink_event(&event.it.about, key);
        }
    }

    /// How many events are kept.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Forgets events that were last seen before some time.
    pub fn forget_events_before(&mut self, time: Timestamp) {
        let old = self.events.iter().filter(|(_, it)| it.it.last.is_none_or(|it| it < time));
        let old: Vec<String> = old.map(|(key, _)| key.clone()).collect();
        for key in old {
            self.remove_event(&key);
        }
    }

    /// Forgets the older half of all events.
    pub fn forget_half_of_events(&mut self) {
        let mut times: Vec<(Option<Timestamp>, String)> =
            self.events.iter().map(|(key, it)| (it.it.last, key.clone())).collect();
        times.sort();
        times.truncate(times.len() / 2);
        for (_, key) in times {
            self.remove_event(&key);
        }
    }

    /// How many objects are kept.
    #[must_use]
    pub fn held(&self) -> usize {
        self.workloads.len() + self.pods.len() + self.claims.len() + self.nodes.len() + self.events.len()
    }

    /// What is here of a kind, everywhere or in a namespace, and is not named in a whole list of it. Events are left
    /// alone: they go by their age.
    #[must_use]
    pub fn gone(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        listed: &HashSet<(String, String)>,
    ) -> Vec<(String, String)> {
        let inside = |it: &str| namespace.is_none_or(|namespace| namespace == it);
        let gone = |place: &(String, String)| inside(&place.0) && !listed.contains(place);
        match kind {
            Kind::Event => Vec::new(),
            Kind::Node => self.nodes.keys().map(|it| (String::new(), it.clone())).filter(gone).collect(),
            Kind::Pod => self.pods.keys().filter(|it| gone(it)).cloned().collect(),
            Kind::PersistentVolumeClaim => self.claims.keys().filter(|it| gone(it)).cloned().collect(),
            _ => {
                let those = self.workloads.keys().filter(|it| it.1 == kind);
                those.map(|it| (it.0.clone(), it.2.clone())).filter(gone).collect()
            }
        }
    }

    /// Says that all objects of a kind are here: that one is not here then means that there is none.
    pub fn complete(&mut self, kind: Kind) {
        self.complete.insert((None, kind));
    }

    /// Says the same of a namespace; or of all.
    pub fn complete_in(&mut self, namespace: Option<&str>, kind: Kind) {
        self.complete.insert((namespace.map(str::to_owned), kind));
    }

    /// Takes that back: it can't be asked any more.
    pub fn incomplete_in(&mut self, namespace: Option<&str>, kind: Kind) {
        self.complete.remove(&(namespace.map(str::to_owned), kind));
    }

    /// Whether what is of a kind in a namespace would be here: all of it is, or some.
    pub(super) fn has(&self, namespace: &str, kind: Kind) -> bool {
        self.is_complete(namespace, kind)
            || match kind {
                Kind::Pod => {
                    let from = (namespace.to_owned(), String::new());
                    self.pods.range(from..).next().is_some_and(|(it, _)| it.0 == namespace)
                }
                _ => {
                    let from = (namespace.to_owned(), kind, String::new());
                    let next = self.workloads.range(from..).next();
                    next.is_some_and(|(it, _)| it.0 == namespace && it.1 == kind)
                }
            }
    }

    /// Whether all of a kind in a namespace is here.
    #[must_use]
    pub fn is_complete(&self, namespace: &str, kind: Kind) -> bool {
        self.complete.contains(&(None, kind)) || self.complete.contains(&(Some(namespace.to_owned()), kind))
    }

    /// Controllers that objects here name and that are not here, as `kind namespace/name`: what belongs to them is not
    /// judged.
    #[must_use]
    pub fn missing_controllers(&self) -> Vec<String> {
        let owned = self.workloads.values().map(|it| &it.it.meta);
        let owned = owned.chain(self.pods.values().map(|it| &it.it.meta));
        let missing: BTreeSet<String> = owned
            .filter_map(|meta| {
                let (_, kind, name) = owner_key(meta)?;
                let lost = self.controller(meta).is_none();
                lost.then(|| format!("{} {}/{name}", kind.as_str(), meta.namespace))
            })
            .collect();
        missing.into_iter().collect()
    }

    /// The object that controls another: by uid, and by name only where one of both bears none.
    pub(super) fn controller(&self, meta: &Meta) -> Option<(&Key, &Workload)> {
        let owner = meta.controller.as_ref()?;
        let (key, found) = self.workloads.get_key_value(&owner_key(meta)?)?;
        let same = match (owner.uid.as_deref(), found.it.meta.uid.as_deref()) {
            (Some(wanted), Some(uid)) => wanted == uid,
            _ => true,
        };
        same.then_some((key, &found.it))
    }

    /// What every object has, of one that is here.
    pub(super) fn meta(&self, key: &Key) -> Option<&Meta> {
        let place = || (key.0.clone(), key.2.clone());
        match key.1 {
            Kind::Event | Kind::Node => None,
            Kind::Pod => self.pods.get(&place()).map(|it| &it.it.meta),
            Kind::PersistentVolumeClaim => self.claims.get(&place()).map(|it| &it.it.meta),
            _ => self.workloads.get(key).map(|it| &it.it.meta),
        }
    }
}

fn event_key(meta: &Meta) -> String {
    meta.uid.clone().unwrap_or_else(|| format!("{}/{}", meta.namespace, meta.name))
}

fn relink(kin: &mut Kin, kind: Kind, before: Option<&Meta>, after: Option<&Meta>) {
    if let Some(before) = before {
        kin.unlink(kind, before);
    }
    if let Some(after) = after {
        debug_assert!(before.is_none_or(|it| key_of(kind, it) == key_of(kind, after)));
        kin.link(kind, after);
    }
}

/// Keeps the newer one; says whether that is the new one.
fn keep<K: Ord, T>(map: &mut BTreeMap<K, Ranked<T>>, key: K, new: Ranked<T>) -> bool {
    if map.get(&key).is_some_and(|old| old.rank >= new.rank) {
        return false;
    }
    map.insert(key, new);
    true
}
