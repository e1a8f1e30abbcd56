//! Which runs of replicas are out of traffic here with no request in flight, so that the server may tell their node
//! that they can be stopped (H18).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    future::pending,
};

use hale_api::endpoints::EndpointSet;
use tokio::task::{AbortHandle, JoinSet};

use crate::{Gateways, Run};

/// What is told to one server over one connection. Each run is told once, and anew after it was in traffic again.
#[derive(Debug)]
pub(crate) struct Quiets {
    gateways: Gateways,
    /// By service: those that take requests, and those that do not.
    sets: BTreeMap<String, (BTreeSet<Run>, BTreeSet<Run>)>,
    waits: JoinSet<Run>,
    waiting: HashMap<Run, AbortHandle>,
}

impl Quiets {
    pub(crate) fn new(gateways: Gateways) -> Self {
        Self { gateways, sets: BTreeMap::new(), waits: JoinSet::new(), waiting: HashMap::new() }
    }

    /// Notes the endpoints of a service now.
    pub(crate) fn note(&mut self, set: &EndpointSet) {
        let (open, out): (Vec<_>, Vec<_>) = set.endpoints.iter().partition(|it| it.ready && !it.draining);
        let runs = |endpoints: Vec<_>| endpoints.into_iter().map(Run::from).collect::<BTreeSet<_>>();
        let now = (runs(open), runs(out));
        let (was_open, was_out) = self.sets.insert(set.service.clone(), now.clone()).unwrap_or_default();
        for run in &now.0 {
            if let Some(wait) = self.waiting.remove(run) {
                wait.abort();
            }
        }
        let fell_out = was_open.difference(&now.0).chain(now.1.difference(&was_out));
        for run in fell_out.cloned().collect::<BTreeSet<_>>() {
            self.wait(run);
        }
    }

    /// A service is gone.
    pub(crate) fn gone(&mut self, service: &str) {
        if let Some((open, _)) = self.sets.remove(service) {
            open.into_iter().for_each(|run| self.wait(run));
        }
    }

    /// Services that were noted and are none of these are gone.
    pub(crate) fn only(&mut self, services: &BTreeSet<String>) {
        let gone: Vec<String> = self.sets.keys().filter(|it| !services.contains(*it)).cloned().collect();
        gone.iter().for_each(|service| self.gone(service));
    }

    fn wait(&mut self, run: Run) {
        if self.waiting.contains_key(&run) {
            return;
        }
        let drained = self.gateways.drained(run.clone());
        let told = run.clone();
        let wait = self.waits.spawn(async move {
            drained.await;
            told
        });
        self.waiting.insert(run, wait);
    }

    /// The next one that is quiet. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Run {
        loop {
            match self.waits.join_next().await {
                // One that was let in again in between is not waited for any more.
                Some(Ok(run)) if self.waiting.remove(&run).is_some() => return run,
                Some(_) => {}
                None => return pending().await,
            }
        }
    }
}
