//! `/probe`: one check, now, for a scraper (O1). What it makes checks with is the node's; here is who may ask.

use axum::extract::{RawQuery, State};
use hale_api::Code;
use http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{api::Api, problems::Refusal};

/// What is to be asked, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[expect(dead_code, reason = "describes the parameters; whoever makes the check reads them")]
pub(crate) struct ProbeQuery {
    /// Whom to ask: a URL, or host:port.
    target: String,
    /// How: a module's name, as `http_2xx` or `tcp_connect`. Default: `http_2xx`.
    #[serde(default)]
    module: Option<String>,
}

type Answer = (StatusCode, [(header::HeaderName, &'static str); 1], String);

/// Makes a check for a scraper.
pub(crate) async fn probe(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Answer, Refusal> {
    let Some(probing) = &api.parts.probing else {
        let why = "no checks are made for scrapers here: `hale up --probe-endpoint` has them made";
        return Err(Refusal::new(Code::NotFound, why));
    };
    let (status, text) = probing(query.unwrap_or_default(), headers).await;
    if status != StatusCode::OK {
        let code = match status {
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::FORBIDDEN => Code::Forbidden,
            _ => Code::BadRequest,
        };
        return Err(Refusal::new(code, text.trim_end()));
    }
    Ok((status, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
