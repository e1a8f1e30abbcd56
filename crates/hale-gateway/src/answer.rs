//! What the gateway answers itself: refusals, each with a status, a stable code and a body that says why (S19).

use bytes::Bytes;
use http::{
    HeaderMap, Response, StatusCode,
    header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use jiff::Timestamp;

use crate::{
    body::{Outgoing, UploadFault},
    metrics::InFlight,
};

/// Why a request is not answered by an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request is malformed or ambiguous; the connection is closed, for what follows can't be trusted.
    BadRequest(&'static str),
    /// `CONNECT` asks for a tunnel; this is no such proxy.
    Method,
    /// Something of the protocol that is not offered here.
    NotImplemented(&'static str),
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// The body of the request is at fault.
    Upload(UploadFault),
    /// No endpoint is ready.
    NoEndpoint(Option<Timestamp>),
    /// No connection to any endpoint could be made; nothing was sent.
    Unreachable(String),
    /// An endpoint broke off before its response, and the request may not be sent again.
    Broken(String),
    /// An endpoint did not answer in time.
    NoAnswer,
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Upload(UploadFault::Broken) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Upload(UploadFault::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Upload(UploadFault::Stalled) => StatusCode::REQUEST_TIMEOUT,
            Self::NoEndpoint(_) | Self::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_GATEWAY,
            Self::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A word for it that does not change.
    const fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Method => "method_not_allowed",
            Self::NotImplemented(_) => "not_implemented",
            Self::Expectation => "expectation_failed",
            Self::Upload(UploadFault::TooLarge) => "body_too_large",
            Self::Upload(UploadFault::Stalled) => "body_stalled",
            Self::Upload(UploadFault::Broken) => "body_broken",
            Self::NoEndpoint(_) => "no_endpoint",
            Self::Unreachable(_) => "endpoint_unreachable",
            Self::Broken(_) => "endpoint_broke_off",
            Self::NoAnswer => "endpoint_timeout",
        }
    }

    /// Whether what follows on the connection can't be trusted, or would have to be read for nothing.
    const fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::Method
                | Self::NotImplemented(_)
                | Self::Expectation
                | Self::Upload(_)
        )
    }

    fn detail(&self, service: &str) -> String {
        match self {
            Self::BadRequest(why) | Self::NotImplemented(why) => (*why).to_owned(),
            Self::Method => "CONNECT is not offered here".to_owned(),
            Self::Expectation => "only `Expect: 100-continue` is understood".to_owned(),
            Self::Upload(fault) => fault.to_string(),
            Self::NoEndpoint(Some(since)) => {
                format!("service {service} has had no ready endpoint since {since}")
            }
            Self::NoEndpoint(None) => format!("service {service} has no ready endpoint"),
            Self::Unreachable(why) => format!("no endpoint of service {service} could be reached: {why}"),
            Self::Broken(why) => format!(
                "an endpoint of service {service} broke off before it answered ({why}); \
                 the request may have been carried out and was not sent again"
            ),
            Self::NoAnswer => format!("an endpoint of service {service} did not answer in time"),
        }
    }

    /// The answer: problem details in JSON (RFC 9457), or a line of text for a client that prefers it.
    pub(crate) fn into_response(self, service: &str, accept: Wants, counted: InFlight) -> Response<Outgoing> {
        let (status, detail) = (self.status(), self.detail(service));
        let (kind, body) = match accept {
            Wants::Text => ("text/plain; charset=utf-8", format!("{detail}\n")),
            Wants::Json => ("application/problem+json", self.problem(service, &detail)),
        };
        let mut response = Response::new(Outgoing::whole(Bytes::from(body), counted));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(
                ALLOW,
                HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE"),
            );
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn problem(&self, service: &str, detail: &str) -> String {
        let status = self.status();
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "code": self.code(),
            "detail": detail,
            "service": service,
        });
        if let Self::NoEndpoint(Some(since)) = self {
            problem["since"] = since.to_string().into();
        }
        problem.to_string()
    }
}

/// In which form a client likes to read a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    /// A line of text: a browser.
    Text,
    /// JSON: all others.
    Json,
}

impl Wants {
    /// What the `Accept` header says.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let position = |word: &str| accept.find(word).unwrap_or(usize::MAX);
        if position("text/") < position("json") { Self::Text } else { Self::Json }
    }
}
