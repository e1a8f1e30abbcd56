//! What an earlier agent left: its containers, and its records of those that ended (N6).
//!
//! The engine's list and our records are put together. Where the engine can't be asked now, the records are believed until
//! it can: a container that runs on must not be started a second time because nobody could be asked about it.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering};

use bollard::query_parameters::ListContainersOptionsBuilder;
use hale_health::{Exit, Time};
use hale_supervisor::{
    clock::{BootClock, Clock},
    runtime::{AdoptedInstance, InstanceId, Started},
};

use crate::{
    create::Environment,
    error::CallError,
    exit::exit_of,
    facts::Facts,
    labels,
    link::State,
    logs::Since,
    process,
    record::{Ended, Record},
    shared::{CALL, Shared, moment},
    start,
    table::{Live, Stage},
};

impl Shared {
    /// What is left. Bounded: an engine that does not answer is not waited for.
    pub(crate) async fn adopt(self: &Arc<Self>) -> Vec<AdoptedInstance> {
        if !self.records.exist() {
            self.settled.store(true, Ordering::Release);
            return Vec::new();
        }
        let mut records: HashMap<InstanceId, Record> =
            self.records.load().into_iter().map(|it| (it.id(), it)).collect();
        self.watched();
        let there = self.containers_left().await;
        if let Ok(there) = &there {
            for (id, container) in there {
                let record = records.entry(id.clone()).or_insert_with(|| Record::new(id));
                record.container = Some(container.clone());
            }
        }
        let mut left = Vec::new();
        let socket = match self.link.state() {
            State::Up(engine) => Some(engine.socket),
            State::Unknown | State::Down(_) => None,
        };
        for (id, record) in records {
            if let (true, Some(container)) = (record.adopted, &record.container) {
                self.claimed(&id, container);
            }
            let record = Record { socket: socket.clone().or(record.socket), ..record };
            if self.options.end_leftovers {
                self.end_leftover(&id, &record).await;
            } else if let Some(instance) = self.take_over(id, record, there.is_ok()).await {
                left.push(instance);
            }
        }
        match &there {
            Ok(_) => tracing::info!(instances = left.len(), "containers of an earlier agent were looked for"),
            Err(error) => tracing::warn!(
                instances = left.len(), %error,
                "the engine can't be asked: what an earlier agent knew of its containers is believed for now"
            ),
        }
        let live = self.table.all().into_iter().filter(|(_, live)| live.stage == Stage::Running);
        let all = live.filter_map(|(id, live)| Some((self.records.load_one(&id)?, live)));
        self.settle_outside(all.collect()).await;
        self.settled.store(true, Ordering::Release);
        left
    }

    /// The containers that are ours.
    async fn containers_left(&self) -> Result<Vec<(InstanceId, String)>, CallError> {
        let owner = self.owner().map_err(|error| CallError::Unreachable(error.detail))?;
        let filter = labels::filter(owner, None);
        let listed = self.link.call(CALL, |docker| async move {
            let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
            docker.list_containers(Some(options)).await
        });
        let ours = listed.await?.into_iter().filter_map(|it| Some((labels::instance(&it.labels?)?, it.id?)));
        Ok(ours.collect())
    }

    /// `hale up` takes nothing over: what an earlier one could not end is ended first (N19).
    async fn end_leftover(&self, id: &InstanceId, record: &Record) {
        if let Some(container) =
            record.container.as_ref().filter(|_| !record.adopted && record.ended.is_none())
        {
            tracing::info!(replica = id.replica, container, "a container that an earlier run left is ended");
            self.remove_container(container).await;
        }
        self.records.remove(id);
    }

    /// One run; `None`: it never came to be one.
    async fn take_over(
        self: &Arc<Self>,
        id: InstanceId,
        record: Record,
        asked: bool,
    ) -> Option<AdoptedInstance> {
        let Some(container) = record.container.clone() else {
            // Its start was cut short. What the engine may make of it yet is swept.
            self.records.remove(&id);
            return None;
        };
        if let Some(ended) = record.ended {
            let started = start::started_by(&record, self.options.publish);
            self.remove_if_ours(&record);
            return Some(self.told_gone(id, &record, started, ended));
        }
        let facts =
            if asked { self.inspect(&container).await } else { Err(CallError::Unreachable(String::new())) };
        match facts {
            Ok(Some(facts)) if facts.running && same_run(&record, &facts) => {
                Some(self.lives(id, record, &facts))
            }
            Ok(Some(facts)) if !facts.ran => {
                self.remove_if_ours(&record);
                self.records.remove(&id);
                None
            }
            Ok(facts) => {
                let facts = facts.filter(|it| !it.running);
                let exit = facts.as_ref().map_or_else(Exit::default, |it| exit_of(it.exit_code, it.oom));
                let at = facts.and_then(|it| it.finished).unwrap_or_else(|| BootClock.wall());
                let ended = Ended::new(exit, at);
                let record = Record { ended: Some(ended), ..record };
                self.records.save(&record);
                // What it wrote at last is stored before it goes.
                self.table.enter(id.clone(), ended_live(&container, record.adopted));
                self.follow(&id, Since::Stored);
                self.leave_once_followed(&id, &record);
                let started = start::started_by(&record, self.options.publish);
                Some(self.told_gone(id, &record, started, ended))
            }
            Err(_) => Some(self.believed(id, record)),
        }
    }

    fn told_gone(&self, id: InstanceId, record: &Record, started: Started, ended: Ended) -> AdoptedInstance {
        self.remember_last(&id);
        let at = moment(ended.at);
        AdoptedInstance { exit: Some((ended.exit(), at)), gone: true, ..instance(id, record, started) }
    }

    fn lives(self: &Arc<Self>, id: InstanceId, record: Record, facts: &Facts) -> AdoptedInstance {
        let record =
            Record { pid: facts.pid, started: facts.started, container: Some(facts.id.clone()), ..record };
        let live = Live { process: facts.pid.and_then(|pid| process::of(pid, &facts.id)), ..live(&record) };
        self.table.enter(id.clone(), live);
        self.records.save(&record);
        self.follow(&id, Since::Stored);
        let address = record.address.or(facts.address).unwrap_or(self.options.publish);
        let started = Started { address, ..start::started_by(&record, self.options.publish) };
        if let Some(healthy) = facts.healthy {
            let (shared, id, detail) = (Arc::clone(self), id.clone(), facts.health_detail());
            tokio::spawn(async move { shared.told_health(&id, healthy, detail).await });
        }
        instance(id, &record, started)
    }

    /// The engine can't be asked; as soon as it can, what is not so is told.
    fn believed(self: &Arc<Self>, id: InstanceId, record: Record) -> AdoptedInstance {
        self.records.save(&record);
        let live = Live { process: start::process_by(&record), ..live(&record) };
        self.table.enter(id.clone(), live);
        self.follow(&id, Since::Stored);
        let started = start::started_by(&record, self.options.publish);
        instance(id, &record, started)
    }

    fn remove_if_ours(self: &Arc<Self>, record: &Record) {
        if let Some(container) = record.container.clone().filter(|_| !record.adopted) {
            let shared = Arc::clone(self);
            tokio::spawn(async move { shared.remove_container(&container).await });
        }
    }

    fn leave_once_followed(self: &Arc<Self>, id: &InstanceId, record: &Record) {
        let (shared, id, record) = (Arc::clone(self), id.clone(), record.clone());
        tokio::spawn(async move {
            if let Some(live) = shared.table.get(&id) {
                let _ = tokio::time::timeout(CALL, live.followed.cancelled()).await;
            }
            shared.table.remove(&id);
            shared.remove_if_ours(&record);
        });
    }

    /// The secrets of an adopted run, as it would be started now.
    pub(crate) fn masker_of(launch: &hale_supervisor::runtime::Launch) -> hale_supervisor::process::Masker {
        let container = launch.workload.run.as_container();
        let environment = container.map(|it| crate::create::environment(launch, it));
        match environment {
            Some(Ok(Environment { masker, .. })) => masker,
            Some(Err(error)) => {
                tracing::warn!(replica = launch.id.replica, %error, "can't tell what is secret in it");
                hale_supervisor::process::Masker::default()
            }
            None => hale_supervisor::process::Masker::default(),
        }
    }
}

/// Whether a container is in the run that the record is of, not in a later one. (Ours run once.)
fn same_run(record: &Record, facts: &Facts) -> bool {
    !record.adopted || record.started.is_none() || record.started == facts.started
}

fn live(record: &Record) -> Live {
    Live {
        stage: Stage::Running,
        container: record.container.clone(),
        adopted: record.adopted,
        started: record.started,
        healthcheck: record.healthcheck,
        ..Live::new()
    }
}

fn ended_live(container: &str, adopted: bool) -> Live {
    let live = Live { stage: Stage::Ended, container: Some(container.to_owned()), adopted, ..Live::new() };
    live.ended.cancel();
    live
}

fn instance(id: InstanceId, record: &Record, started: Started) -> AdoptedInstance {
    AdoptedInstance {
        id,
        started,
        started_at: record.started.map_or(Time::ZERO, moment),
        started_wall: record.started,
        ports: record.ports.clone(),
        stopping: record.stopping,
        exit: None,
        gone: false,
        notified: Default::default(),
    }
}
