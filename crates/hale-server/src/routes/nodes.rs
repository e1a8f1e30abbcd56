//! Nodes: what may be placed on them, and forgetting them (S6).

use axum::{
    Json,
    extract::{Path, Request, State},
};
use hale_api::{
    Code,
    nodes::{NodeRequest, NodeVerb},
};
use hale_model::{cluster::Scheduling, status::NodeStatus};
use http::StatusCode;

use crate::{
    api::Api,
    asker::Asker,
    problems::{Answer, Refusal, json},
};

/// The longest reason, in bytes.
const LONGEST_TEXT: usize = 1024;

pub(crate) async fn node(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<NodeStatus>> {
    let nodes = api.parts.control.overview().await?.nodes;
    let node = nodes.into_iter().find(|it| it.name == name);
    node.map(Json).ok_or_else(|| Refusal::not_found("node", &name))
}

pub(crate) async fn act(
    State(api): State<Api>,
    asker: Asker,
    Path((name, verb)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<NodeStatus>> {
    let found = NodeVerb::ALL.into_iter().find(|it| it.as_str() == verb);
    let verb = found.ok_or_else(|| {
        let detail = format!("{verb:?} can't be asked of a node; there are cordon, drain, uncordon");
        Refusal::new(Code::NotFound, detail)
    })?;
    let asked: NodeRequest = json(request).await?;
    if asked.reason.len() > LONGEST_TEXT {
        return Err(Refusal::new(Code::BadRequest, format!("a reason is at most {LONGEST_TEXT} bytes")));
    }
    let scheduling = match verb {
        NodeVerb::Cordon => Scheduling::Cordoned,
        NodeVerb::Drain => Scheduling::Draining,
        NodeVerb::Uncordon => Scheduling::Open,
    };
    api.cluster()?.schedule(&name, scheduling, &asker.person(&asked.reason)).await?;
    node(State(api), Path(name)).await
}

pub(crate) async fn delete(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    api.cluster()?.delete_node(&name, &asker.person("")).await?;
    Ok(StatusCode::NO_CONTENT)
}
