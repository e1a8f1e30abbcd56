//! Errors as answers (S23).

use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    response::{IntoResponse, Response},
};
use hale_api::{
    Code, Problem,
    problem::{self, Mistake},
};
use hale_model::file::FileError;
use hale_store::{StoreError, cluster::WriteError};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::de::DeserializeOwned;

use crate::{cluster::desired::DesiredError, control::OrderError};

/// The largest body of a request (S25).
const MAX_BODY: usize = 1 << 20;

/// The most mistakes that one answer tells.
const MOST_MISTAKES: usize = 100;

/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) problem: Problem,
}

pub(crate) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after = (code == Code::Unavailable).then_some(Duration::from_secs(1));
        Self { problem: Problem { retry_after, ..Problem::new(code, detail) } }
    }

    /// Asked too often; again after so many seconds.
    pub(crate) fn too_often(seconds: u64) -> Self {
        let detail = format!("too many requests with this token; try again in {seconds} s");
        let retry_after = Some(Duration::from_secs(seconds));
        Self { problem: Problem { retry_after, ..Problem::new(Code::TooManyRequests, detail) } }
    }

    /// A declaration is wrong: every mistake, with its place.
    pub(crate) fn invalid(errors: &[FileError]) -> Self {
        let count = errors.len();
        let detail = format!("{count} mistake{} found", if count == 1 { "" } else { "s" });
        let mut refusal = Self::new(Code::InvalidDocument, detail);
        let mistake = |it: &FileError| Mistake {
            place: it.place(),
            message: it.message.clone(),
            help: it.help.clone(),
        };
        refusal.problem.errors = errors.iter().take(MOST_MISTAKES).map(mistake).collect();
        refusal
    }

    pub(crate) fn not_found(kind: &str, name: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {kind} {name:?}; {}", where_to_look(kind)))
    }
}

/// The command that lists what there is of a kind.
pub(crate) fn where_to_look(kind: &str) -> &'static str {
    match kind {
        "node" => "`hale get nodes` lists what there is",
        "token" => "`hale token list` lists what there is",
        "service" => "`hale get services` lists what there is",
        "stack" => "`hale get stacks` lists what there is",
        "deployment object" => "`hale get deployments` lists what there is",
        "agent" => "`hale get agents` lists those that have registered",
        _ => "`hale status` lists what there is",
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
        if self.problem.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"hale\""));
        }
        if let Some(wait) = self.problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a request could not be answered");
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<WriteError> for Refusal {
    fn from(error: WriteError) -> Self {
        let code = match error {
            WriteError::Conflict { .. } => Code::Conflict,
            _ => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<DesiredError> for Refusal {
    fn from(error: DesiredError) -> Self {
        match error {
            DesiredError::Invalid(errors) => Self::invalid(&errors),
            DesiredError::NotFound { kind, name } => Self::not_found(kind, &name),
            DesiredError::Refused(detail) => Self::new(Code::NotApplicable, detail),
            DesiredError::Unavailable(detail) => Self::new(Code::Unavailable, detail),
        }
    }
}

impl From<OrderError> for Refusal {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::NotFound(detail) => Self::new(Code::NotFound, detail),
            OrderError::NotApplicable(detail) => Self::new(Code::NotApplicable, detail),
            OrderError::Unavailable(detail) => Self::new(Code::Unavailable, detail),
        }
    }
}

/// The parameters of a query.
pub(crate) fn query<T: DeserializeOwned>(uri: &Uri) -> Answer<T> {
    axum::extract::Query::<T>::try_from_uri(uri)
        .map(|it| it.0)
        .map_err(|error| Refusal::new(Code::BadRequest, innermost(&error)))
}

/// Whether a body says that it is JSON.
pub(crate) fn is_json(headers: &http::HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).is_some_and(|it| {
        it.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case("application/json"))
    })
}

/// A JSON text.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body).map_err(|error| Refusal::new(Code::BadRequest, error.to_string()))
}

/// The body of a request that says nothing without one: JSON.
pub(crate) async fn required_json<T: DeserializeOwned>(request: Request) -> Answer<T> {
    if !is_json(request.headers()) {
        return Err(Refusal::new(Code::UnsupportedMediaType, "send it with Content-Type: application/json"));
    }
    parse(&read(request.into_body()).await?)
}

/// The body of a request: JSON, or nothing at all where everything may be left out.
pub(crate) async fn json<T: DeserializeOwned + Default>(request: Request) -> Answer<T> {
    let is_json = is_json(request.headers());
    let body = read(request.into_body()).await?;
    if body.is_empty() {
        return Ok(T::default());
    }
    if !is_json {
        return Err(Refusal::new(Code::UnsupportedMediaType, "send it with Content-Type: application/json"));
    }
    parse(&body)
}

pub(crate) async fn read(body: Body) -> Answer<bytes::Bytes> {
    read_at_most(body, MAX_BODY).await
}

/// A body of at most so many bytes.
pub(crate) async fn read_at_most(body: Body, most: usize) -> Answer<bytes::Bytes> {
    match tokio::time::timeout(BODY_TIME, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if innermost(&error).contains("length limit") => {
            Err(Refusal::new(Code::BodyTooLarge, format!("at most {most} bytes are taken")))
        }
        Ok(Err(error)) => Err(Refusal::new(Code::BadRequest, innermost(&error))),
        Err(_) => {
            Err(Refusal::new(Code::RequestTimeout, format!("the body did not come within {BODY_TIME:?}")))
        }
    }
}

/// The last of a chain of errors: the one that says what was wrong.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
