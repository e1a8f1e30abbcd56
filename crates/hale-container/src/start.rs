//! From a launch to a container that runs.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use hale_health::Exit;
use hale_keeper::protocol::Running;
use hale_model::spec::{Container, ContainerFrom, Pull};
use hale_supervisor::runtime::{InstanceId, Launch, RuntimeEvent, SpawnError, Started};
use tokio::time::{Instant, sleep};

use crate::{
    create::{self, Around},
    error::{CallError, start_failure},
    exit::exit_of,
    facts::Facts,
    labels,
    logs::Since,
    permit::{self, Accounts},
    process,
    record::Record,
    shared::{CALL, Shared, WORK},
    table::{Live, Stage},
};

/// Between attempts to remove what a start that failed may have left.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

impl Shared {
    /// Starts a replica; what of a failed start may be left is seen to.
    pub(crate) async fn start(self: &Arc<Self>, launch: Launch) -> Result<Started, SpawnError> {
        self.watched();
        let id = launch.id.clone();
        let live = Live::new();
        let stopped = live.stopped.clone();
        self.table.enter(id.clone(), live);
        let result = tokio::select! {
            biased;
            result = self.start_entered(&launch) => result,
            () = stopped.cancelled() => Err(SpawnError {
                code: "stopped",
                detail: format!("{} was stopped before it had started", id.replica),
            }),
        };
        match result {
            Ok(started) => {
                if let Some((signal, grace)) = self.table.with(&id, |live| live.stop).flatten() {
                    self.stop(&id, signal, grace);
                }
                Ok(started)
            }
            Err(error) => {
                self.abandon(&id).await;
                Err(error)
            }
        }
    }

    async fn start_entered(self: &Arc<Self>, launch: &Launch) -> Result<Started, SpawnError> {
        let Some(container) = launch.workload.run.as_container() else {
            let detail = format!("{} is no container", launch.workload.name);
            return Err(SpawnError { code: "runtime_unavailable", detail });
        };
        self.owner()?;
        match &container.from {
            ContainerFrom::Image { image, pull } => self.start_image(launch, container, (image, *pull)).await,
            ContainerFrom::Adopted { label } => {
                let label = (label.0.as_str(), label.1.as_deref());
                self.start_found(launch, container, label).await
            }
        }
    }

    /// Nothing of a start that failed stays: neither container nor record. Waits for neither.
    async fn abandon(self: &Arc<Self>, id: &InstanceId) {
        let live = self.table.remove(id);
        let Some(live) = live.filter(|live| !live.adopted) else {
            self.leave_outside(id);
            self.records.remove(id);
            return;
        };
        live.ended.cancel();
        let (shared, id) = (Arc::clone(self), id.clone());
        let named = live.container.unwrap_or_else(|| labels::name(self.owner().unwrap_or_default(), &id));
        let made = self.records.load_one(&id).is_some();
        tokio::spawn(async move {
            let mut removed = shared.remove_container(&named).await;
            // An engine that answers too late may still have made it: its record stays until it is gone, so that no other
            // engine is asked meanwhile. Where nothing was asked for, nothing is waited for.
            let me = Arc::downgrade(&shared);
            drop(shared);
            while !removed && made {
                sleep(REMOVE_AGAIN).await;
                let Some(shared) = me.upgrade() else { return };
                removed = shared.remove_container(&named).await;
            }
            let Some(shared) = me.upgrade() else { return };
            if removed {
                shared.leave_outside(&id);
            }
            shared.records.remove(&id);
        });
    }

    async fn start_image(
        self: &Arc<Self>,
        launch: &Launch,
        container: &Container,
        (image, pull): (&str, Pull),
    ) -> Result<Started, SpawnError> {
        let id = &launch.id;
        let unavailable =
            |error: CallError| error.spawn("runtime_unavailable", &format!("can't start {}", id.replica));
        let engine = self.link.engine().await.map_err(unavailable)?;
        let environment = create::environment(launch, container)?;
        let surroundings = self.surroundings(id, environment.masker.clone());
        let found = self.image(&engine, id, &launch.workload, (image, pull)).await?;
        let user = container.user.as_deref().unwrap_or(&found.user);
        permit::user(user, &self.options, &Accounts::of_this_machine())?;
        permit::volumes(&container.volumes, &self.options, &engine.socket)?;
        let _permit = self.starts.acquire().await;
        self.clear(id).await?;
        let name = labels::name(self.owner()?, id);
        let record = Record {
            healthcheck: container.healthcheck,
            ports: launch.ports.clone(),
            stop_signal: launch.workload.stop_signal,
            socket: Some(engine.socket.clone()),
            ..Record::new(id)
        };
        self.records.save(&record);
        self.enter_outside(launch, &record, &name).await?;
        let around = Around {
            owner: self.owner()?,
            publish: self.options.publish,
            bounds_logs: engine.bounds_logs,
            strict: permit::strict(&self.options),
            image_env: &found.env,
        };
        let body = create::body(launch, container, image, &environment.env, around);
        let what = format!("can't create the container of {}", id.replica);
        let made = self
            .link
            .call(WORK, |docker| async move {
                let options = CreateContainerOptionsBuilder::default().name(&name).build();
                docker.create_container(Some(options), body).await
            })
            .await
            .map_err(|error| start_failure(&error, &what))?;
        for warning in made.warnings.iter().filter(|it| !it.is_empty()) {
            tracing::warn!(replica = id.replica, "{warning}");
        }
        self.table.name(id, &made.id);
        self.records.save(&Record { container: Some(made.id.clone()), ..record.clone() });
        self.run_container(&made.id, &format!("can't start the container of {}", id.replica)).await?;
        self.came_up(launch, container, &made.id, (record, Since::Beginning))
            .await
            .map(|started| Started { surroundings: Some(surroundings), ..started })
    }

    /// Lets the engine start a container.
    pub(crate) async fn run_container(&self, container: &str, what: &str) -> Result<(), SpawnError> {
        let name = container.to_owned();
        let started =
            self.link.call(WORK, |docker| async move { docker.start_container(&name, None).await }).await;
        match started {
            Ok(()) => Ok(()),
            // It runs already.
            Err(CallError::Refused { status: 304, .. }) => Ok(()),
            Err(error) => Err(start_failure(&error, what)),
        }
    }

    /// A container was started: takes note of where it is, and follows it from now on.
    pub(crate) async fn came_up(
        self: &Arc<Self>,
        launch: &Launch,
        container: &Container,
        name: &str,
        (record, since): (Record, Since),
    ) -> Result<Started, SpawnError> {
        let id = &launch.id;
        self.table.with(id, |live| (live.stage, live.since) = (Stage::Running, Instant::now()));
        let what = || format!("{} was started, and can't be looked at", id.replica);
        let facts = self.inspect(name).await.map_err(|error| error.spawn("create_failed", &what()))?;
        let gone = || SpawnError { code: "create_failed", detail: format!("{} is gone again", id.replica) };
        let facts = facts.ok_or_else(gone)?;
        let started = self.take_up(id, container.healthcheck, &facts, (launch, container));
        let ports = if started.ports.is_empty() { launch.ports.clone() } else { started.ports.clone() };
        let record = Record {
            container: Some(facts.id.clone()),
            healthcheck: container.healthcheck,
            pid: facts.pid,
            address: Some(started.address),
            ports,
            started: facts.started,
            ..record
        };
        self.records.save(&record);
        let process = self.table.get(id).and_then(|live| live.process);
        self.tell_outside(&record, process.as_ref()).await;
        self.forget_last(&id.replica);
        self.follow(id, since);
        self.meet(id, &facts).await;
        self.warn_of(launch, container, &facts, started.address).await;
        Ok(started)
    }

    /// What a driver has to know of a container.
    fn take_up(
        &self,
        id: &InstanceId,
        healthcheck: bool,
        facts: &Facts,
        (launch, container): (&Launch, &Container),
    ) -> Started {
        let process = facts.pid.and_then(|pid| process::of(pid, &facts.id));
        self.table.with(id, |live| {
            live.started = facts.started;
            live.process = process;
            live.healthcheck = healthcheck;
        });
        let publish = self.options.publish;
        let found = match container.from {
            ContainerFrom::Adopted { .. } => reached_as_found(launch, facts, publish),
            ContainerFrom::Image { .. } => None,
        };
        let (address, ports) = found.unwrap_or_else(|| {
            let address = create::reached_at(&launch.workload, container, facts.address, publish);
            (address, launch.ports.clone())
        });
        Started {
            pid: facts.pid,
            container_id: Some(facts.id.clone()),
            address,
            ports: if ports == launch.ports { BTreeMap::new() } else { ports },
            surroundings: None,
        }
    }

    /// Compares what is known of a run with what the engine says of it now.
    pub(crate) async fn meet(self: &Arc<Self>, id: &InstanceId, facts: &Facts) {
        let died = self.table.with(id, |live| live.died.take()).flatten();
        if !facts.running || died.is_some() {
            let code = died.filter(|_| facts.running).unwrap_or(facts.exit_code);
            let exit = if facts.ran || died.is_some() { exit_of(code, facts.oom) } else { Exit::default() };
            self.ended(id, exit, facts.finished);
            return;
        }
        if let Some(healthy) = facts.healthy {
            self.told_health(id, healthy, facts.health_detail()).await;
        }
    }

    /// What a container's own check says, if that is news and counts.
    pub(crate) async fn told_health(&self, id: &InstanceId, healthy: bool, detail: String) {
        let news = self.table.with(id, |live| {
            let counts = live.healthcheck && live.stage == Stage::Running;
            counts && live.healthy.replace(healthy) != Some(healthy)
        });
        if news == Some(true) {
            use hale_supervisor::clock::{BootClock, Clock};
            let at = BootClock.now();
            self.tell(RuntimeEvent::Health { id: id.clone(), healthy, detail, at }).await;
        }
    }

    /// Removes what is left of earlier runs of a replica: never two at once, whatever happened before.
    async fn clear(&self, id: &InstanceId) -> Result<(), SpawnError> {
        let what = format!("can't see what is left of {}", id.replica);
        let filter = labels::filter(self.owner()?, Some(&id.replica));
        let listed = self.link.call(CALL, |docker| async move {
            let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
            docker.list_containers(Some(options)).await
        });
        for it in listed.await.map_err(|error| error.spawn("create_failed", &what))? {
            let Some(container) = it.id else { continue };
            let run = it.labels.as_ref().and_then(labels::instance);
            tracing::info!(replica = id.replica, container, "an earlier container is removed");
            self.remove(&container).await.map_err(|error| {
                error.spawn(
                    "create_failed",
                    &format!("an earlier container of {} can't be removed", id.replica),
                )
            })?;
            if let Some(run) = run.filter(|run| run != id) {
                self.records.remove(&run);
            }
        }
        Ok(())
    }

    /// Removes a container with all it holds, running or not.
    async fn remove(&self, container: &str) -> Result<(), CallError> {
        let name = container.to_owned();
        let removed = self.link.call(WORK, |docker| async move {
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            docker.remove_container(&name, Some(options)).await
        });
        match removed.await {
            Ok(()) => Ok(()),
            Err(error) if error.is_not_found() || error.says("already in progress") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The same; whether it did. What can't be removed is left to [`Self::sweep`].
    pub(crate) async fn remove_container(&self, container: &str) -> bool {
        let removed = self.remove(container).await;
        if let Err(error) = &removed {
            tracing::warn!(container, %error, "a container can't be removed yet");
        }
        removed.is_ok()
    }
}

/// Address and ports as they are reached, where somebody else made the container: as they published them, if all are
/// published where this machine is reached; else by its own address.
fn reached_as_found(
    launch: &Launch,
    facts: &Facts,
    publish: IpAddr,
) -> Option<(IpAddr, BTreeMap<String, u16>)> {
    let here =
        |at: &IpAddr| at.is_unspecified() || *at == publish || (at.is_loopback() && publish.is_loopback());
    let outside = |inside: &u16| {
        let published = facts.published.get(inside)?;
        published.iter().find(|(at, _)| here(at) && at.is_ipv4() == publish.is_ipv4()).map(|it| it.1)
    };
    let inside = |name: &str, number: u16| {
        launch.workload.port(name).map_or(number, |it| if it.port == 0 { number } else { it.port })
    };
    let ports = launch.ports.iter().map(|(name, number)| (name.clone(), inside(name, *number)));
    let ports: BTreeMap<String, u16> = ports.collect();
    let published: Option<BTreeMap<String, u16>> =
        ports.iter().map(|(name, number)| Some((name.clone(), outside(number)?))).collect();
    match published.filter(|it| !it.is_empty()) {
        Some(published) => Some((publish, published)),
        None => Some((facts.address?, ports)),
    }
}

/// What a record says of a run, where the engine can't be asked.
pub(crate) fn started_by(record: &Record, fallback: IpAddr) -> Started {
    Started {
        pid: record.pid,
        container_id: record.container.clone(),
        address: record.address.unwrap_or(fallback),
        ports: BTreeMap::new(),
        surroundings: None,
    }
}

/// The process of a container's record, where it is still that.
pub(crate) fn process_by(record: &Record) -> Option<Running> {
    process::of(record.pid?, record.container.as_deref()?)
}
