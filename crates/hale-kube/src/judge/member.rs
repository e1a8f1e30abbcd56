//! What belongs to a deployment object, and how that is (K2): by its label, else through controllers up the chain,
//! never by a guess from names.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Settings,
    kin::Key,
    objects::{Kind, Meta},
    verdict::Verdict,
    world::World,
};

/// Chains of controllers are short; whatever is told is not followed for ever.
const LONGEST_CHAIN: usize = 8;

/// A top-level part of a deployment object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part {
    /// Its namespace; empty where it has none.
    pub namespace: String,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Part {
    fn key(&self) -> Key {
        (self.namespace.clone(), self.kind, self.name.clone())
    }

    fn of((namespace, kind, name): Key) -> Self {
        Self { namespace, kind, name }
    }
}

impl World {
    /// Says that a thing belongs to a deployment object though it bears no label: it is one that the object's manifests
    /// name (K1, observe). A label that it bears says more.
    pub fn assign(&mut self, part: &Part, id: &str) {
        self.assigned.insert(part.key(), id.into());
    }

    /// Takes all that was assigned to a deployment object back.
    pub fn unassign(&mut self, id: &str) {
        self.assigned.retain(|_, it| &**it != id);
    }

    /// Whether such an object is here.
    #[must_use]
    pub fn is_here(&self, part: &Part) -> bool {
        self.meta(&part.key()).is_some()
    }

    /// The deployment object that something belongs to.
    #[must_use]
    pub fn object_of(&self, part: &Part) -> Option<&str> {
        self.belongs(&part.key())
    }

    /// The top-level parts of a deployment object: the highest in each chain of controllers that is not another
    /// object's.
    #[must_use]
    pub fn parts(&self, id: &str) -> BTreeSet<Part> {
        let assigned = self.assigned.iter().filter(|(_, it)| &***it == id).map(|(key, _)| key);
        let mut parts = BTreeSet::new();
        for key in self.kin.members(id).chain(assigned) {
            let Some(meta) = self.meta(key) else { continue };
            // What stands here for those that it controls may bear another object's label itself: then it is not
            // what is judged, but they are.
            if self.label(key, meta).is_some_and(|it| it != id) {
                parts.extend(self.labelled_children(key, id));
            } else {
                parts.insert(Part::of(self.top(key, meta, id)));
            }
        }
        parts
    }

    fn labelled_children(&self, key: &Key, id: &str) -> Vec<Part> {
        let children = self.kin.children(key);
        let those = children.filter(|it| self.meta(it).is_some_and(|meta| self.label(it, meta) == Some(id)));
        those.map(|it| Part::of(it.clone())).collect()
    }

    /// The label an object bears, or what was said of it.
    fn label<'w>(&'w self, key: &Key, meta: &'w Meta) -> Option<&'w str> {
        meta.object.as_deref().or_else(|| self.assigned.get(key).map(|it| &**it))
    }

    /// The deployment object that something belongs to, by itself or by what is above it.
    fn belongs(&self, key: &Key) -> Option<&str> {
        let (key, mut meta) = (key, self.meta(key)?);
        if let Some(id) = self.label(key, meta) {
            return Some(id);
        }
        for _ in 0..LONGEST_CHAIN {
            let (above, workload) = self.controller(meta)?;
            if let Some(id) = self.label(above, &workload.meta) {
                return Some(id);
            }
            meta = &workload.meta;
        }
        None
    }

    fn top(&self, key: &Key, meta: &Meta, id: &str) -> Key {
        let (mut key, mut meta) = (key, meta);
        for _ in 0..LONGEST_CHAIN {
            let Some((above, workload)) = self.controller(meta) else { break };
            if self.belongs(above).is_some_and(|it| it != id) {
                break;
            }
            (key, meta) = (above, &workload.meta);
        }
        key.clone()
    }

    /// The deployment objects whose health something may change: all that are named in its chain of controllers, and
    /// by what it controls.
    #[must_use]
    pub fn concerns(&self, part: &Part) -> BTreeSet<String> {
        let key = part.key();
        let mut ids = BTreeSet::new();
        let Some(meta) = self.meta(&key) else { return ids };
        if matches!(part.kind, Kind::Deployment | Kind::CronJob) {
            let below = self.kin.children(&key).filter_map(|it| self.meta(it));
            ids.extend(below.filter_map(|it| it.object.as_deref()).map(str::to_owned));
        }
        let (mut at, mut meta) = (&key, meta);
        for _ in 0..LONGEST_CHAIN {
            ids.extend(self.label(at, meta).map(str::to_owned));
            let Some((above, workload)) = self.controller(meta) else { break };
            (at, meta) = (above, &workload.meta);
        }
        ids
    }

    /// The deployment objects that a node's state may change.
    #[must_use]
    pub fn concerned_by_node(&self, node: &str) -> BTreeSet<String> {
        let pods = self.pods.values().map(|it| &it.it).filter(|it| it.node.as_deref() == Some(node));
        pods.flat_map(|it| {
            self.concerns(&Part::of((it.meta.namespace.clone(), Kind::Pod, it.meta.name.clone())))
        })
        .collect()
    }

    /// The deployment objects that a volume claim may change: its own, and those of pods that mount it.
    #[must_use]
    pub fn concerned_by_claim(&self, claim: &Part) -> BTreeSet<String> {
        let from = (claim.namespace.clone(), String::new());
        let pods = self.pods.range(from..).take_while(|(it, _)| it.0 == claim.namespace);
        let mount = pods.filter(|(_, it)| it.it.claims.contains(&claim.name));
        let mut ids: BTreeSet<String> = mount
            .flat_map(|(it, _)| self.concerns(&Part::of((it.0.clone(), Kind::Pod, it.1.clone()))))
            .collect();
        ids.extend(self.concerns(claim));
        ids
    }

    /// Judges a part. None when it is not here.
    #[must_use]
    pub fn judge_part(&self, part: &Part, now: Timestamp, settings: &Settings) -> Option<Verdict> {
        self.judge_one(&part.key(), now, settings)
    }

    /// The uids and names of a part and of all that it controls, for finding what was said of them; and the pods among
    /// them.
    #[must_use]
    pub fn family(&self, part: &Part) -> Vec<Member> {
        let mut found = Vec::new();
        let mut open = vec![part.key()];
        while let Some(key) = open.pop() {
            let Some(meta) = self.meta(&key) else { continue };
            open.extend(self.kin.children(&key).cloned());
            if let Some(pod) = self.pods.get(&(key.0.clone(), key.2.clone())).filter(|_| key.1 == Kind::Pod) {
                let claims = pod.it.claims.iter();
                open.extend(claims.map(|it| (key.0.clone(), Kind::PersistentVolumeClaim, it.clone())));
            }
            found.push(Member { uid: meta.uid.clone(), part: Part::of(key) });
        }
        found.sort();
        found.dedup();
        found
    }
}

/// One of the objects that a part is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// What and where.
    pub part: Part,
    /// Its uid, if it bears one.
    pub uid: Option<String>,
}
