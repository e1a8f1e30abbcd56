//! Who belongs to whom, kept while objects come and go (K2): so that one changed pod costs its own family, and not the
//! cluster (O15).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::objects::{Kind, Meta, Owner};

/// Namespace, kind, name.
pub(super) type Key = (String, Kind, String);

/// The links between objects, by what the objects themselves say. Whether the one that is named is the one that is
/// there (by uid) is looked at when a link is followed.
#[derive(Debug, Default)]
pub(super) struct Kin {
    /// What is named as a controller, and what names it.
    children: HashMap<Key, BTreeSet<Key>>,
    /// What an event is about, and the keys of such events.
    events: HashMap<Key, BTreeSet<String>>,
    /// Deployment objects, and what bears their label; in place of what has a controller of these kinds its
    /// controller, with how many there are of them.
    members: HashMap<Box<str>, BTreeMap<Key, u32>>,
}

impl Kin {
    /// Takes the links of an object in.
    pub(super) fn link(&mut self, kind: Kind, meta: &Meta) {
        let own = key_of(kind, meta);
        let owner = owner_key(meta);
        if let Some(owner) = owner.clone() {
            self.children.entry(owner).or_default().insert(own.clone());
        }
        if let Some(id) = &meta.object {
            *self.members.entry(id.clone()).or_default().entry(owner.unwrap_or(own)).or_default() += 1;
        }
    }

    /// Takes them out again.
    pub(super) fn unlink(&mut self, kind: Kind, meta: &Meta) {
        let own = key_of(kind, meta);
        let owner = owner_key(meta);
        if let Some(owner) = &owner
            && let Some(those) = self.children.get_mut(owner)
        {
            those.remove(&own);
            if those.is_empty() {
                self.children.remove(owner);
            }
        }
        let Some(id) = &meta.object else { return };
        let Some(those) = self.members.get_mut(id) else { return };
        let at = owner.unwrap_or(own);
        if let Some(count) = those.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                those.remove(&at);
            }
        }
        if those.is_empty() {
            self.members.remove(id);
        }
    }

    pub(super) fn link_event(&mut self, about: Key, event: &str) {
        self.events.entry(about).or_default().insert(event.to_owned());
    }

    pub(super) fn unlink_event(&mut self, about: &Key, event: &str) {
        let Some(those) = self.events.get_mut(about) else { return };
        those.remove(event);
        if those.is_empty() {
            self.events.remove(about);
        }
    }

    /// Those that name it as their controller.
    pub(super) fn children(&self, of: &Key) -> impl Iterator<Item = &Key> {
        self.children.get(of).into_iter().flatten()
    }

    /// The keys of events that are about it.
    pub(super) fn events(&self, about: &Key) -> impl Iterator<Item = &String> {
        self.events.get(about).into_iter().flatten()
    }

    /// What bears the label of a deployment object, or controls what does.
    pub(super) fn members(&self, id: &str) -> impl Iterator<Item = &Key> {
        self.members.get(id).into_iter().flat_map(BTreeMap::keys)
    }
}

pub(super) fn key_of(kind: Kind, meta: &Meta) -> Key {
    (meta.namespace.clone(), kind, meta.name.clone())
}

/// The key of the controller that an object names, if that is of a kind that is judged.
pub(super) fn owner_key(meta: &Meta) -> Option<Key> {
    let owner = meta.controller.as_ref().filter(|it| is_workload(it))?;
    let kind = Kind::of(owner.version.as_deref(), &owner.kind)?;
    Some((meta.namespace.clone(), kind, owner.name.clone()))
}

/// Whether something that is controlled by it is below something that is judged.
pub(super) fn is_workload(owner: &Owner) -> bool {
    let kind = Kind::of(owner.version.as_deref(), &owner.kind);
    !matches!(kind, None | Some(Kind::Node | Kind::Event | Kind::PersistentVolumeClaim | Kind::Pod))
}
