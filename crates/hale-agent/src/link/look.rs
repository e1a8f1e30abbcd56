//! Looks at supervisor and targets for what a server is to know.

use std::collections::BTreeSet;

use hale_api::proto;
use hale_model::status::{ReplicaStatus, WorkloadStatus};

use super::Link;
use crate::{
    desired::{Unsupported, View},
    reports::Dirty,
    state::{Change, convert},
};

/// When so many replicas have changed it is cheaper to look at all.
const MANY: usize = 64;

impl Link {
    /// Looks at what has changed since the last look.
    pub(super) async fn look(&mut self) -> Change {
        let dirty = self.parts.reports.take();
        if dirty.replicas.len() > MANY {
            return self.look_at(dirty, true).await;
        }
        self.look_at(dirty, false).await
    }

    /// Looks at everything.
    pub(super) async fn look_at_all(&mut self) -> Change {
        let dirty = self.parts.reports.take();
        self.look_at(dirty, true).await
    }

    async fn look_at(&mut self, dirty: Dirty, all: bool) -> Change {
        let view = self.view.borrow().clone();
        let mut most = Change::None;
        if all {
            most = most.max(self.look_at_replicas(&view).await);
        }
        for (workload, replica) in dirty.replicas.iter().filter(|_| !all) {
            most = most.max(self.look_at_one(&view, workload, replica).await);
        }
        for generation in dirty.removed {
            // What was granted anew lives on under its new number; this one is over.
            self.tracker.observe_gone(generation);
            most = Change::Urgent;
        }
        if (all || dirty.targets)
            && let Ok(targets) = self.parts.targets.status().await
        {
            let targets = targets.iter().map(convert::target).collect();
            most = most.max(self.tracker.observe_targets(targets));
        }
        most.max(self.look_at_wanted(&view))
    }

    async fn look_at_replicas(&mut self, view: &View) -> Change {
        let Ok(workloads) = self.parts.supervisor.status().await else { return Change::None };
        let mut most = Change::None;
        let mut seen = BTreeSet::new();
        for workload in &workloads {
            for replica in &workload.replicas {
                seen.insert(replica.generation);
                most = most.max(self.observe(view, &workload.name, replica));
            }
        }
        let unsupported: BTreeSet<u64> = view.unsupported.iter().map(|it| it.generation).collect();
        let missing: Vec<(u64, String, u32)> = self
            .tracker
            .generations()
            .filter(|it| !seen.contains(it) && !unsupported.contains(it))
            .filter_map(|it| self.tracker.replica(it))
            .map(|it| (it.generation, it.workload.clone(), it.ordinal))
            .collect();
        // On their way out, or gone without a word.
        for (generation, workload, ordinal) in missing {
            let name = format!("{workload}-{ordinal}");
            most = most.max(self.look_at_one(view, &workload, &name).await);
            let is_it = |it: &ReplicaStatus| it.generation == generation;
            if !self.status_of(&workload, &name).await.is_some_and(|it| is_it(&it)) {
                self.tracker.observe_gone(generation);
                most = Change::Urgent;
            }
        }
        most
    }

    async fn look_at_one(&mut self, view: &View, workload: &str, name: &str) -> Change {
        match self.status_of(workload, name).await {
            Some(status) => self.observe(view, workload, &status),
            None => Change::None,
        }
    }

    /// A replica by its name, which may be a workload's, too.
    async fn status_of(&self, workload: &str, name: &str) -> Option<ReplicaStatus> {
        let own = |it: WorkloadStatus| {
            (it.name == workload).then(|| it.replicas.into_iter().find(|it| it.name == name)).flatten()
        };
        match self.parts.supervisor.status_of(name).await.ok().and_then(own) {
            Some(found) => Some(found),
            None => self.parts.supervisor.status_of(workload).await.ok().and_then(own),
        }
    }

    fn observe(&mut self, view: &View, workload: &str, status: &ReplicaStatus) -> Change {
        let Some(ordinal) = convert::ordinal_of(workload, &status.name) else { return Change::None };
        let digest = view.digests.get(&status.generation).cloned();
        let digest = digest.or_else(|| self.tracker.replica(status.generation).map(|it| it.digest.clone()));
        let endpoint = self.parts.reports.endpoint(&status.name);
        let replica =
            convert::replica(workload, ordinal, status, endpoint.as_ref(), digest.unwrap_or_default());
        let change = self.tracker.observe(replica);
        // One replica of a name at a time: what was granted a new number is no more under the old one.
        let older: Vec<u64> = self
            .tracker
            .generations()
            .filter(|it| *it != status.generation)
            .filter_map(|it| self.tracker.replica(it))
            .filter(|it| it.ordinal == ordinal && it.workload == workload && it.reason != UNSUPPORTED)
            .map(|it| it.generation)
            .collect();
        older.into_iter().for_each(|it| self.tracker.observe_gone(it));
        change
    }

    /// What can't be carried out is told as failed, and what was withdrawn and never was here as gone.
    fn look_at_wanted(&mut self, view: &View) -> Change {
        let mut most = Change::None;
        for it in &view.unsupported {
            most = most.max(self.tracker.observe(failed(it)));
        }
        let named: BTreeSet<u64> = view.unsupported.iter().map(|it| it.generation).collect();
        let over: Vec<u64> = self
            .tracker
            .generations()
            .filter(|it| !named.contains(it))
            .filter(|it| self.tracker.replica(*it).is_some_and(|it| it.reason == UNSUPPORTED))
            .collect();
        for generation in over {
            self.tracker.observe_gone(generation);
            most = Change::Urgent;
        }
        for generation in &view.withdrawn {
            if self.tracker.replica(*generation).is_none() && self.told_gone.insert(*generation) {
                self.tracker.observe_gone(*generation);
                most = Change::Urgent;
            }
        }
        most
    }
}

/// The reason of a placement that this release can't carry out.
const UNSUPPORTED: &str = "unsupported";

fn failed(it: &Unsupported) -> proto::Replica {
    proto::Replica {
        generation: it.generation,
        workload: it.workload.clone(),
        ordinal: it.ordinal,
        phase: "failed".to_owned(),
        status: "failing".to_owned(),
        runtime: "process".to_owned(),
        last_error: Some(format!("{UNSUPPORTED}: {}", it.why)),
        reason: UNSUPPORTED.to_owned(),
        digest: it.digest.clone(),
        ..proto::Replica::default()
    }
}
