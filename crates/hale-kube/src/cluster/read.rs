//! Reading for diagnostics: logs, and events of a namespace.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use kube::client::Body;
use serde_json::Value;

use super::{Cluster, ClusterError, encode, json, request, trim};

/// Pages of events that are read of one namespace: newer ones come last, and a cluster keeps them for an hour.
const PAGES: usize = 40;

impl Cluster {
    /// The last lines of a container's log, with at most so many bytes of it.
    ///
    /// # Errors
    /// The cluster can't be asked, or has none.
    pub(crate) async fn log(&self, log: &LogOf<'_>, within: Duration) -> Result<Bytes, ClusterError> {
        let LogOf { namespace, pod, container, previous, lines, bytes } = *log;
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={}&tailLines={lines}&limitBytes={bytes}{}",
            encode(container),
            if previous { "&previous=true" } else { "" }
        );
        self.bytes(request(Method::GET, &path, None, Body::empty())?, within).await
    }

    /// The events of a namespace, trimmed; and whether there were more than are ever read.
    ///
    /// # Errors
    /// The cluster can't be asked.
    pub(crate) async fn events(
        &self,
        namespace: &str,
        within: Duration,
    ) -> Result<(Vec<Value>, bool), ClusterError> {
        let mut events = Vec::new();
        let mut from = String::new();
        for _ in 0..PAGES {
            let path = format!("/api/v1/namespaces/{namespace}/events?limit=500{from}");
            let bytes = self.bytes(request(Method::GET, &path, None, Body::empty())?, within).await?;
            let wrong =
                |error| ClusterError::Garbage(format!("the events of {namespace} are not JSON: {error}"));
            let mut page = trim::parse(&bytes).map_err(wrong)?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                events.extend(items);
            }
            match page["metadata"]["continue"].as_str().filter(|it| !it.is_empty()) {
                Some(token) => from = format!("&continue={}", encode(token)),
                None => return Ok((events, false)),
            }
        }
        Ok((events, true))
    }

    /// One pod, whole.
    ///
    /// # Errors
    /// The cluster can't be asked, or has none.
    pub(crate) async fn pod(
        &self,
        namespace: &str,
        name: &str,
        within: Duration,
    ) -> Result<Value, ClusterError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let bytes = self.bytes(request(Method::GET, &path, None, Body::empty())?, within).await?;
        json(&bytes, &path)
    }
}

/// Which log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOf<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) container: &'a str,
    /// Of the instance before.
    pub(crate) previous: bool,
    pub(crate) lines: u32,
    pub(crate) bytes: usize,
}
