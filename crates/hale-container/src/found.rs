//! Containers that somebody else made: found by a label, probed and restarted, never made or removed.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use bollard::{models::ContainerSummary, query_parameters::ListContainersOptionsBuilder};
use hale_model::spec::Container;
use hale_supervisor::{
    process::Masker,
    runtime::{InstanceId, Launch, SpawnError, Started},
};
use jiff::Timestamp;

use crate::{
    error::CallError,
    labels,
    logs::Since,
    record::Record,
    shared::{CALL, Shared},
};

impl Shared {
    /// Takes the container that is this replica, and starts it if it does not run.
    pub(crate) async fn start_found(
        self: &Arc<Self>,
        launch: &Launch,
        container: &Container,
        label: (&str, Option<&str>),
    ) -> Result<Started, SpawnError> {
        let id = &launch.id;
        self.table.with(id, |live| live.adopted = true);
        let unavailable =
            |error: CallError| error.spawn("runtime_unavailable", &format!("can't start {}", id.replica));
        let engine = self.link.engine().await.map_err(unavailable)?;
        let what = format!("can't look for containers with the label {}", in_words(label));
        let found = self.labelled(label).await.map_err(|error| error.spawn("create_failed", &what))?;
        let Some((name, known)) = self.claim(id, &found) else {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            let detail = format!(
                "no container with the label {} is left for {}: there are {} ({})",
                in_words(label),
                id.replica,
                found.len(),
                names.join(", "),
            );
            return Err(SpawnError { code: "no_such_container", detail });
        };
        let surroundings = self.surroundings(id, Masker::new(container.secret_env.values().cloned()));
        let record = Record {
            adopted: true,
            container: Some(known.clone()),
            socket: Some(engine.socket),
            ..Record::new(id)
        };
        self.records.save(&record);
        self.enter_outside(launch, &record, &known).await?;
        let now = Timestamp::now();
        let facts = self.inspect(&known).await.map_err(|error| error.spawn("create_failed", &what))?;
        if !facts.is_some_and(|it| it.running) {
            tracing::info!(
                replica = id.replica,
                container = name,
                "a container that somebody else made is started"
            );
            let _permit = self.starts.acquire().await;
            self.run_container(&known, &format!("can't start {name}")).await?;
        }
        // What it wrote before hale came is in its engine; a run that goes on from before is not told twice.
        let started = self.came_up(launch, container, &known, (record, Since::At(now))).await?;
        Ok(Started { surroundings: Some(surroundings), ..started })
    }
}

impl Shared {
    /// The containers of others with this label, by name: names and ids.
    pub(crate) async fn labelled(
        &self,
        label: (&str, Option<&str>),
    ) -> Result<Vec<(String, String)>, CallError> {
        let filter = HashMap::from([("label".to_owned(), vec![in_words(label)])]);
        let listed = self.link.call(CALL, |docker| async move {
            let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
            docker.list_containers(Some(options)).await
        });
        Ok(named(listed.await?))
    }

    /// Which of these a replica takes: the one it had before, else the one that stands where it does in the order of
    /// names, else the first that no other has. Never one that another runs.
    fn claim(&self, id: &InstanceId, found: &[(String, String)]) -> Option<(String, String)> {
        let ordinal: usize = id.replica.rsplit_once('-').and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.table.all();
        let runs = |it: &str| {
            live.iter().any(|(other, live)| {
                other.replica != id.replica && live.container.as_deref() == Some(it) && live.adopted
            })
        };
        let before = claims.get(&id.replica).cloned();
        let claimed = |it: &str| claims.iter().any(|(other, of)| *other != id.replica && of == it);
        let chosen = found
            .iter()
            .find(|(_, it)| before.as_ref() == Some(it) && !runs(it))
            .or_else(|| found.get(ordinal).filter(|(_, it)| !runs(it) && !claimed(it)))
            .or_else(|| found.iter().find(|(_, it)| !runs(it) && !claimed(it)))
            // Of one that is between two runs, or is a replica no more.
            .or_else(|| found.iter().find(|(_, it)| !runs(it)))
            .cloned()?;
        claims.retain(|_, of| *of != chosen.1);
        if claims.insert(id.replica.clone(), chosen.1.clone()).as_ref() != Some(&chosen.1) {
            self.say(id, &format!("supervises the container {}", chosen.0));
        }
        // Known as its own before the lock is let go of: two starts at once never take the same.
        self.table.name(id, &chosen.1);
        Some(chosen)
    }

    /// A replica has this container, as an earlier agent noted.
    pub(crate) fn claimed(&self, id: &InstanceId, container: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.insert(id.replica.clone(), container.to_owned());
    }

    /// A replica lets its container be.
    pub(crate) fn unclaim(&self, id: &InstanceId) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&id.replica);
    }
}

/// As engines take it in filters, and people read it.
fn in_words((label, value): (&str, Option<&str>)) -> String {
    value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"))
}

/// Names and ids in the order of names, without those that hale made itself.
fn named(found: Vec<ContainerSummary>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = found
        .into_iter()
        .filter(|it| it.labels.as_ref().is_none_or(|labels| !labels.contains_key(labels::OWNER)))
        // One that never ran is still being made, by whoever makes it; one on its way out is none any more.
        .filter(|it| !it.state.is_some_and(|it| matches!(it.as_ref(), "created" | "removing" | "dead")))
        .filter_map(|it| {
            let name = it.names.iter().flatten().next().map(|it| it.trim_start_matches('/').to_owned());
            Some((name.unwrap_or_default(), it.id?))
        })
        .collect();
    all.sort();
    all
}
