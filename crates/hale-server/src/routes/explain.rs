//! Why a thing is as it is.

use axum::{
    Json,
    extract::{Path, State},
};
use hale_api::{
    events::EventQuery,
    explain::{Explanation, SubjectKind},
};
use hale_model::{
    event::Event,
    status::{Overview, ReplicaStatus},
};
use std::sync::Arc;

use crate::{
    api::Api,
    explain::{Evidence, replica, target, vanished, workload},
    problems::{Answer, Refusal},
};

/// How many events of a subject the chain is made of.
const EVENTS: usize = 100;

pub(crate) async fn explain(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<Explanation>> {
    let overview = api.parts.control.overview().await?;
    let at = overview.at;
    if let Some(it) = overview.workloads.iter().find(|it| it.name == name) {
        let own = evidence(&api, &name, Some("dev.hale.workload.applied")).await?;
        let mut replicas = Vec::new();
        for status in &it.replicas {
            replicas.push(explained(&api, status, at).await?);
        }
        let mut explanation = workload(it, &own, replicas, at);
        explanation.placement = api.parts.control.placement(&name).await?;
        return Ok(Json(explanation));
    }
    if let Some(it) = overview.workloads.iter().flat_map(|it| &it.replicas).find(|it| it.name == name) {
        let mut explanation = explained(&api, it, at).await?;
        explanation.placement = api.parts.control.placement(&name).await?;
        return Ok(Json(explanation));
    }
    let evidence = evidence(&api, &name, None).await?;
    if let Some(it) = overview.targets.iter().find(|it| it.name == name) {
        return Ok(Json(target(it, &evidence, at)));
    }
    if evidence.events.is_empty() {
        return Err(unknown(&name));
    }
    Ok(Json(vanished(&name, &evidence, at)))
}

async fn explained(api: &Api, status: &ReplicaStatus, at: jiff::Timestamp) -> Answer<Explanation> {
    Ok(replica(status, &evidence(api, &status.name, None).await?, at))
}

async fn evidence(api: &Api, name: &str, kind: Option<&str>) -> Answer<Evidence> {
    let query = EventQuery {
        subject: Some(name.to_owned()),
        kind: kind.map(str::to_owned),
        newest: true,
        ..EventQuery::default()
    };
    let (events, _) = api.parts.store.events(&query, EVENTS).await?;
    let cut = events.len() == EVENTS;
    let events: Vec<Arc<Event>> = events.into_iter().filter(|it| it.subject == name).collect();
    Ok(Evidence { events, cut, history: api.parts.control.history(name).await? })
}

fn unknown(name: &str) -> Refusal {
    Refusal::not_found("workload, replica or target", name)
}

/// What a name means, and the replicas it stands for.
pub(crate) fn find(overview: &Overview, name: &str) -> Answer<(SubjectKind, Vec<String>)> {
    if let Some(workload) = overview.workloads.iter().find(|it| it.name == name) {
        return Ok((SubjectKind::Workload, workload.replicas.iter().map(|it| it.name.clone()).collect()));
    }
    if overview.workloads.iter().flat_map(|it| &it.replicas).any(|it| it.name == name) {
        return Ok((SubjectKind::Replica, vec![name.to_owned()]));
    }
    if overview.targets.iter().any(|it| it.name == name) {
        return Ok((SubjectKind::Target, Vec::new()));
    }
    Err(unknown(name))
}
