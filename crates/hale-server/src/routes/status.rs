//! How everything is.

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use hale_model::status::{Overview, ReplicaStatus, TargetStatus, WorkloadStatus};
use http::Uri;

use crate::{
    api::Api,
    list,
    problems::{Answer, Refusal},
};

pub(crate) async fn overview(State(api): State<Api>) -> Answer<Json<Overview>> {
    Ok(Json(api.parts.control.overview().await?))
}

pub(crate) async fn workloads(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    list::piece(&uri, api.parts.control.overview().await?.workloads, |it| &it.name)
}

pub(crate) async fn workload(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Answer<Json<WorkloadStatus>> {
    let workload = api.parts.control.workload(&name).await?;
    workload.map(Json).ok_or_else(|| Refusal::not_found("workload", &name))
}

pub(crate) async fn replicas(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    let overview = api.parts.control.overview().await?;
    list::piece(&uri, overview.workloads.into_iter().flat_map(|it| it.replicas).collect(), |it| &it.name)
}

pub(crate) async fn replica(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<ReplicaStatus>> {
    let overview = api.parts.control.overview().await?;
    let replica = overview.workloads.into_iter().flat_map(|it| it.replicas).find(|it| it.name == name);
    replica.map(Json).ok_or_else(|| Refusal::not_found("replica", &name))
}

pub(crate) async fn targets(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    list::piece(&uri, api.parts.control.overview().await?.targets, |it| &it.name)
}

pub(crate) async fn target(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<TargetStatus>> {
    let overview = api.parts.control.overview().await?;
    let target = overview.targets.into_iter().find(|it| it.name == name);
    target.map(Json).ok_or_else(|| Refusal::not_found("target", &name))
}

pub(crate) async fn nodes(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    list::piece(&uri, api.parts.control.overview().await?.nodes, |it| &it.name)
}
