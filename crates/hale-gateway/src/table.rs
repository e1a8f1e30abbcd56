//! The endpoints of the service as now in force, who of them gets the next request, and who has drained.
//!
//! Picking and counting happen under the same short lock as taking over a newer set. So once a set is in force, no
//! request can still be on its way to an instance that the set does not name ready, uncounted.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hale_api::endpoints::EndpointSet;
use hale_health::Time;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::{
    Options,
    balance::{self, Chance},
    budget::RetryBudget,
    ejection::{Ejection, EjectionPolicy},
    instance::{Instance, Run},
};

/// The endpoints of one service.
#[derive(Debug)]
pub(crate) struct Table {
    state: Mutex<State>,
    /// Told when an instance on its way out has no request left, and when a set was taken over.
    changed: Notify,
    /// Told when the sets come from another source.
    swapped: Notify,
    policy: EjectionPolicy,
}

struct State {
    source: watch::Receiver<Arc<EndpointSet>>,
    set: Arc<EndpointSet>,
    /// Those of the set, and those that left it with requests in flight.
    entries: Vec<Entry>,
    /// Which entries may be picked; made again when the set changes or an ejection begins or ends.
    eligible: Vec<usize>,
    /// When the next ejection ends.
    next_return: Option<Time>,
    turn: usize,
    chance: Chance,
    budget: RetryBudget,
}

#[derive(Debug)]
struct Entry {
    instance: Arc<Instance>,
    ready: bool,
    ejection: Ejection,
}

/// One request at one instance, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    table: Arc<Table>,
    instance: Arc<Instance>,
}

/// Nobody can take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nobody {
    /// No endpoint is ready.
    Ready {
        /// Since when, where that is known.
        since: Option<Timestamp>,
    },
    /// Every ready endpoint was tried.
    Left,
    /// The retry budget is used up.
    Budget,
}

/// Which try of a request is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Try {
    /// The first.
    First,
    /// Another, because the one before never began: nothing was sent, and no endpoint was asked in vain.
    Anew,
    /// Another, out of the budget.
    Retry,
}

impl Table {
    pub(crate) fn new(
        source: watch::Receiver<Arc<EndpointSet>>,
        options: &Options,
        seed: u64,
        now: Time,
    ) -> Self {
        let set = Arc::clone(&source.borrow());
        let mut state = State {
            set,
            source,
            entries: Vec::new(),
            eligible: Vec::new(),
            next_return: None,
            turn: 0,
            chance: Chance::new(seed),
            budget: RetryBudget::new(options.retry_ratio, options.retries_per_second),
        };
        state.apply();
        state.choose(now);
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            swapped: Notify::new(),
            policy: options.ejection,
        }
    }

    /// Picks an instance for a request, none of `tried`, and counts the request there.
    pub(crate) fn pick(
        self: &Arc<Self>,
        now: Time,
        tried: &[Arc<Instance>],
        which: Try,
    ) -> Result<Lease, Nobody> {
        let mut state = self.state();
        if state.refresh(now) {
            self.changed.notify_waiters();
        }
        if which == Try::First {
            state.budget.request(now);
        }
        let instance = state.pick(tried)?;
        if which == Try::Retry && !state.budget.retry(now) {
            return Err(Nobody::Budget);
        }
        instance.begin();
        drop(state);
        Ok(Lease { table: Arc::clone(self), instance })
    }

    /// Whether anybody could take a request now.
    pub(crate) fn anybody(&self, now: Time) -> Result<(), Nobody> {
        let mut state = self.state();
        if state.refresh(now) {
            self.changed.notify_waiters();
        }
        if state.eligible.is_empty() { Err(state.nobody()) } else { Ok(()) }
    }

    /// Notes that a request failed at an instance; tells for how long it is passed over, if that begins now.
    pub(crate) fn failed(&self, instance: &Arc<Instance>, now: Time) -> Option<std::time::Duration> {
        if instance.failed() < self.policy.failures {
            return None;
        }
        let mut state = self.state();
        let ready = state.entries.iter().filter(|entry| entry.ready).count();
        let out = state.entries.iter().filter(|entry| entry.ready && entry.ejection.is_out(now)).count();
        let policy = self.policy;
        let entry = state.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.instance, instance))?;
        if entry.ejection.is_out(now) || !entry.ready || !policy.allows(ready, out) {
            return None;
        }
        let length = entry.ejection.eject(&policy, now);
        instance.forgive();
        state.choose(now);
        Some(length)
    }

    /// Takes a newer set over, and closes connections that have been idle for too long.
    pub(crate) fn tidy(&self, now: Time, idle: std::time::Duration) {
        let mut state = self.state();
        if state.refresh(now) {
            self.changed.notify_waiters();
        }
        for entry in &state.entries {
            entry.instance.sweep(now, idle);
        }
    }

    /// Requests in flight at a run of a replica.
    pub(crate) fn in_flight(&self, run: &Run) -> usize {
        let state = self.state();
        state.of(run).map(|entry| entry.instance.in_flight()).sum()
    }

    /// Completes once a set is in force that does not name this run ready, and no request is in flight there.
    pub(crate) async fn drained(self: Arc<Self>, run: Run) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Listening begins before looking, so that no change falls between the two.
            changed.as_mut().enable();
            let busy = self.state().of(&run).any(|entry| entry.ready || entry.instance.in_flight() > 0);
            if !busy {
                return;
            }
            changed.await;
        }
    }

    /// Goes by another source of sets from now on; what it says now is in force when this returns.
    pub(crate) fn follow(&self, mut source: watch::Receiver<Arc<EndpointSet>>, now: Time) {
        let mut state = self.state();
        state.set = Arc::clone(&source.borrow_and_update());
        state.source = source;
        state.apply();
        state.choose(now);
        drop(state);
        self.changed.notify_waiters();
        self.swapped.notify_one();
    }

    /// Completes when there is another source.
    pub(crate) async fn swapped(&self) {
        self.swapped.notified().await;
    }

    /// A receiver that hears of newer sets.
    pub(crate) fn source(&self) -> watch::Receiver<Arc<EndpointSet>> {
        self.state().source.clone()
    }

    /// The state. A panic while it is held leaves it usable: each change of it is a whole one.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a newer set over if there is one; true when it did. Lets back those whose ejection has ended.
    fn refresh(&mut self, now: Time) -> bool {
        // Without a registry the last set stays in force, and the very last one counts too.
        let newer =
            self.source.has_changed().unwrap_or_else(|_| !Arc::ptr_eq(&self.set, &self.source.borrow()));
        if newer {
            self.set = Arc::clone(&self.source.borrow_and_update());
            self.apply();
        }
        if newer || self.next_return.is_some_and(|at| now >= at) {
            self.choose(now);
        }
        newer
    }

    fn apply(&mut self) {
        let set = Arc::clone(&self.set);
        for entry in &mut self.entries {
            entry.ready = false;
        }
        for endpoint in &set.endpoints {
            let ready = endpoint.ready && !endpoint.draining;
            match self.entries.iter_mut().find(|entry| entry.instance.is(endpoint)) {
                Some(entry) => {
                    entry.instance.grant(endpoint.generation);
                    entry.ready |= ready;
                }
                None => self.entries.push(Entry {
                    instance: Arc::new(Instance::new(endpoint)),
                    ready,
                    ejection: Ejection::default(),
                }),
            }
        }
        for entry in &self.entries {
            entry.instance.set_open(entry.ready);
        }
        self.entries.retain(|entry| {
            entry.instance.in_flight() > 0 || set.endpoints.iter().any(|endpoint| entry.instance.is(endpoint))
        });
    }

    /// Makes the list of those that may be picked: ready and not ejected. Ejection never empties it (H31).
    fn choose(&mut self, now: Time) {
        let ready = |entry: &&(usize, &Entry)| entry.1.ready;
        let entries: Vec<(usize, &Entry)> = self.entries.iter().enumerate().collect();
        let all: Vec<usize> = entries.iter().filter(ready).map(|(index, _)| *index).collect();
        let inside: Vec<usize> =
            all.iter().copied().filter(|index| !self.entries[*index].ejection.is_out(now)).collect();
        self.next_return = self.entries.iter().filter_map(|entry| entry.ejection.until(now)).min();
        self.eligible = if inside.is_empty() { all } else { inside };
    }

    fn pick(&mut self, tried: &[Arc<Instance>]) -> Result<Arc<Instance>, Nobody> {
        if self.eligible.is_empty() {
            return Err(self.nobody());
        }
        let (entries, balance) = (&self.entries, self.set.balance);
        let load = |list: &[usize], at: usize| entries[list[at]].instance.in_flight();
        if tried.is_empty() {
            let list = &self.eligible;
            let at =
                balance::pick(balance, list.len(), &mut self.turn, &mut self.chance, |at| load(list, at));
            return Ok(Arc::clone(&entries[list[at]].instance));
        }
        // For a retry, one that is passed over is still better than nobody.
        let fresh = |index: &usize| !tried.iter().any(|it| Arc::ptr_eq(it, &entries[*index].instance));
        let mut list: Vec<usize> = self.eligible.iter().copied().filter(fresh).collect();
        if list.is_empty() {
            list = (0..entries.len()).filter(|index| entries[*index].ready).filter(fresh).collect();
        }
        if list.is_empty() {
            return Err(Nobody::Left);
        }
        let at = balance::pick(balance, list.len(), &mut self.turn, &mut self.chance, |at| load(&list, at));
        Ok(Arc::clone(&entries[list[at]].instance))
    }

    fn nobody(&self) -> Nobody {
        Nobody::Ready { since: self.set.none_ready_since }
    }

    fn of<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| entry.instance.was(run))
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("set", &self.set)
            .field("entries", &self.entries)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// Where the request goes.
    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.instance.end() {
            self.table.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
