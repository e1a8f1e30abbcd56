//! Seeing to deployment objects, one after the other: applied when they are new, again when that failed or a while has
//! passed (somebody may have changed what is there), and deleted where they end. In observe mode nothing is changed. In
//! both, objects of kinds that are not watched are asked for, one by one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use hale_health::{Backoff, BackoffPolicy, Chance};
use hale_model::Status;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Desired, Mode, Outcome, Shared, Told, Wanted, brain::is_watched};
use crate::{
    apply::{self, Applied, Order},
    cluster::{Catalog, ClusterError},
    health::Named,
    judge::{Kind, Other, other},
    manifest::Manifest,
};

/// How long what is as it should be is left alone.
const AGAIN: Duration = Duration::from_secs(600);

/// How often what is being deleted is looked at.
const LEAVING: Duration = Duration::from_secs(3);

/// From attempt to attempt while something can't be applied.
const FAILED: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_secs(1),
    max: Duration::from_secs(120),
    multiplier: 2.0,
    jitter: 0.2,
};

/// Sees to them until the end.
pub(super) async fn run(shared: Arc<Shared>) {
    let end = shared.end.clone();
    let desired = shared.desired.subscribe();
    let applier = Applier {
        shared,
        desired,
        catalog: Catalog::default(),
        work: BTreeMap::new(),
        chance: Chance::new(Shared::seed()),
    };
    end.run_until_cancelled(applier.forever()).await;
}

struct Applier {
    shared: Arc<Shared>,
    desired: watch::Receiver<Arc<Desired>>,
    catalog: Catalog,
    /// By object.
    work: BTreeMap<String, Work>,
    chance: Chance,
}

struct Work {
    due: Instant,
    /// When objects of other kinds are asked for.
    look: Instant,
    backoff: Backoff,
    /// What was applied last: where other kinds are found.
    found: Vec<Applied>,
    /// What had gone from the manifests was looked for, and is gone: once is enough, it takes a request for every kind
    /// there is.
    pruned: bool,
}

impl Applier {
    async fn forever(mut self) {
        let mut mode = Mode::default();
        loop {
            let desired = Arc::clone(&self.desired.borrow_and_update());
            if std::mem::replace(&mut mode, desired.mode) != desired.mode {
                self.work.clear();
            }
            self.work.retain(|id, _| desired.objects.iter().any(|it| it.id == *id));
            let now = Instant::now();
            for object in &desired.objects {
                let new =
                    Work { due: now, look: now, backoff: Backoff::new(), found: Vec::new(), pruned: false };
                self.work.entry(object.id.clone()).or_insert(new);
            }
            for object in &desired.objects {
                if self.desired.has_changed().unwrap_or(false) {
                    break;
                }
                self.see_to(desired.mode, object).await;
            }
            let next = self.work.values().map(|it| it.due.min(it.look)).min();
            let next = next.unwrap_or_else(|| Instant::now() + AGAIN);
            tokio::select! {
                changed = self.desired.changed() => if changed.is_err() { return },
                () = sleep_until(next) => {}
            }
        }
    }

    async fn see_to(&mut self, mode: Mode, wanted: &Wanted) {
        let Some(mut work) = self.work.remove(&wanted.id) else { return };
        let now = Instant::now();
        if let Ok(manifests) = wanted.manifests.as_ref() {
            let namespaces = self.shared.options.namespaces.clone();
            let namespace = self.shared.namespace.clone();
            let order = Order {
                stack: &wanted.stack,
                object: &wanted.id,
                manifests,
                namespace: &namespace,
                namespaces: &namespaces,
            };
            let due = work.due <= now;
            if due {
                let done = match mode {
                    Mode::Apply => self.apply(&order, wanted.deleting, &mut work).await,
                    Mode::Observe => self.find(&order, wanted.deleting, &mut work).await,
                };
                self.after(wanted, done, &mut work);
            }
            if due || work.look <= now {
                self.look(&order, wanted, &mut work).await;
            }
        } else {
            (work.due, work.look) = (now + AGAIN, now + AGAIN);
        }
        self.work.insert(wanted.id.clone(), work);
    }

    /// When it is seen to next.
    fn after(&mut self, wanted: &Wanted, done: Result<Done, ClusterError>, work: &mut Work) {
        let wait = match done {
            Ok(Done::Settled) => {
                work.backoff.reset();
                AGAIN
            }
            Ok(Done::Leaving) => LEAVING,
            Ok(Done::Failed) => work.backoff.next(&FAILED, self.chance.draw()),
            Err(error) => {
                tracing::warn!(deployment_object = wanted.id, %error, "the cluster can't be reached to apply it");
                self.shared.metrics.applied(false);
                work.backoff.next(&FAILED, self.chance.draw())
            }
        };
        work.due = Instant::now() + wait;
    }

    async fn apply(
        &mut self,
        order: &Order<'_>,
        deleting: bool,
        work: &mut Work,
    ) -> Result<Done, ClusterError> {
        let cluster = self.shared.cluster.clone();
        let mut outcome = Outcome::default();
        let mut failed = false;
        if !deleting {
            let applied = apply::apply(&cluster, &mut self.catalog, order).await?;
            failed = applied.iter().any(|it| it.error.is_some());
            for it in applied.iter().filter(|it| it.error.is_some()) {
                tracing::warn!(
                    deployment_object = order.object,
                    kind = it.kind,
                    name = it.name,
                    namespace = it.namespace,
                    error = it.error,
                    "not applied; trying again"
                );
            }
            work.found.clone_from(&applied);
            outcome.applied = Some(applied);
        }
        let mut leaving = Vec::new();
        // What is left of an older object may be what the new one is to take the place of.
        if !failed && !work.pruned {
            let applied = outcome.applied.as_deref().unwrap_or_default();
            leaving = apply::prune(&cluster, &mut self.catalog, order, applied, deleting).await?;
        }
        let stuck = leaving.iter().any(|it| it.error.is_some());
        let gone = leaving.is_empty();
        work.pruned |= gone && !failed && !deleting;
        outcome.leaving = Some(leaving);
        self.tell(order.object, outcome).await;
        self.shared.metrics.applied(!failed && !stuck);
        Ok(match (failed || stuck, gone) {
            (true, _) => Done::Failed,
            (false, false) => Done::Leaving,
            (false, true) => Done::Settled,
        })
    }

    /// Only finds where things are.
    async fn find(
        &mut self,
        order: &Order<'_>,
        deleting: bool,
        work: &mut Work,
    ) -> Result<Done, ClusterError> {
        let mut found = Vec::new();
        if !deleting {
            for manifest in order.manifests {
                found.push(apply::found(&self.shared.cluster, &mut self.catalog, order, manifest).await?);
            }
        }
        let failed = found.iter().any(|it| it.error.is_some());
        work.found = found;
        Ok(if failed { Done::Failed } else { Done::Settled })
    }

    /// Asks for what is not watched.
    async fn look(&mut self, order: &Order<'_>, wanted: &Wanted, work: &mut Work) {
        let interval = self.shared.options.interval.max(Duration::from_secs(5));
        let mut others = Vec::new();
        let mut unsettled = false;
        for found in work.found.iter().filter(|it| it.error.is_none() && !watched(order, it)) {
            let Some(path) = &found.path else { continue };
            let judged = match self.shared.cluster.get(path).await {
                Ok(object) => other(&object),
                Err(ClusterError::NotFound(_)) => missing(),
                // It may be applied and not be read: then nothing is known against it.
                Err(ClusterError::Forbidden(why)) => Other {
                    status: Status::Healthy,
                    condition: None,
                    message: Some(format!("it may not be looked at: {why}")),
                },
                Err(error) => {
                    Other { status: Status::Unknown, condition: None, message: Some(error.to_string()) }
                }
            };
            unsettled |= judged.status != Status::Healthy;
            let named = Named {
                ready: judged.status == Status::Healthy,
                kind: found.kind.clone(),
                name: found.name.clone(),
                namespace: found.namespace.clone(),
                message: judged.message.clone(),
            };
            others.push((named, judged));
        }
        // What is on its way is looked at more often.
        work.look = Instant::now() + if unsettled { Duration::from_secs(5).min(interval) } else { interval };
        self.tell(&wanted.id, Outcome { others: Some(others), ..Outcome::default() }).await;
    }

    async fn tell(&self, id: &str, outcome: Outcome) {
        // The core ends only with everything else.
        let _ = self.shared.told.send(Told::Outcome(id.to_owned(), outcome)).await;
    }
}

enum Done {
    Settled,
    /// Some of it is being deleted.
    Leaving,
    Failed,
}

fn missing() -> Other {
    Other {
        status: Status::Degraded,
        condition: Some("Missing".to_owned()),
        message: Some("it is not there".to_owned()),
    }
}

fn watched(order: &Order<'_>, found: &Applied) -> bool {
    let same = |it: &&Manifest| it.kind == found.kind && it.name == found.name;
    let kind = order.manifests.iter().find(same).and_then(|it| Kind::of(Some(&it.api_version), &it.kind));
    kind.is_some_and(is_watched)
}
