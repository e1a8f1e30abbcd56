//! Kubernetes over the API (K13), and who may (K14).
//!
//! An agent's token is good for its own agent: for what that is given, what it told, and what it was asked. About all
//! else it is answered with the same words, whether or not it exists.

mod agents;
mod diagnostics;
mod stacks;

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use hale_api::{Code, kube::MAX_BODY};
use hale_model::cluster::{KubeAgentRecord, Role};
use http::{HeaderValue, header};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    api::Api,
    auth::Caller,
    cluster::snapshot::{Kept, KubeRecords},
    kube::Kube,
    problems::{Answer, Refusal, is_json, parse, read_at_most},
    surface::{Route, Surface},
};

pub(super) fn routes(surface: Surface) -> Surface {
    let surface = stacks::routes(surface);
    let surface = agents::routes(surface);
    diagnostics::routes(surface)
}

/// A route that may be refused as all here.
fn base(it: Route) -> Route {
    it.refuses(&[Code::NotApplicable, Code::Unavailable])
}

/// A route about one thing.
fn one(it: Route) -> Route {
    base(it).refuses(&[Code::NotFound])
}

/// A route that changes one thing.
fn write(it: Route) -> Route {
    one(it).refuses(&[Code::Conflict])
}

fn kube(api: &Api) -> Answer<&Kube> {
    let none = || Refusal::new(Code::NotApplicable, "this hale has nothing to do with Kubernetes");
    api.parts.kube.as_ref().ok_or_else(none)
}

/// What an agent's token is told of everything that is not its own.
fn not_yours() -> Refusal {
    Refusal::new(Code::Forbidden, "an agent's token is good for what is its own")
}

/// The agent that the caller is, where it is one.
fn own<'a>(kube: &'a KubeRecords, caller: &Caller) -> Option<&'a Kept<KubeAgentRecord>> {
    let name = caller.node.as_deref().filter(|_| caller.role == Role::Agent)?;
    kube.agents.get(name)
}

/// The agent of an id or name: of an agent itself only its own.
fn find_agent<'a>(kube: &'a KubeRecords, caller: &Caller, agent: &str) -> Answer<&'a Kept<KubeAgentRecord>> {
    if caller.role != Role::Agent {
        return kube.agent(agent).ok_or_else(|| Refusal::not_found("agent", agent));
    }
    match own(kube, caller) {
        Some(own) if own.id == agent || own.name == agent => Ok(own),
        None if caller.node.as_deref() == Some(agent) => Err(crate::kube::agents::unregistered()),
        _ => Err(not_yours()),
    }
}

/// The body of a request that may be large: JSON.
async fn large_json<T: DeserializeOwned>(request: Request) -> Answer<T> {
    if !is_json(request.headers()) {
        return Err(Refusal::new(Code::UnsupportedMediaType, "send it with Content-Type: application/json"));
    }
    parse(&read_at_most(request.into_body(), MAX_BODY).await?)
}

/// An answer that may be large, without copying it through an extractor.
fn large(value: &impl Serialize) -> Answer<Response> {
    let body = serde_json::to_vec(value).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
    let mut response = Body::from(body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
