//! Sources of kind `sse` (R1, R3).

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use hale_model::spec::{SourceKind, SseFields, SseSource};
use hale_responder::source::{Context, ErrorClass, What};
use tokio::sync::watch;

use crate::{
    server::Server,
    support::{Running, quick, remote},
};

/// A stream that keeps what it told, and tells it again from where it is asked to.
struct Feed {
    /// Pieces as they go over the wire, each with its number as id.
    told: watch::Sender<Vec<String>>,
    /// What was sent as `Last-Event-ID`.
    asked: watch::Sender<Vec<Option<String>>>,
}

impl Feed {
    fn new() -> Arc<Self> {
        Arc::new(Self { told: watch::Sender::new(vec![]), asked: watch::Sender::new(vec![]) })
    }

    fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/feed", get(feed)).with_state(Arc::clone(self))
    }

    fn tell(&self, name: &str) {
        self.tell_raw(&format!(r#"{{"who": "{name}", "level": "error"}}"#));
    }

    fn tell_raw(&self, data: &str) {
        self.told.send_modify(|it| it.push(format!("id: {}\ndata: {data}\n\n", it.len() + 1)));
    }
}

async fn feed(State(feed): State<Arc<Feed>>, headers: HeaderMap) -> Response {
    let last = headers.get("last-event-id").map(|it| it.to_str().unwrap().to_owned());
    feed.asked.send_modify(|it| it.push(last.clone()));
    let told = feed.told.subscribe();
    let next: usize = last.map_or_else(|| told.borrow().len(), |it| it.parse().unwrap());
    let body = futures_util::stream::unfold((told, next), |(mut told, next)| async move {
        let piece = told.wait_for(|it| it.len() > next).await.ok()?[next].clone();
        Some((Ok::<_, std::io::Error>(Bytes::from(piece)), (told, next + 1)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(body)).into_response()
}

fn sse(url: String) -> SourceKind {
    let at = |pointer: &str| Some(pointer.to_owned());
    let fields = SseFields {
        severity: at("/level"),
        fault_type: None,
        kind: None,
        name: "/who".into(),
        namespace: None,
        message: None,
        timestamp: None,
        resolved: at("/resolved"),
    };
    SourceKind::Sse(SseSource { remote: remote(url), fields })
}

#[tokio::test]
async fn nothing_is_lost_over_a_broken_connection_and_a_restart_of_the_responder() {
    let feed = Feed::new();
    feed.tell("before");
    let server = Server::start(feed.router()).await;
    let url = server.url("/feed");
    let mut running = Running::start(sse(url.clone()));
    running.up().await;
    feed.tell("one");
    assert_eq!(running.alert().await.resource.name, "one");
    feed.tell("two");
    let heard = running.heard().await;
    assert_eq!(heard.cursor.as_deref(), Some("3"));

    let address = server.kill().await;
    assert_eq!(running.failure().await.0, ErrorClass::Network);
    feed.tell("three");
    let server = Server::start_on(address, feed.router()).await;
    assert!(running.up().await.is_some());
    let heard = running.heard().await;
    assert!(matches!(&heard.what, What::Alert(it) if it.resource.name == "three"), "{heard:?}");
    let cursor = heard.cursor;
    running.end().await;

    feed.tell("four");
    feed.tell("five");
    let mut running = Running::with(sse(url), Context { settings: quick(), cursor, ..Context::default() });
    for name in ["four", "five"] {
        assert_eq!(running.alert().await.resource.name, name);
    }
    assert_eq!(
        *feed.asked.borrow(),
        [None, Some("3".to_owned()), Some("4".to_owned())],
        "each goes on where it was"
    );
    running.end().await;
    drop(server);
}

#[tokio::test]
async fn garbage_and_what_is_too_large_is_said_and_passed_over() {
    let feed = Feed::new();
    let server = Server::start(feed.router()).await;
    let mut running = Running::start(sse(server.url("/feed")));
    running.up().await;
    feed.tell_raw("{");
    feed.tell_raw(&"x".repeat(2 << 20));
    feed.tell_raw(r#"{"who": "web", "resolved": true}"#);
    for cursor in ["1", "2"] {
        let heard = running.heard().await;
        assert!(matches!(heard.what, What::Unreadable(_)));
        assert_eq!(heard.cursor.as_deref(), Some(cursor));
    }
    assert!(matches!(running.heard().await.what, What::Recovered(it) if it.name == "web"));
    running.end().await;
}

#[tokio::test]
async fn what_is_no_stream_and_who_does_not_let_us_in_are_told_apart() {
    for (status, expected) in [
        (StatusCode::OK, ErrorClass::Protocol),
        (StatusCode::NOT_FOUND, ErrorClass::Protocol),
        (StatusCode::FORBIDDEN, ErrorClass::Auth),
        (StatusCode::BAD_GATEWAY, ErrorClass::Server),
        (StatusCode::GATEWAY_TIMEOUT, ErrorClass::Timeout),
    ] {
        let server = Server::start(Router::new().route("/feed", get(move || async move { status }))).await;
        let mut running = Running::start(sse(server.url("/feed")));
        let (class, error, _) = running.failure().await;
        assert_eq!(class, expected, "{error}");
        running.end().await;
    }
}

#[tokio::test]
async fn a_stream_may_ask_for_a_longer_first_wait() {
    let router = Router::new().route(
        "/feed",
        get(|| async { ([(header::CONTENT_TYPE, "text/event-stream")], "retry: 150\ndata: {}\n\n") }),
    );
    let server = Server::start(router).await;
    let mut running = Running::start(sse(server.url("/feed")));
    running.up().await;
    let (_, _, retry_in) = running.failure().await;
    assert!((0.1125..=0.1875).contains(&retry_in), "{retry_in}");
    running.end().await;
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_silent_stream_is_at_once() {
    let feed = Feed::new();
    let server = Server::start(feed.router()).await;
    let mut running = Running::start(sse(server.url("/feed")));
    running.up().await;
    running.end().await;
    drop(server);
    // And so it is between two attempts.
    let settings = hale_responder::source::SourceSettings {
        initial_delay: Duration::from_secs(600),
        max_delay: Duration::from_secs(600),
        ..quick()
    };
    let mut running =
        Running::with(sse("http://127.0.0.1:1/feed".into()), Context { settings, ..Context::default() });
    assert_eq!(running.failure().await.0, ErrorClass::Network);
    running.end().await;
}

#[tokio::test]
async fn a_stream_that_only_greets_and_goes_is_waited_for_longer_each_time_and_one_that_tells_is_not() {
    let settings = hale_responder::source::SourceSettings {
        initial_delay: Duration::from_millis(5),
        max_delay: Duration::from_secs(60),
        ..quick()
    };
    for (piece, grows) in [(": hello\n\nretry: 0\n\n", true), ("data: {\"who\": \"a\"}\n\n", false)] {
        let answer = move || async move { ([(header::CONTENT_TYPE, "text/event-stream")], piece) };
        let server = Server::start(Router::new().route("/feed", get(answer))).await;
        let context = Context { settings, ..Context::default() };
        let mut running = Running::with(sse(server.url("/feed")), context);
        let mut last = 0.0;
        for _ in 0..6 {
            last = running.failure().await.2;
        }
        // The sixth wait is 160 ms by doubling, and 5 ms without; chance moves it by a quarter.
        assert_eq!(last > 0.1, grows, "{last}");
        assert!(last > 0.003, "{last}");
        running.end().await;
    }
}
