//! The event stream: pages, or as it happens (S21).

use std::{collections::VecDeque, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use hale_api::{
    Code,
    events::{EventPage, EventQuery, MAX_PAGE, type_matches},
};
use hale_model::event::{Event, EventData};
use http::{HeaderMap, Uri, header};
use tokio::{sync::watch, time::sleep};

use crate::{
    api::Api,
    problems::{Answer, Refusal, query},
    serve::KEEP_ALIVE,
};

/// Events of a page when the asker does not say.
const PAGE: u32 = 100;

/// The most events in one piece of a stream.
const PIECE: usize = 100;

pub(crate) async fn events(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Answer<Response> {
    let mut query: EventQuery = query(&uri)?;
    check(&query)?;
    if wants_stream(&headers) {
        if let Some(id) = headers.get("last-event-id") {
            let id = id.to_str().ok().and_then(|it| it.trim().parse().ok());
            let id = id.ok_or_else(|| Refusal::new(Code::BadRequest, "Last-Event-ID is a decimal number"))?;
            query.after = Some(id);
        }
        return Ok(stream_of(&api, query));
    }
    page(&api, query).await.map(|page| Json(page).into_response())
}

fn check(query: &EventQuery) -> Answer<()> {
    for word in query.kind.iter().flat_map(|it| it.split(',')) {
        if !EventData::TYPES.iter().any(|kind| type_matches(word, kind)) {
            let known: Vec<&str> =
                EventData::TYPES.iter().filter_map(|it| it.strip_prefix("dev.hale.")).collect();
            let detail = format!("no event has the type {word:?}; there are {}", known.join(", "));
            return Err(Refusal::new(Code::BadRequest, detail));
        }
    }
    if query.limit.is_some_and(|it| it == 0 || it > MAX_PAGE) {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MAX_PAGE}")));
    }
    Ok(())
}

pub(crate) fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    accept.is_some_and(|it| it.contains("text/event-stream"))
}

async fn page(api: &Api, query: EventQuery) -> Answer<EventPage> {
    let limit = query.limit.unwrap_or(PAGE) as usize;
    let latest = api.parts.store.latest();
    let (events, seen) = api.parts.store.events(&query, limit).await?;
    let next = (seen < latest && !query.newest).then_some(seen);
    Ok(EventPage { events: events.iter().map(|it| Event::clone(it)).collect(), next, latest })
}

/// A follower: asks for more whenever it has been taken what it had, and for nothing while it has not.
struct Follower {
    api: Api,
    query: EventQuery,
    latest: watch::Receiver<u64>,
    pieces: VecDeque<Bytes>,
}

fn stream_of(api: &Api, mut query: EventQuery) -> Response {
    let latest = api.parts.store.follow();
    let end = *latest.borrow();
    let mut pieces = VecDeque::new();
    let from = query.after.unwrap_or(end);
    if from > end {
        // Beyond the end: a database from before that event is in use now (S20).
        pieces.push_back(Bytes::from(format!("event: reset\ndata: {{\"latest\":\"{end}\"}}\n\n")));
        query.after = Some(0);
    } else {
        // What happens between this and the first event is not lost to who reconnects.
        pieces.push_back(Bytes::from(format!("id: {from}\nevent: position\ndata: {from}\n\n")));
        query.after = Some(from);
    }
    query.newest = false;
    let follower = Follower { api: api.clone(), query, latest, pieces };
    sse(stream::unfold(follower, |mut it| async move {
        let piece = it.next().await?;
        Some((Ok(piece), it))
    }))
}

/// An answer of server-sent events.
pub(crate) fn sse(
    pieces: impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(pieces)).into_response()
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Some(piece);
            }
            if self.api.parts.end.is_cancelled() {
                return None;
            }
            self.latest.mark_unchanged();
            match self.api.parts.store.events(&self.query, PIECE).await {
                Ok((events, seen)) => {
                    let more = Some(seen) > self.query.after;
                    self.query.after = Some(seen);
                    if !events.is_empty() {
                        self.pieces.push_back(written(&events));
                    }
                    if more {
                        continue;
                    }
                }
                Err(error) => {
                    // The reader comes back with the last id it has, and misses nothing.
                    tracing::warn!(%error, "a stream of events ends: they can't be read");
                    return None;
                }
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                () = self.api.parts.end.cancelled() => return None,
                () = sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b": still here\n\n")),
            }
        }
    }
}

fn written(events: &[Arc<Event>]) -> Bytes {
    let mut text = Vec::new();
    for event in events {
        text.extend_from_slice(format!("id: {}\ndata: ", event.id).as_bytes());
        // JSON has no line ends in it, so that one `data` line holds it all.
        if let Ok(json) = serde_json::to_vec(&**event) {
            text.extend_from_slice(&json);
        }
        text.extend_from_slice(b"\n\n");
    }
    Bytes::from(text)
}
