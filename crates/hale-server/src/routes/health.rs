//! How hale itself is (N11, O1).

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use hale_api::Code;
use http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{api::Api, problems::Refusal};

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
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    match (api.parts.metrics)(accept) {
        Ok((kind, text)) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(detail) => {
            tracing::error!(%detail, "the metrics can't be told");
            Refusal::new(Code::Internal, format!("the metrics can't be told: {detail}")).into_response()
        }
    }
}
