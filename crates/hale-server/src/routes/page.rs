//! The status page: a shell without data, in the binary. Its script asks the API, with a token of its own.

use std::sync::LazyLock;

use axum::{
    Json,
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};

use crate::problems::{Answer, Refusal};

const INDEX: &str = include_str!("../../page/index.html");
const STYLE: &str = include_str!("../../page/style.css");
const SCRIPT: &str = include_str!("../../page/app.js");
const API: &str = include_str!("../../page/api.html");
const API_SCRIPT: &str = include_str!("../../page/api.js");

/// Only what this page brings along is loaded, run and asked; nobody else frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) async fn index() -> Response {
    file("text/html; charset=utf-8", INDEX)
}

pub(crate) async fn api() -> Response {
    file("text/html; charset=utf-8", API)
}

pub(crate) async fn openapi() -> Json<&'static serde_json::Value> {
    static DOCUMENT: LazyLock<serde_json::Value> = LazyLock::new(crate::openapi::openapi);
    Json(&DOCUMENT)
}

pub(crate) async fn asset(Path(name): Path<String>) -> Answer<Response> {
    match name.as_str() {
        "style.css" => Ok(file("text/css; charset=utf-8", STYLE)),
        "app.js" => Ok(file("text/javascript; charset=utf-8", SCRIPT)),
        "api.js" => Ok(file("text/javascript; charset=utf-8", API_SCRIPT)),
        _ => Err(Refusal::not_found("file", &name)),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response =
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
