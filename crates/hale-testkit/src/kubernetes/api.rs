//! The API: requests in, objects out.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State as Extract},
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Fault, Log, Shared,
    kinds::{self, Served},
};

/// How often a quiet watch gets a bookmark, as of a real server.
const BOOKMARK: Duration = Duration::from_mins(1);

type Words = HashMap<String, String>;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(
    Extract(shared): Extract<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(query): Query<Words>,
    body: Bytes,
) -> Response {
    let line = format!("{method} {uri}");
    if let Some(response) = gone_wrong(&shared, &line).await {
        return response;
    }
    let path = uri.path().trim_start_matches('/').to_owned();
    let words: Vec<&str> = path.split('/').collect();
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (version, rest) = match words.as_slice() {
        ["api"] => return json_of(&json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => return json_of(&kinds::groups()),
        ["api", "v1", rest @ ..] => ("v1".to_owned(), rest),
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        _ => return not_served(),
    };
    match rest {
        [] => match kinds::resources(&version) {
            Some(resources) => json_of(&resources),
            None => not_served(),
        },
        ["selfsubjectaccessreviews"] => review(&shared, &sent),
        ["namespaces", namespace, "pods", pod, "log"] => log(&shared, namespace, pod, &query).await,
        ["namespaces", namespace, plural] => {
            of_kind(&shared, &method, (&version, plural), Some(namespace), &query)
        }
        ["namespaces", namespace, plural, name] => {
            one(&shared, &method, (&version, plural), (namespace, name), &query, sent)
        }
        [plural] => of_kind(&shared, &method, (&version, plural), None, &query),
        [plural, name] => one(&shared, &method, (&version, plural), ("", name), &query, sent),
        _ => not_served(),
    }
}

/// Counts the request, and does what is to go wrong with it.
async fn gone_wrong(shared: &Shared, line: &str) -> Option<Response> {
    let fault = {
        let mut state = shared.lock();
        *state.requests.entry(line.to_owned()).or_default() += 1;
        let found = state.faults.iter_mut().find(|(text, _)| line.contains(text.as_str()));
        let fault = found.map(|(_, fault)| {
            let now = fault.clone();
            if let Fault::Busy(times, _) | Fault::Gone(times) = fault {
                *times = times.saturating_sub(1);
            }
            now
        });
        fault?
    };
    match fault {
        Fault::Busy(0, _) | Fault::Gone(0) => None,
        Fault::Forbidden => {
            let message = format!("{line} is forbidden: User \"hale\" cannot do that");
            Some(refused(403, &message, None))
        }
        Fault::NotServed => Some(not_served()),
        Fault::Busy(_, seconds) => Some(refused(429, "too many requests", Some(seconds))),
        Fault::Gone(_) => Some(refused(410, "too old resource version", None)),
        Fault::Garbage(text) => Some(text.into_response()),
        Fault::Slow(long) => {
            tokio::time::sleep(long).await;
            None
        }
        Fault::Cut => {
            let cut = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            Some(Body::from_stream(cut).into_response())
        }
    }
}

fn json_of(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// What is said of a path that it does not know.
fn not_served() -> Response {
    refused(404, "the server could not find the requested resource", None)
}

fn refused(status: u16, message: &str, seconds: Option<u64>) -> Response {
    let told = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status});
    let code = StatusCode::from_u16(status).expect("a status");
    let mut response = (code, [(header::CONTENT_TYPE, "application/json")], told.to_string()).into_response();
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// What is refused by a fault is not allowed.
fn review(shared: &Shared, sent: &Value) -> Response {
    let asked = &sent["spec"]["resourceAttributes"];
    let resource = asked["resource"].as_str().unwrap_or_default();
    let state = shared.lock();
    let allowed =
        !state.faults.iter().any(|(text, fault)| *fault == Fault::Forbidden && text.contains(resource));
    json_of(&json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "status": {"allowed": allowed}}))
}

async fn log(shared: &Shared, namespace: &str, pod: &str, query: &Words) -> Response {
    let container = query.get("container").map_or("", String::as_str);
    let previous = if query.contains_key("previous") { ":previous" } else { "" };
    let found = shared.lock().logs.get(&format!("{namespace}/{pod}/{container}{previous}")).cloned();
    let lines = query.get("tailLines").and_then(|it| it.parse().ok()).unwrap_or(usize::MAX);
    match found {
        None => String::new().into_response(),
        Some(Log::Text(text)) => {
            let all: Vec<&str> = text.split_inclusive('\n').collect();
            all[all.len().saturating_sub(lines)..].concat().into_response()
        }
        Some(Log::Hangs) => std::future::pending().await,
        Some(Log::Refused(message)) => refused(400, &message, None),
    }
}

fn of_kind(
    shared: &Arc<Shared>,
    method: &Method,
    (version, plural): (&str, &str),
    namespace: Option<&str>,
    query: &Words,
) -> Response {
    let Some(served) = kinds::by_plural(version, plural).filter(|_| method == Method::GET) else {
        return not_served();
    };
    if query.get("watch").is_some_and(|it| it == "true" || it == "1") {
        watch(shared, served, namespace, query)
    } else {
        list(shared, served, namespace, query)
    }
}

fn list(shared: &Shared, served: Served, namespace: Option<&str>, query: &Words) -> Response {
    let selector = query.get("labelSelector").and_then(|it| it.split_once('='));
    let wanted =
        |object: &&Value| selector.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value);
    let state = shared.lock();
    let those = state.objects.iter().filter(|(place, _)| place.0 == served.2);
    let those = those.filter(|(place, _)| namespace.is_none_or(|it| it == place.1)).map(|(_, it)| it);
    let those: Vec<&Value> = those.filter(wanted).collect();
    let from = query.get("continue").and_then(|it| it.parse::<usize>().ok()).unwrap_or(0);
    let limit = query.get("limit").and_then(|it| it.parse::<usize>().ok()).unwrap_or(usize::MAX);
    let page: Vec<Value> = those.iter().skip(from).take(limit).map(|it| untyped(it)).collect();
    let mut metadata = json!({"resourceVersion": state.revision.to_string()});
    if from + page.len() < those.len() {
        metadata["continue"] = json!((from + page.len()).to_string());
    }
    let kind = format!("{}List", served.1);
    json_of(&json!({"kind": kind, "apiVersion": served.0, "metadata": metadata, "items": page}))
}

/// What is in a list does not say what it is.
fn untyped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn watch(shared: &Arc<Shared>, served: Served, namespace: Option<&str>, query: &Words) -> Response {
    let from: u64 = query.get("resourceVersion").and_then(|it| it.parse().ok()).unwrap_or(0);
    let (tell, told) = mpsc::channel(16);
    let namespace = namespace.map(str::to_owned);
    tokio::spawn(watching(Arc::clone(shared), served, namespace, from, tell));
    Body::from_stream(ReceiverStream::new(told)).into_response()
}

async fn watching(
    shared: Arc<Shared>,
    served: Served,
    namespace: Option<String>,
    mut from: u64,
    tell: mpsc::Sender<Result<Bytes, Infallible>>,
) {
    let mut revision = shared.revision.subscribe();
    let mut epoch = shared.epoch.subscribe();
    loop {
        revision.mark_unchanged();
        let lines: Vec<String> = {
            let state = shared.lock();
            if from < state.oldest {
                let status = json!({"kind": "Status", "code": 410, "reason": "Expired",
                    "message": format!("too old resource version: {from} ({})", state.oldest)});
                vec![json!({"type": "ERROR", "object": status}).to_string()]
            } else {
                let news = state.changes.partition_point(|it| it.revision <= from);
                from = from.max(state.revision);
                let inside = |it: &Value| {
                    namespace.is_none() || it["metadata"]["namespace"].as_str() == namespace.as_deref()
                };
                let those =
                    state.changes[news..].iter().filter(|it| it.plural == served.2 && inside(&it.object));
                those.map(|it| json!({"type": it.kind, "object": it.object}).to_string()).collect()
            }
        };
        let over = lines.first().is_some_and(|it| it.contains("\"ERROR\""));
        for line in lines {
            if tell.send(Ok(Bytes::from(line + "\n"))).await.is_err() {
                return;
            }
        }
        if over {
            return;
        }
        tokio::select! {
            _ = epoch.changed() => return,
            () = tell.closed() => return,
            _ = revision.changed() => {}
            () = tokio::time::sleep(BOOKMARK) => {
                let metadata = json!({"resourceVersion": from.to_string()});
                let bookmark = json!({"type": "BOOKMARK", "object": {"kind": served.1, "metadata": metadata}});
                if tell.send(Ok(Bytes::from(bookmark.to_string() + "\n"))).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn one(
    shared: &Shared,
    method: &Method,
    (version, plural): (&str, &str),
    (namespace, name): (&str, &str),
    query: &Words,
    sent: Value,
) -> Response {
    let Some(served) = kinds::by_plural(version, plural) else {
        return not_served();
    };
    let place = (served.2, namespace.to_owned(), name.to_owned());
    let mut state = shared.lock();
    let missing = || refused(404, &format!("{plural} \"{name}\" not found"), None);
    let response = match *method {
        Method::GET => state.objects.get(&place).map_or_else(missing, json_of),
        Method::PATCH => {
            let manager = query.get("fieldManager").map_or("", String::as_str);
            match state.apply(served, sent, manager) {
                Ok(object) => json_of(&object),
                Err((status, message)) => refused(status, &message, None),
            }
        }
        Method::DELETE => match state.objects.get(&place).map(|it| it["metadata"]["uid"].clone()) {
            None => missing(),
            Some(uid) if sent["preconditions"]["uid"].is_string() && sent["preconditions"]["uid"] != uid => {
                refused(409, "the uid in the precondition does not match", None)
            }
            Some(_) => {
                state.take_out(&place);
                json_of(&json!({"kind": "Status", "status": "Success"}))
            }
        },
        _ => refused(405, "method not allowed", None),
    };
    let revision = state.revision;
    drop(state);
    shared.revision.send_replace(revision);
    response
}
