//! What every request passes first: who asks, whether they may, and how often (S25).

use std::{num::NonZeroU32, sync::Arc};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use hale_api::Code;

use crate::{Denied, TokenSet, access::Access, idempotency::Answers, problems::Refusal};

/// Who is let in, how often, and what they were answered. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

pub(crate) struct Shared {
    tokens: TokenSet,
    rates: DefaultKeyedRateLimiter<String>,
    pub(crate) answers: Answers,
}

impl std::ops::Deref for Gate {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// How many requests of one token are answered a second, after as many as the burst; more are told to wait (S25). Far
/// above what people, pages and scripts ask: it bounds what one that runs wild costs the others.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// See [`PER_SECOND`].
const BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();

impl Gate {
    /// Lets in who bears one of these tokens.
    pub(crate) fn new(tokens: TokenSet) -> Self {
        let rates = RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(BURST));
        Self(Arc::new(Shared { tokens, rates, answers: Answers::default() }))
    }
}

/// Lets through whoever bears a token that is taken now, of a role that may, and not too often.
pub(crate) async fn authorize(
    State((gate, access)): State<(Gate, Access)>,
    mut request: Request,
    next: Next,
) -> Response {
    if access == Access::Open {
        return next.run(request).await;
    }
    let caller = match gate.tokens.caller(request.headers()) {
        Ok(caller) => caller,
        Err(denied) => return Refusal::new(Code::Unauthorized, denied.to_string()).into_response(),
    };
    if !access.allows(caller.role) {
        let detail =
            format!("a token of role {} can't do this; {} can", caller.role.as_str(), access.needs());
        return Refusal::new(Code::Forbidden, detail).into_response();
    }
    if let Err(wait) = gate.rates.check_key(&caller.token) {
        let seconds = wait.wait_time_from(DefaultClock::default().now()).as_secs() + 1;
        return Refusal::too_often(seconds).into_response();
    }
    request.extensions_mut().insert(caller.clone());
    let (tokens, reads) = (gate.tokens.clone(), request.method().is_safe());
    let ended = async move { tokens.ended(&caller).await };
    let mut ended = Box::pin(ended);
    let answer = next.run(request);
    // A question that is held long is not answered to who may not ask any more; what changes something is not broken
    // off in the middle.
    let response = if reads {
        tokio::select! {
            response = answer => response,
            () = &mut ended => return Refusal::new(Code::Unauthorized, Denied::Unknown.to_string()).into_response(),
        }
    } else {
        answer.await
    };
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    // A stream: it is cut when the token ends.
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(ended)))
}
