//! How hale itself is (N11, O1).

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use hale_api::Code;
use http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Metrics, api::Api, problems::Refusal};

/// This process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Readiness {
    /// Whether all is well.
    ready: bool,
    /// By the name of what was looked at: `database`, `runtime`.
    checks: BTreeMap<&'static str, Check>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Check {
    ok: bool,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// The database can be read and written, and the runtime answers.
pub(crate) async fn readyz(State(api): State<Api>) -> Response {
    let database = api.parts.store.check().await.map_err(|error| error.to_string());
    let runtime = api.parts.control.check().await;
    let ready = database.is_ok() && runtime.is_ok();
    let check = |result: Result<(), String>| Check { ok: result.is_ok(), detail: result.err() };
    let checks = BTreeMap::from([("database", check(database)), ("runtime", check(runtime))]);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, checks })).into_response()
}

pub(crate) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    told(&api.parts.metrics, &headers)
}

/// The metrics alone, without a token, for an address of their own (S25: `--metrics-listen`).
pub fn metrics_alone(metrics: Metrics) -> Router {
    Router::new()
        .route("/metrics", get(move |headers: HeaderMap| std::future::ready(told(&metrics, &headers))))
        .route("/healthz", get(healthz))
}

fn told(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    match metrics(accept) {
        Ok((kind, text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(detail) => {
            tracing::error!(%detail, "the metrics can't be told");
            Refusal::new(Code::Internal, format!("the metrics can't be told: {detail}")).into_response()
        }
    }
}
