//! How hale itself is (N11, O1).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use hale_api::Code;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::{api::Api, problems::Refusal};

/// This process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// The database can be read and written, and the runtime answers.
pub(crate) async fn readyz(State(api): State<Api>) -> Response {
    let database = api.parts.store.check().await.map_err(|error| error.to_string());
    let runtime = api.parts.control.check().await;
    let status =
        if database.is_ok() && runtime.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let check = |result: Result<(), String>| match result {
        Ok(()) => json!({"ok": true}),
        Err(detail) => json!({"ok": false, "detail": detail}),
    };
    let body = json!({
        "ready": status == StatusCode::OK,
        "checks": {"database": check(database), "runtime": check(runtime)},
    });
    (status, Json(body)).into_response()
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
