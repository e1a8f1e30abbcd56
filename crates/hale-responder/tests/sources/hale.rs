//! Sources of kind `hale` (R1, R3), against what a hale answers.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use hale_model::spec::{HaleSource, SourceKind};
use hale_responder::source::{Context, ErrorClass, SourceSettings, What};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    server::Server,
    support::{Running, quick, remote},
};

type Events = Arc<watch::Sender<Vec<Value>>>;

fn event(id: usize, subject: &str, time: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id.to_string(), "source": "/nodes/local", "subject": subject, "time": time,
        "severity": "error", "type": "dev.hale.target.probe_failed",
        "data": {"consecutive_failures": 3, "last_status": 0, "last_reason": "timeout", "last_error": "no answer"},
    })
}

/// A page, or the stream after an id; beyond its end it begins anew, and says so.
async fn events(State(events): State<Events>, headers: HeaderMap) -> Response {
    let all = events.borrow().clone();
    if headers.get(header::ACCEPT).is_none_or(|it| it != "text/event-stream") {
        return Json(json!({"events": [], "next": null, "latest": all.len()})).into_response();
    }
    let after: usize = headers.get("last-event-id").unwrap().to_str().unwrap().parse().unwrap();
    let reset = after > all.len();
    let first = if reset { "event: reset\ndata: {}\n\n" } else { ": hello\n\n" };
    let start = (events.subscribe(), if reset { 0 } else { after }, Some(first));
    let body = futures_util::stream::unfold(start, |(mut all, next, first)| async move {
        if let Some(first) = first {
            return Some((Ok::<_, std::io::Error>(Bytes::from(first)), (all, next, None)));
        }
        let event = all.wait_for(|it| it.len() > next).await.ok()?[next].clone();
        let piece = format!("id: {}\ndata: {event}\n\n", event["id"].as_str().unwrap());
        Some((Ok(Bytes::from(piece)), (all, next + 1, None)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
}

fn router(of: &Events) -> Router {
    Router::new().route("/api/v1/events", get(events)).with_state(Arc::clone(of))
}

fn hale(server: &Server) -> SourceKind {
    SourceKind::Hale(HaleSource { remote: Some(remote(server.url(""))) })
}

#[tokio::test]
async fn the_first_start_hears_what_happens_from_now_on_and_a_later_one_what_happened_meanwhile() {
    let all: Events = Arc::new(watch::Sender::new(vec![event(1, "old", "2026-01-01T00:00:01Z")]));
    let server = Server::start(router(&all)).await;
    let mut running = Running::start(hale(&server));
    let heard = running.heard().await;
    assert_eq!(heard.what, What::Nothing);
    assert!(heard.cursor.is_some_and(|it| it.starts_with("1@")));
    running.up().await;
    all.send_modify(|it| it.push(event(2, "billing", "2026-01-01T00:00:02Z")));
    let heard = running.heard().await;
    let What::Alert(alert) = &heard.what else { panic!("{heard:?}") };
    assert_eq!((alert.resource.kind.as_str(), alert.resource.name.as_str()), ("Target", "billing"));
    assert_eq!((alert.fault_type.as_str(), alert.message.as_str()), ("target.probe_failed", "no answer"));
    running.end().await;

    all.send_modify(|it| it.push(event(3, "meanwhile", "2026-01-01T00:00:03Z")));
    let context = Context { settings: quick(), cursor: heard.cursor, ..Context::default() };
    let mut running = Running::with(hale(&server), context);
    assert_eq!(running.alert().await.resource.name, "meanwhile");
    running.end().await;
}

#[tokio::test]
async fn a_restored_database_brings_back_no_alert_that_was_heard_before() {
    let all: Events = Arc::new(watch::Sender::new(vec![
        event(1, "old", "2026-01-01T00:00:01Z"),
        event(2, "new", "2026-01-01T00:10:00Z"),
    ]));
    let server = Server::start(router(&all)).await;
    let cursor = Some("9@2026-01-01T00:05:00Z".to_owned());
    let mut running =
        Running::with(hale(&server), Context { settings: quick(), cursor, ..Context::default() });
    assert_eq!(running.alert().await.resource.name, "new");
    running.end().await;
}

#[tokio::test]
async fn an_event_that_only_a_newer_hale_knows_is_understood_by_what_all_events_have() {
    let all: Events = Arc::new(watch::Sender::new(vec![]));
    let server = Server::start(router(&all)).await;
    let mut running = Running::start(hale(&server));
    running.up().await;
    let mut strange = event(1, "x", "2026-01-01T00:00:01Z");
    strange["type"] = json!("dev.hale.teapot.boiled");
    all.send_modify(|it| it.extend([strange, event(2, "billing", "2026-01-01T00:00:02Z")]));
    let alert = running.alert().await;
    assert_eq!((alert.fault_type.as_str(), alert.resource.kind.as_str()), ("teapot.boiled", "Teapot"));
    assert_eq!(running.alert().await.resource.name, "billing");
    running.end().await;
}

#[tokio::test]
async fn a_stream_that_only_greets_and_goes_is_waited_for_longer_each_time() {
    let greets = || async { ([(header::CONTENT_TYPE, "text/event-stream")], ": hello\n\n") };
    let server = Server::start(Router::new().route("/api/v1/events", get(greets))).await;
    let settings = SourceSettings {
        initial_delay: Duration::from_millis(5),
        max_delay: Duration::from_secs(60),
        ..quick()
    };
    let cursor = Some("1".to_owned());
    let mut running = Running::with(hale(&server), Context { settings, cursor, ..Context::default() });
    let mut last = 0.0;
    for _ in 0..6 {
        last = running.failure().await.2;
    }
    assert!(last > 0.1, "{last}");
    running.end().await;
}

#[tokio::test]
async fn a_wait_that_hale_or_a_proxy_before_it_asks_for_is_kept_to() {
    let own = json!({
        "type": "urn:hale:problem:too_many_requests", "title": "too many requests", "status": 429,
        "detail": "200 a second", "code": "too_many_requests",
    });
    for (status, body) in [(429, own.to_string()), (503, "<h1>no server is available</h1>".to_owned())] {
        let answer = move || async move {
            (StatusCode::from_u16(status).unwrap(), [(header::RETRY_AFTER, "1")], body)
        };
        let server = Server::start(Router::new().route("/api/v1/events", get(answer))).await;
        let mut running = Running::start(hale(&server));
        let (class, error, retry_in) = running.failure().await;
        assert_eq!(class, ErrorClass::Server, "{error}");
        assert!((1.0..=1.25).contains(&retry_in), "{retry_in}");
        running.end().await;
    }
}
