//! Containers that somebody else made: found by a label, probed and restarted, never made or removed.

use std::{collections::HashMap, sync::Arc};

use bollard::{models::ContainerSummary, query_parameters::ListContainersOptionsBuilder};
use hale_model::spec::Container;
use hale_supervisor::{
    process::Masker,
    runtime::{Launch, SpawnError, Started},
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
        (label, value): (&str, Option<&str>),
    ) -> Result<Started, SpawnError> {
        let id = &launch.id;
        self.table.with(id, |live| live.adopted = true);
        let wanted = value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"));
        let filter = HashMap::from([("label".to_owned(), vec![wanted.clone()])]);
        let unavailable =
            |error: CallError| error.spawn("runtime_unavailable", &format!("can't start {}", id.replica));
        let engine = self.link.engine().await.map_err(unavailable)?;
        let listed = self.link.call(CALL, |docker| async move {
            let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
            docker.list_containers(Some(options)).await
        });
        let what = format!("can't look for containers with the label {wanted}");
        let found = named(listed.await.map_err(|error| error.spawn("create_failed", &what))?);
        let ordinal: usize = id.replica.rsplit_once('-').and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
        let Some((name, known)) = found.get(ordinal) else {
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            let detail = format!(
                "{} containers have the label {wanted} ({}), and {} would be number {}",
                found.len(),
                names.join(", "),
                id.replica,
                ordinal + 1,
            );
            return Err(SpawnError { code: "no_such_container", detail });
        };
        self.table.name(id, known);
        let surroundings = self.surroundings(id, Masker::new(container.secret_env.values().cloned()));
        let record = Record {
            adopted: true,
            container: Some(known.clone()),
            socket: Some(engine.socket),
            ..Record::new(id)
        };
        self.records.save(&record);
        self.enter_outside(launch, &record, known).await?;
        let now = Timestamp::now();
        let facts = self.inspect(known).await.map_err(|error| error.spawn("create_failed", &what))?;
        if !facts.is_some_and(|it| it.running) {
            tracing::info!(
                replica = id.replica,
                container = name,
                "a container that somebody else made is started"
            );
            let _permit = self.starts.acquire().await;
            self.run_container(known, &format!("can't start {name}")).await?;
        }
        // What it wrote before hale came is in its engine; a run that goes on from before is not told twice.
        let started = self.came_up(launch, container, known, (record, Since::At(now))).await?;
        Ok(Started { surroundings: Some(surroundings), ..started })
    }
}

/// Names and ids in the order of names, without those that hale made itself.
fn named(found: Vec<ContainerSummary>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = found
        .into_iter()
        .filter(|it| it.labels.as_ref().is_none_or(|labels| !labels.contains_key(labels::OWNER)))
        .filter_map(|it| {
            let name = it.names.iter().flatten().next().map(|it| it.trim_start_matches('/').to_owned());
            Some((name.unwrap_or_default(), it.id?))
        })
        .collect();
    all.sort();
    all
}
