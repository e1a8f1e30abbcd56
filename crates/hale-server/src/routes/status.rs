//! How everything is.

use axum::{
    Json,
    extract::{Path, State},
};
use hale_model::status::{NodeStatus, Overview, ReplicaStatus, TargetStatus, WorkloadStatus};

use crate::{
    api::Api,
    problems::{Answer, Refusal},
};

pub(crate) async fn overview(State(api): State<Api>) -> Answer<Json<Overview>> {
    Ok(Json(api.parts.control.overview().await?))
}

pub(crate) async fn workloads(State(api): State<Api>) -> Answer<Json<Vec<WorkloadStatus>>> {
    Ok(Json(api.parts.control.overview().await?.workloads))
}

pub(crate) async fn workload(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Answer<Json<WorkloadStatus>> {
    let workload = api.parts.control.workload(&name).await?;
    workload.map(Json).ok_or_else(|| Refusal::not_found("workload", &name))
}

pub(crate) async fn replicas(State(api): State<Api>) -> Answer<Json<Vec<ReplicaStatus>>> {
    let overview = api.parts.control.overview().await?;
    Ok(Json(overview.workloads.into_iter().flat_map(|it| it.replicas).collect()))
}

pub(crate) async fn replica(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<ReplicaStatus>> {
    let overview = api.parts.control.overview().await?;
    let replica = overview.workloads.into_iter().flat_map(|it| it.replicas).find(|it| it.name == name);
    replica.map(Json).ok_or_else(|| Refusal::not_found("replica", &name))
}

pub(crate) async fn targets(State(api): State<Api>) -> Answer<Json<Vec<TargetStatus>>> {
    Ok(Json(api.parts.control.overview().await?.targets))
}

pub(crate) async fn target(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<TargetStatus>> {
    let overview = api.parts.control.overview().await?;
    let target = overview.targets.into_iter().find(|it| it.name == name);
    target.map(Json).ok_or_else(|| Refusal::not_found("target", &name))
}

pub(crate) async fn nodes(State(api): State<Api>) -> Answer<Json<Vec<NodeStatus>>> {
    Ok(Json(api.parts.control.overview().await?.nodes))
}
