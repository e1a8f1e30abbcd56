//! One request of a sender: is it allowed, what does it say, was it taken.

use std::time::Duration;

use bytes::Bytes;
use hale_model::spec::WebhookSource;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use ring::hmac;
use subtle::ConstantTimeEq;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    super::{Taken, What, connect::Voice, http::token},
    MAX_ALERTS,
    forms::{self, Form},
    host,
};

/// The most bytes of a body.
const MAX_BODY: usize = 1 << 20;

/// How long a sender may take over its body.
const BODY: Duration = Duration::from_secs(10);

/// How long the driver may take over what one request brings.
const TAKE: Duration = Duration::from_secs(20);

/// When to come again after a 429 or 503, in seconds.
const AGAIN: &str = "30";

/// The headers that carry `sha256=` and the HMAC of the body in hex.
const SIGNATURES: [&str; 2] = ["x-hub-signature-256", "x-hale-signature"];

/// Takes requests of one webhook.
pub(super) struct Receiver {
    source: WebhookSource,
    voice: Voice,
    end: CancellationToken,
}

/// An answer other than 202.
type Refusal = (StatusCode, String);

impl Receiver {
    pub(super) const fn new(source: WebhookSource, voice: Voice, end: CancellationToken) -> Self {
        Self { source, voice, end }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let ending = || (StatusCode::SERVICE_UNAVAILABLE, "the responder is ending".to_owned());
        let answer = self.end.run_until_cancelled(self.take(request)).await;
        let (status, text) = match answer.unwrap_or_else(|| Err(ending())) {
            Ok(count) => (StatusCode::ACCEPTED, format!("{count} taken")),
            Err(refusal) => refusal,
        };
        let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(AGAIN));
            }
            _ => {}
        }
        response
    }

    async fn take(&self, request: Request<Incoming>) -> Result<usize, Refusal> {
        let (head, body) = request.into_parts();
        // Nothing else keeps a page in a browser here from calling it by a name of its own.
        if self.is_open() && !host::is_local(&head.headers) {
            let why = "without a token only localhost is answered: call it by 127.0.0.1, or set tokenFile or hmacFile";
            return Err((StatusCode::FORBIDDEN, why.to_owned()));
        }
        if head.uri.path() != self.source.path {
            return Err((StatusCode::NOT_FOUND, format!("alerts are taken at {}", self.source.path)));
        }
        if head.method != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "alerts are sent with POST".to_owned()));
        }
        self.check_token(&head.headers).await?;
        let form = Form::of(&head.headers).ok_or_else(|| {
            (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "application/json or CloudEvents as JSON are taken".to_owned(),
            )
        })?;
        let body = read(body).await?;
        self.check_signature(&head.headers, &body).await?;
        let heard = match forms::read(form, &head.headers, &body) {
            Ok(heard) => heard,
            Err(error) => {
                self.voice.hear(What::Unreadable(error.clone()), None).await;
                return Err((StatusCode::BAD_REQUEST, error));
            }
        };
        if heard.len() > MAX_ALERTS {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("more than {MAX_ALERTS} alerts at once")));
        }
        let busy = |_| (StatusCode::SERVICE_UNAVAILABLE, "the responder is busy".to_owned());
        timeout(TAKE, self.hand_over(heard)).await.map_err(busy)?
    }

    /// Whether anyone on this machine is let in.
    const fn is_open(&self) -> bool {
        self.source.token_file.is_none() && self.source.hmac_file.is_none()
    }

    /// Hands all over, and then waits for all: the driver may write them in one go.
    async fn hand_over(&self, heard: Vec<What>) -> Result<usize, Refusal> {
        let count = heard.len();
        let mut answers = Vec::with_capacity(count);
        for what in heard {
            answers.push(self.voice.ask(what).await);
        }
        let (mut full, mut invalid, mut first) = (0, 0, None);
        for answer in answers {
            match answer.await {
                Ok(Taken::Yes) => {}
                Ok(Taken::Full) => full += 1,
                Ok(Taken::Invalid(why)) => {
                    invalid += 1;
                    first.get_or_insert(why);
                }
                Err(_) => {
                    return Err((StatusCode::SERVICE_UNAVAILABLE, "the responder is ending".to_owned()));
                }
            }
        }
        match (full, invalid) {
            (0, 0) => Ok(count),
            (0, invalid) => {
                let why = first.map(|it| format!(": {it}")).unwrap_or_default();
                Err((StatusCode::BAD_REQUEST, format!("{invalid} of {count} are no valid alerts{why}")))
            }
            (full, _) => {
                Err((StatusCode::TOO_MANY_REQUESTS, format!("the queue is full: {full} of {count} refused")))
            }
        }
    }

    async fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(file) = &self.source.token_file else { return Ok(()) };
        let expected = token(file).await.map_err(|failure| unusable(&failure.error))?;
        let shown = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let (scheme, shown) = shown.split_at(shown.len().min(7));
        let is_right =
            scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(shown.ct_eq(expected.as_bytes()));
        if is_right {
            Ok(())
        } else {
            Err((StatusCode::UNAUTHORIZED, "the token is missing or wrong".to_owned()))
        }
    }

    async fn check_signature(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
        let Some(file) = &self.source.hmac_file else { return Ok(()) };
        let key = token(file).await.map_err(|failure| unusable(&failure.error))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let shown = SIGNATURES.iter().find_map(|name| headers.get(*name)).and_then(|it| it.to_str().ok());
        let shown = shown.and_then(|it| it.strip_prefix("sha256=")).and_then(from_hex);
        let is_right = shown.is_some_and(|shown| hmac::verify(&key, body, &shown).is_ok());
        if is_right {
            Ok(())
        } else {
            Err((StatusCode::UNAUTHORIZED, "the signature is missing or wrong".to_owned()))
        }
    }
}

/// A file that can't be read lets nobody in; the sender is not told why.
fn unusable(error: &str) -> Refusal {
    tracing::error!(error, "nobody can be let in");
    (StatusCode::SERVICE_UNAVAILABLE, "senders can't be checked now".to_owned())
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let late = |_| (StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY:?}"));
    match timeout(BODY, Limited::new(body, MAX_BODY).collect()).await.map_err(late)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, format!("a body has {MAX_BODY} bytes at most")))
        }
        Err(error) => Err((StatusCode::BAD_REQUEST, format!("the body broke off: {error}"))),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() {
        return None;
    }
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.filter(|it| it.len() == 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_and_nothing_else() {
        assert_eq!(from_hex("00ffA0"), Some(vec![0, 255, 160]));
        assert_eq!(from_hex(""), Some(vec![]));
        for wrong in ["0", "0g", "äö", "000"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
