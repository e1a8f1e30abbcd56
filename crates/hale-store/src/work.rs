//! One batch: what gathered since the last commit, and what must be known of the database to decide over it.

use std::collections::BTreeSet;

use hale_model::{
    event::NewEvent,
    report::{OutcomeRecord, SeriesPiece},
};

use crate::{
    cluster::{Guard, Key, WriteError},
    history::{ProbeKey, Probes},
    plan::{Answer, clean, cluster_key},
    queue::{Fact, Step},
};

/// What is written together.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) items: Vec<Fact>,
    pub(crate) outcomes: Vec<OutcomeRecord>,
    pub(crate) series: Vec<SeriesPiece>,
}

/// What must be read to decide over a batch.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) records: BTreeSet<Key>,
    pub(crate) leases: BTreeSet<String>,
    pub(crate) replicas: BTreeSet<String>,
    pub(crate) probes: Vec<ProbeKey>,
}

impl Work {
    /// Whether it has nothing to ask the database.
    pub(crate) fn is_trivial(&self) -> bool {
        self.outcomes.is_empty()
            && self.series.is_empty()
            && self.items.iter().all(|it| matches!(it, Fact::Barrier(_)))
    }

    /// What to read; histories that are known already are left out.
    pub(crate) fn needs(&self, known: &Probes) -> Needs {
        let mut needs = Needs::default();
        for item in &self.items {
            match item {
                Fact::Event(event) => needs.event(event),
                Fact::Write(write, _) => {
                    for step in &write.changes {
                        needs.step(step);
                    }
                    for guard in &write.guards {
                        needs.guard(guard);
                    }
                }
                Fact::Lease(wish, _) => {
                    needs.leases.insert(clean(&wish.name));
                }
                Fact::Release(name, ..) => {
                    needs.leases.insert(name.clone());
                }
                Fact::RaiseEpoch(_) => {
                    needs.records.insert(cluster_key());
                }
                Fact::Audit(_) | Fact::Removed(_) | Fact::Barrier(_) => {}
            }
        }
        let probes: std::collections::HashSet<ProbeKey> =
            self.outcomes.iter().map(ProbeKey::of).filter(|key| known.get(key).is_none()).collect();
        needs.probes = probes.into_iter().collect();
        needs
    }

    /// Tells each who waits. Who asked may have gone.
    pub(crate) fn answer(self, answers: Vec<Answer>) {
        for (item, answer) in self.items.into_iter().zip(answers) {
            match (item, answer) {
                (Fact::Write(_, to), Answer::Write(it)) => drop(to.send(it)),
                (Fact::Lease(_, to), Answer::Lease(it)) => drop(to.send(it)),
                (Fact::RaiseEpoch(to), Answer::Epoch(it)) => drop(to.send(it)),
                (Fact::Barrier(to) | Fact::Release(_, _, to), _) => drop(to.send(())),
                _ => {}
            }
        }
    }

    /// Each item by itself, then the outcomes, then the series.
    pub(crate) fn singly(self) -> Vec<Self> {
        let single = |item| Self { items: vec![item], ..Self::default() };
        let mut works: Vec<Self> = self.items.into_iter().map(single).collect();
        if !self.outcomes.is_empty() {
            works.push(Self { outcomes: self.outcomes, ..Self::default() });
        }
        if !self.series.is_empty() {
            works.push(Self { series: self.series, ..Self::default() });
        }
        works
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.items.len() + usize::from(!self.outcomes.is_empty()) + usize::from(!self.series.is_empty())
    }

    /// Tells who waits that the database does not take what they gave.
    pub(crate) fn refuse(self, why: &str) {
        for item in self.items {
            if let Fact::Write(_, to) = item {
                drop(to.send(Err(WriteError::Refused(why.to_owned()))));
            }
        }
    }
}

impl Needs {
    fn event(&mut self, event: &NewEvent) {
        if event.data.instance().is_some() {
            self.replicas.insert(clean(&event.subject));
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(key, _) | Step::Delete(key) => drop(self.records.insert(key.clone())),
            Step::Event(event) => self.event(event),
            Step::Audit(_) | Step::Text(..) => {}
        }
    }

    fn guard(&mut self, guard: &Guard) {
        match guard {
            Guard::Lease { name, .. } => drop(self.leases.insert(name.clone())),
            Guard::Unchanged { key, .. } | Guard::Absent(key) => drop(self.records.insert(key.clone())),
        }
    }
}
