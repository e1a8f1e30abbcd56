//! The event stream: pages, or as it happens (S21).

use std::time::Duration;

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
use tokio::{sync::watch, time::timeout};

use crate::{
    api::Api,
    problems::{Answer, Refusal, query},
    stream::Beat,
};

/// Events of a page when the asker does not say.
const PAGE: u32 = 100;

/// Within this time every server hears of what another one has committed: longer than the store's own polling.
const HEARD_OF: Duration = Duration::from_millis(1500);

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
    beat: watch::Receiver<Beat>,
    /// The last beat that something was told in.
    told: u64,
    begun: bool,
}

fn stream_of(api: &Api, mut query: EventQuery) -> Response {
    let beat = api.stream.follow();
    let from = query.after.unwrap_or_else(|| api.stream.end());
    query.after = Some(from);
    query.newest = false;
    let told = beat.borrow().beat;
    let follower = Follower { api: api.clone(), query, told, beat, begun: false };
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
    /// Where the stream begins. An id beyond the end is of a database from before that event (S20), or of a server that
    /// knows of it sooner: this one is given the time to hear of it too.
    async fn first(&mut self) -> Bytes {
        let from = self.query.after.unwrap_or(0);
        let gone = if from > self.api.stream.end() {
            let heard = self.beat.wait_for(|it| it.end >= from);
            !matches!(timeout(HEARD_OF, heard).await, Ok(Ok(_)))
        } else {
            // Of the numbers that were left out when the database was restored; one that can't be asked says so soon.
            self.api.parts.store.is_beyond_end(from).await.unwrap_or(false)
        };
        if gone {
            self.query.after = Some(0);
            let end = self.api.stream.end();
            return Bytes::from(format!("event: reset\ndata: {{\"latest\":\"{end}\"}}\n\n"));
        }
        // What happens between this and the first event is not lost to who reconnects.
        Bytes::from(format!("id: {from}\nevent: position\ndata: {from}\n\n"))
    }

    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(self.first().await);
        }
        loop {
            if self.api.parts.end.is_cancelled() {
                return None;
            }
            let Beat { beat, .. } = *self.beat.borrow_and_update();
            match self.api.stream.after(&self.query).await {
                Ok((text, seen)) => {
                    let more = Some(seen) > self.query.after;
                    self.query.after = Some(seen);
                    if !text.is_empty() {
                        self.told = beat;
                        return Some(text);
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
            // Nothing was told since the beat before this one.
            if beat > self.told {
                self.told = beat;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
            tokio::select! {
                changed = self.beat.changed() => changed.ok()?,
                () = self.api.parts.end.cancelled() => return None,
            }
        }
    }
}
