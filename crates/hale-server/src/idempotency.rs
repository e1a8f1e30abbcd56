//! Requests that are not done twice: `Idempotency-Key` (S23).
//!
//! Who does not know whether a request arrived sends it again with the same key, and gets the answer of the first. The
//! last thousand answers are kept, for ten minutes, by the server that gave them; each token has keys of its own. What
//! failed for the server's fault, or was too much, is not kept: the next try is a first one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hale_api::Code;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    auth::Caller,
    gate::Gate,
    problems::{Refusal, read},
};

/// The header.
const KEY: &str = "idempotency-key";

/// The longest key, in bytes.
const LONGEST: usize = 128;

/// How many answers are kept.
const KEPT: usize = 1000;

/// For how long.
const AGE: Duration = Duration::from_secs(600);

/// Answers that were given.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    slots: HashMap<Name, Slot>,
    order: VecDeque<(Instant, Name)>,
}

/// The token and the key.
type Name = (String, String);

#[derive(Debug, Clone)]
struct Slot {
    /// What was asked: a key is for one request and no other.
    asked: [u8; 32],
    /// Held while it is being done; then the answer.
    answer: Arc<tokio::sync::Mutex<Option<Given>>>,
}

#[derive(Debug, Clone)]
struct Given {
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

/// Does a request with a key once.
pub(crate) async fn once(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get(KEY) else { return next.run(request).await };
    let key = key.to_str().ok().filter(|it| !it.is_empty() && it.len() <= LONGEST).map(str::to_owned);
    let caller = request.extensions().get::<Caller>().cloned();
    let (Some(key), Some(caller)) = (key, caller) else {
        let detail = format!("an Idempotency-Key is visible text of 1 to {LONGEST} bytes");
        return Refusal::new(Code::BadRequest, detail).into_response();
    };
    let (head, body) = request.into_parts();
    let body = match read(body).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let mut asked = Sha256::new();
    for part in [head.method.as_str().as_bytes(), head.uri.to_string().as_bytes(), &body] {
        asked.update((part.len() as u64).to_be_bytes());
        asked.update(part);
    }
    let slot = gate.answers.slot((caller.token, key), asked.finalize().into());
    let Some(slot) = slot else {
        let detail = "this Idempotency-Key was used for another request; use a key of its own for each";
        return Refusal::new(Code::NotApplicable, detail).into_response();
    };
    let request = Request::from_parts(head, Body::from(body));
    // Goes on when the asker has gone: it will ask what came of it.
    let done = tokio::spawn(async move {
        let mut answer = slot.answer.lock().await;
        if let Some(given) = &*answer {
            return given.clone().into_response();
        }
        let (head, body) = next.run(request).await.into_parts();
        let Ok(body) = body.collect().await else {
            return Refusal::new(Code::Internal, "the answer broke off").into_response();
        };
        let body = body.to_bytes();
        if !head.status.is_server_error() && head.status != StatusCode::TOO_MANY_REQUESTS {
            let kind = head.headers.get(header::CONTENT_TYPE).cloned();
            *answer = Some(Given { status: head.status, kind, body: body.clone() });
        }
        Response::from_parts(head, Body::from(body))
    });
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request broke off");
        Refusal::new(Code::Internal, "the request broke off").into_response()
    })
}

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        match self.kind {
            Some(kind) => response.headers_mut().insert(header::CONTENT_TYPE, kind),
            None => response.headers_mut().remove(header::CONTENT_TYPE),
        };
        response
    }
}

impl Answers {
    /// The place of a key's answer; `None` when the key is another request's.
    fn slot(&self, name: Name, asked: [u8; 32]) -> Option<Slot> {
        let now = Instant::now();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while known.order.len() >= KEPT
            || known.order.front().is_some_and(|(at, _)| now.duration_since(*at) > AGE)
        {
            let Some((_, old)) = known.order.pop_front() else { break };
            known.slots.remove(&old);
        }
        if let Some(slot) = known.slots.get(&name) {
            return (slot.asked == asked).then(|| slot.clone());
        }
        let slot = Slot { asked, answer: Arc::default() };
        known.slots.insert(name.clone(), slot.clone());
        known.order.push_back((now, name));
        Some(slot)
    }
}
