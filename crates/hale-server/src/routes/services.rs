//! The endpoints of services, for whoever balances over them (S13).

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use hale_api::endpoints::{Endpoint, EndpointSet};
use http::{HeaderMap, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::{
    api::Api,
    list,
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

pub(crate) async fn services(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    let registry = &api.parts.registry;
    let sets: Vec<Arc<EndpointSet>> =
        registry.services().iter().filter_map(|name| registry.endpoints(name)).collect();
    list::piece(&uri, sets, |it| &it.service)
}

/// One group of targets, as Prometheus' `http_sd_configs` wants them.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TargetGroup {
    /// `address:port`.
    targets: Vec<String>,
    /// Labels, for relabelling.
    labels: BTreeMap<&'static str, String>,
}

/// Every endpoint that runs: what is not ready is of interest to who measures it, and is marked.
pub(crate) async fn sd(State(api): State<Api>, Path(name): Path<String>) -> Answer<Json<Vec<TargetGroup>>> {
    let set = api.parts.registry.endpoints(&name).ok_or_else(|| Refusal::not_found("service", &name))?;
    let group = |it: &Endpoint| TargetGroup {
        targets: vec![SocketAddr::new(it.address, it.port).to_string()],
        labels: BTreeMap::from([
            ("__meta_hale_service", set.service.clone()),
            ("__meta_hale_replica", it.replica.clone()),
            ("__meta_hale_node", it.node.clone()),
            ("__meta_hale_zone", it.zone.clone().unwrap_or_default()),
            ("__meta_hale_ready", (it.ready && !it.draining).to_string()),
        ]),
    };
    Ok(Json(set.endpoints.iter().filter(|it| it.serving).map(group).collect()))
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
