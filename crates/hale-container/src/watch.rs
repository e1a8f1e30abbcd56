//! What happens to containers, heard from the engine, and looked at anew whenever something may have been missed.
//!
//! The stream of events is a hint that is fast; the list of containers is the truth. The list is read after each
//! connection, when a call has failed, and every half minute. So an engine that was killed, hung or restarted costs
//! nothing but the time it was away.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bollard::{
    models::{ContainerSummary, EventMessage},
    query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder},
};
use futures_util::{StreamExt, stream};
use hale_health::Exit;
use hale_supervisor::runtime::{InstanceId, RuntimeEvent};
use tokio::time::{Instant, interval_at, timeout};

use crate::{
    error::CallError,
    facts::health_detail,
    labels,
    link::{Engine, State},
    shared::{CALL, Shared},
    table::Stage,
};

/// How often everything is looked at without any cause.
const LOOK: Duration = Duration::from_secs(30);

/// The first such look comes soon: what happened before the engine heard that events are wanted is in no event.
const SOON: Duration = Duration::from_secs(2);

/// Containers that are looked at at once.
const AT_ONCE: usize = 8;

/// The events that matter; health checks and commands would flood the stream with others.
const EVENTS: [&str; 7] = ["die", "died", "oom", "health_status", "destroy", "remove", "restart"];

impl Shared {
    /// Sees to it that somebody looks for the engine, from the first time it is needed.
    pub(crate) fn watched(self: &Arc<Self>) {
        if self.link.want() {
            let shared = Arc::downgrade(self);
            tokio::spawn(async move {
                let mut tries = 0;
                while let Some(shared) = shared.upgrade() {
                    shared.watch_once(&mut tries).await;
                    let link = Arc::clone(&shared.link);
                    drop(shared);
                    link.pause(tries).await;
                }
            });
        }
    }

    /// From one connection to its end.
    async fn watch_once(self: &Arc<Self>, tries: &mut u32) {
        let why = match self.find_engine().await {
            Ok(engine) => {
                let began = Instant::now();
                let why = self.hear(&engine).await;
                // One that breaks off at once is not well yet.
                *tries = if began.elapsed() > LOOK { 0 } else { *tries + 1 };
                why
            }
            Err(why) => {
                *tries += 1;
                why
            }
        };
        let first = !matches!(self.link.state(), State::Down(_));
        if first {
            tracing::warn!(why, "no container engine can be asked");
        }
        self.link.set(State::Down(why));
    }

    /// Hears an engine until that is over; why it is.
    async fn hear(self: &Arc<Self>, engine: &Engine) -> String {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptionsBuilder::default().filters(&filters).build();
        let mut events = Box::pin(engine.docker.events(Some(options)));
        // An engine may answer a request for events only with the first of them: polled once, it has been asked.
        let early = timeout(Duration::from_millis(50), events.next()).await.ok();
        self.link.set(State::Up(engine.clone()));
        if let Err(error) = self.look_at_all(engine, true).await {
            return error.to_string();
        }
        if let Some(Some(Ok(event))) = early {
            self.on_event(event).await;
        }
        let mut looks = interval_at(Instant::now() + SOON, LOOK);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.on_event(event).await,
                    Some(Err(error)) => return CallError::from(error).to_string(),
                    None => return "it has closed the stream of its events".to_owned(),
                },
                () = self.link.doubted() => match timeout(CALL, engine.docker.ping()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return CallError::from(error).to_string(),
                    Err(_) => return CallError::Late(CALL).to_string(),
                },
                _ = looks.tick() => if let Err(error) = self.look_at_all(engine, false).await {
                    return error.to_string();
                },
            }
        }
    }

    async fn on_event(self: &Arc<Self>, event: EventMessage) {
        let Some(actor) = event.actor else { return };
        let Some(id) = actor.id.as_deref().and_then(|it| self.table.run_of(it)) else { return };
        let attributes = actor.attributes.unwrap_or_default();
        let action = event.action.unwrap_or_default();
        match action.as_str() {
            "die" | "died" => {
                let code =
                    ["exitCode", "containerExitCode"].iter().find_map(|it| attributes.get(*it)?.parse().ok());
                let shared = Arc::clone(self);
                tokio::spawn(async move { shared.died(&id, code).await });
            }
            "oom" => {
                self.table.with(&id, |live| live.oom_at = Some(Instant::now()));
                self.tell(RuntimeEvent::OutOfMemory { id }).await;
            }
            "destroy" | "remove" => self.ended(&id, Exit::default(), None),
            action => {
                let Some(health) = action.strip_prefix("health_status") else { return };
                let health = health.trim_start_matches([':', ' ']);
                // Podman tells it as an attribute.
                let health = if health.is_empty() {
                    attributes.get("health_status").map_or("", String::as_str)
                } else {
                    health
                };
                let shared = Arc::clone(self);
                match health {
                    "healthy" => self.told_health(&id, true, health_detail("")).await,
                    "unhealthy" => drop(tokio::spawn(async move { shared.unwell(&id).await })),
                    _ => {}
                }
            }
        }
    }

    /// A container's own check says that it is unwell: what it wrote goes with that.
    async fn unwell(self: &Arc<Self>, id: &InstanceId) {
        let container = self.table.get(id).and_then(|live| live.container).unwrap_or_default();
        let detail = match self.inspect(&container).await {
            Ok(Some(facts)) if facts.healthy == Some(true) => return,
            Ok(Some(facts)) => facts.health_detail(),
            _ => health_detail(""),
        };
        self.told_health(id, false, detail).await;
    }

    /// Compares what is known with what is there. `anew`: the stream of events was interrupted, so that a container may
    /// have been started again meanwhile.
    async fn look_at_all(self: &Arc<Self>, engine: &Engine, anew: bool) -> Result<(), CallError> {
        if self.table.is_empty() && !self.records.exist() {
            return Ok(());
        }
        let Ok(owner) = self.owner() else { return Ok(()) };
        let began = Instant::now();
        let known: Vec<_> = self.table.all();
        let ours = self.list(engine, labels::filter(owner, None)).await?;
        let others = if known.iter().any(|(_, live)| live.adopted) {
            self.list(engine, HashMap::new()).await?
        } else {
            Vec::new()
        };
        let running: HashMap<&str, &ContainerSummary> =
            ours.iter().chain(&others).filter_map(|it| Some((it.id.as_deref()?, it))).collect();
        let mut asked: Vec<(InstanceId, String)> = Vec::new();
        for (id, live) in &known {
            let (Stage::Running, Some(container)) = (live.stage, &live.container) else { continue };
            if live.since >= began {
                continue;
            }
            let listed = running.get(container.as_str());
            let runs = listed.is_some_and(|it| it.state.is_some_and(|state| is_running(state.as_ref())));
            if !runs || anew || health_of(listed.copied()).is_some_and(|it| live.healthy != Some(it)) {
                asked.push((id.clone(), container.clone()));
            }
        }
        let looks = asked.into_iter().map(|(id, container)| {
            let shared = Arc::clone(self);
            async move { shared.look(&id, &container).await }
        });
        let looked: Vec<Result<bool, CallError>> =
            stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
        self.sweep(&ours).await;
        looked.into_iter().find_map(|it| it.err().filter(CallError::is_engine)).map_or(Ok(()), Err)
    }

    async fn list(
        &self,
        engine: &Engine,
        filters: HashMap<String, Vec<String>>,
    ) -> Result<Vec<ContainerSummary>, CallError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        match timeout(CALL, engine.docker.list_containers(Some(options))).await {
            Ok(listed) => listed.map_err(CallError::from),
            Err(_) => Err(CallError::Late(CALL)),
        }
    }

    /// Removes containers of ours that are no run any more: what a start or a removal that was cut short left.
    async fn sweep(self: &Arc<Self>, ours: &[ContainerSummary]) {
        if !self.is_settled() {
            return;
        }
        let known: HashSet<InstanceId> = self.table.all().into_iter().map(|(id, _)| id).collect();
        for it in ours {
            let run = it.labels.as_ref().and_then(labels::instance);
            if let (Some(container), Some(run)) = (&it.id, run)
                && !known.contains(&run)
                && self.table.get(&run).is_none()
            {
                tracing::info!(
                    container,
                    replica = run.replica,
                    "a container that is no run any more is removed"
                );
                if self.remove_container(container).await {
                    self.leave_outside(&run);
                }
            }
        }
    }
}

fn is_running(state: &str) -> bool {
    matches!(state, "running" | "paused")
}

/// What a list says of a container's own check.
fn health_of(it: Option<&ContainerSummary>) -> Option<bool> {
    let status = it?.status.as_deref()?;
    match () {
        () if status.ends_with("(healthy)") => Some(true),
        () if status.ends_with("(unhealthy)") => Some(false),
        () => None,
    }
}
