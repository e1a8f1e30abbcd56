//! The endpoints of services, for whoever balances over them (S13).

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use hale_api::endpoints::EndpointSet;
use http::{HeaderMap, Uri};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

use crate::{
    api::Api,
    problems::{Answer, Refusal, query},
    routes::events::{sse, wants_stream},
    serve::KEEP_ALIVE,
};

/// How long a long-poll is held when nothing changes.
const HOLD: Duration = Duration::from_secs(20);

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WatchQuery {
    /// Answer when the revision is another one than this.
    after: Option<u64>,
}

pub(crate) async fn services(State(api): State<Api>) -> Json<Vec<Arc<EndpointSet>>> {
    let registry = &api.parts.registry;
    Json(registry.services().iter().filter_map(|name| registry.endpoints(name)).collect())
}

pub(crate) async fn endpoints(
    State(api): State<Api>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let asked: WatchQuery = query(&uri)?;
    let mut watch = api.parts.registry.watch(&name).ok_or_else(|| Refusal::not_found("service", &name))?;
    if wants_stream(&headers) {
        watch.mark_changed();
        return Ok(sse(stream::unfold((watch, api), |(mut watch, api)| async move {
            let piece = tokio::select! {
                changed = watch.changed() => {
                    changed.ok()?;
                    let set = Arc::clone(&watch.borrow_and_update());
                    let json = serde_json::to_string(&*set).ok()?;
                    Bytes::from(format!("id: {}\nevent: endpoints\ndata: {json}\n\n", set.revision))
                }
                () = api.parts.end.cancelled() => return None,
                () = sleep(KEEP_ALIVE) => Bytes::from_static(b": still here\n\n"),
            };
            Some((Ok(piece), (watch, api)))
        })));
    }
    if let Some(after) = asked.after {
        let changed = watch.wait_for(|set| set.revision != after);
        // At the end of the hold it is told as it is.
        tokio::select! {
            _ = timeout(HOLD, changed) => {}
            () = api.parts.end.cancelled() => {}
        }
    }
    let set = Arc::clone(&watch.borrow());
    Ok(Json(set).into_response())
}
