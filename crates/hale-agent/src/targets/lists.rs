//! Lists of targets: what is read becomes targets, and what is no longer in them leaves (N12, N14).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hale_model::{
    list::{Members, members},
    spec::{ListEntry, ListSource, Target},
};
use tracing::{info, warn};

use super::{
    read::{self, Read},
    runner::{Runner, Touched},
    watched::List,
};

/// How many refused entries of a list are named in the log; all are counted.
const NAMED: usize = 5;

impl Runner {
    /// Takes on a list, or its new declaration.
    pub(super) fn open_list(&mut self, target: Arc<Target>) {
        let Some(from) = &target.list else { return };
        self.readings += 1;
        let reading = self.readings;
        let before = self.kept.clone().map(|kept| (kept, target.digest.clone()));
        let reader = read::start(&target.name, reading, from, before, self.found.0.clone());
        info!(target = target.name, from = from.source.as_str(), refresh = ?from.refresh, "a list is read");
        let name = target.name.clone();
        let service = match &from.source {
            ListSource::Service(service) => Some(service.clone()),
            _ => None,
        };
        let list = List {
            target,
            reading,
            _reader: reader,
            members: BTreeSet::new(),
            entries: Vec::new(),
            passed_over: false,
            was_read: false,
            fault: None,
            since: None,
            paused: false,
        };
        self.lists.insert(name.clone(), list);
        if let Some(entries) = service.and_then(|it| self.services.get(&it).cloned()) {
            self.take_list(&name, entries, false);
        }
    }

    /// A list is not wanted any more: its members leave with it.
    pub(super) fn close_list(&mut self, name: &str, why: &str) {
        if let Some(list) = self.lists.remove(name) {
            list.members.iter().for_each(|member| self.forget_member(name, member, why));
            self.freed = true;
            self.pauses.retain(|(_, paused)| paused != name);
            if let Some(kept) = &self.kept {
                kept.keep(name, &list.target.digest, None);
            }
            info!(target = name, why, "a list is no longer read");
        }
    }

    /// What the server knows of services: all of them that are asked for here.
    pub(super) fn on_services(&mut self, services: BTreeMap<String, Vec<ListEntry>>) -> Touched {
        self.services = services;
        let of: Vec<(String, Vec<ListEntry>)> = self
            .lists
            .iter()
            .filter_map(|(name, list)| match &list.target.list.as_ref()?.source {
                ListSource::Service(service) => Some((name.clone(), self.services.get(service)?.clone())),
                _ => None,
            })
            .collect();
        for (name, entries) in of {
            self.take_list(&name, entries, false);
        }
        self.fill_up();
        Touched::All
    }

    /// A list was looked at.
    pub(super) fn on_read(&mut self, read: Read) -> Touched {
        // One that was closed, or declared anew, meanwhile.
        if self.lists.get(&read.name).is_none_or(|it| it.reading != read.reading) {
            return Touched::Nobody;
        }
        match read.found {
            Ok(entries) => {
                let known = self.lists.get(&read.name).filter(|_| !read.from_before);
                if let Some((kept, list)) = self.kept.as_ref().zip(known) {
                    kept.keep(&read.name, &list.target.digest, Some(&entries));
                }
                self.take_list(&read.name, entries, read.from_before);
            }
            Err(why) => self.keep_list(&read.name, why),
        }
        self.fill_up();
        Touched::All
    }

    /// It can't be read: the last one stays.
    fn keep_list(&mut self, name: &str, why: String) {
        let Some(list) = self.lists.get_mut(name) else { return };
        let members = list.members.len();
        warn!(target = name, why, members, "a list of targets can't be read; the last one stays");
        if list.fault.replace(why).is_none() {
            list.since = Some(self.clock.wall());
        }
    }

    /// Ends a member, unless its name is that of another target by now.
    fn forget_member(&mut self, list: &str, member: &str, why: &str) {
        if self.watched.get(member).is_some_and(|it| it.target.origin.list.as_deref() == Some(list)) {
            self.forget(member, why);
        }
    }

    /// A name may be free that an entry of a list was passed over for.
    pub(super) fn fill_up(&mut self) {
        if !std::mem::take(&mut self.freed) {
            return;
        }
        let short = self.lists.iter().filter(|(_, it)| it.passed_over);
        let short: Vec<String> = short.map(|(name, _)| name.clone()).collect();
        for name in short {
            let Some(list) = self.lists.get(&name) else { continue };
            let targets = members(&list.target, &list.entries).targets;
            self.set_members(&name, targets);
        }
        self.freed = false;
    }

    /// Has these be the members of a list; `from_before`: as an earlier run had read it.
    fn take_list(&mut self, name: &str, entries: Vec<ListEntry>, from_before: bool) {
        let Some(list) = self.lists.get(name) else { return };
        let Members { targets, refused } = members(&list.target, &entries);
        for (entry, why) in refused.iter().take(NAMED) {
            warn!(target = name, entry, why, "an entry of a list is no target");
        }
        if targets.is_empty() && !refused.is_empty() {
            let (entry, why) = &refused[0];
            self.keep_list(name, format!("none of its entries is a target: {entry:?}: {why}"));
            return;
        }
        if !refused.is_empty() {
            warn!(
                target = name,
                refused = refused.len(),
                taken = targets.len(),
                "entries of a list are passed over"
            );
        }
        let taken = self.set_members(name, targets);
        let Some(list) = self.lists.get_mut(name) else { return };
        list.entries = entries;
        if from_before {
            info!(target = name, members = taken, "a list of targets is as it was read last");
            return;
        }
        if list.fault.take().is_some() || !list.was_read {
            list.since = Some(self.clock.wall());
            info!(target = name, members = taken, "a list of targets was read");
        }
        list.was_read = true;
        self.drop_told();
    }

    /// Has these be the members of a list, but for those whose names are taken; how many are.
    fn set_members(&mut self, name: &str, targets: Vec<Target>) -> usize {
        let Some(list) = self.lists.get_mut(name) else { return 0 };
        let (paused, before) = (list.paused, std::mem::take(&mut list.members));
        let all = targets.len();
        let wanted: BTreeMap<String, Arc<Target>> = targets
            .into_iter()
            .filter(|it| self.is_free(&it.name, name))
            .map(|it| (it.name.clone(), Arc::new(it)))
            .collect();
        let passed_over = wanted.len() < all;
        for gone in before.iter().filter(|it| !wanted.contains_key(*it)) {
            self.forget_member(name, gone, "it left the list");
        }
        let mut taken = BTreeSet::new();
        for (member, target) in wanted {
            if self.take_member(target, paused) {
                taken.insert(member);
            }
        }
        let Some(list) = self.lists.get_mut(name) else { return 0 };
        list.passed_over = passed_over;
        list.members = taken;
        list.members.len()
    }

    /// Whether a member of a list may have this name: nothing that is declared has it, and no other list.
    fn is_free(&self, member: &str, list: &str) -> bool {
        let owner = self.watched.get(member).map(|it| it.target.origin.list.as_deref());
        let free = !self.lists.contains_key(member) && owner.is_none_or(|owner| owner == Some(list));
        if !free {
            warn!(
                target = list,
                member, "an entry of a list has the name of another target, and is passed over"
            );
        }
        free
    }

    /// Watches a member, if it is not watched as that already.
    fn take_member(&mut self, target: Arc<Target>, paused: bool) -> bool {
        let name = target.name.clone();
        match self.watched.get_mut(&name) {
            Some(old) if old.target.digest == target.digest => {
                // Labels and the container may be others.
                old.target = target;
                return true;
            }
            Some(_) => self.forget(&name, "its address changed"),
            None => {}
        }
        if let Err(error) = self.watch(target) {
            warn!(target = name, %error, "a target can not be probed");
            return false;
        }
        if paused && let Some(new) = self.watched.get_mut(&name) {
            new.by_person = true;
            new.settle_pause(self.clock.now());
        }
        true
    }

    /// Whether a failure that an earlier run told may still be asked for: its target is declared, or is to be in a list
    /// that was not read yet.
    pub(super) fn drop_told(&mut self) {
        let lists = &self.lists;
        let over = self.told.take_where(|_, failure| {
            let list = failure.about.list.as_deref().and_then(|it| lists.get(it));
            list.is_none_or(|it| it.was_read)
        });
        for (name, failure) in over {
            self.tell_forgotten(&name, "it left the list", failure.about);
        }
    }
}
