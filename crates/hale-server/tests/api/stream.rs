//! Following events and endpoints.

use std::time::Duration;

use hale_api::{Followed, events::EventQuery};
use hale_model::spec::{Balance, Protocol, Service};
use hale_server::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    time::timeout,
};

use super::hale::{Hale, TOKEN, raw, ready, request};

const LONG: Duration = Duration::from_secs(20);

async fn id(stream: &mut hale_api::EventStream) -> u64 {
    match timeout(LONG, stream.next()).await.expect("an event in time").unwrap() {
        Followed::Event(event) => event.id,
        Followed::Reset => panic!("a reset"),
    }
}

#[tokio::test]
async fn pages_lead_through_all_events_and_end() {
    let hale = Hale::start().await;
    hale.record(25).await;
    let mut query = EventQuery { limit: Some(10), ..EventQuery::default() };
    let mut ids = Vec::new();
    loop {
        let page = hale.client().events(&query).await.unwrap();
        assert_eq!(page.latest, 25);
        ids.extend(page.events.iter().map(|it| it.id));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert_eq!(ids, (1..=25).collect::<Vec<_>>());
    hale.stop().await;
}

#[tokio::test]
async fn a_follower_gets_every_event_once_over_a_restart_of_hale() {
    let hale = Hale::start().await;
    hale.record(3).await;
    let mut stream =
        hale.client().follow(EventQuery { after: Some(1), ..EventQuery::default() }).await.unwrap();
    assert_eq!((id(&mut stream).await, id(&mut stream).await), (2, 3));
    hale.record(1).await;
    assert_eq!(id(&mut stream).await, 4);

    let (dir, address) = hale.stop().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let hale =
        Hale::start_in(dir, TcpListener::from_std(socket_listen(socket)).unwrap(), Limits::default()).await;
    hale.record(300).await;
    for expected in 5..=304 {
        assert_eq!(id(&mut stream).await, expected);
    }
    hale.stop().await;
}

fn socket_listen(socket: TcpSocket) -> std::net::TcpListener {
    socket.listen(64).unwrap().into_std().unwrap()
}

#[tokio::test]
async fn who_follows_from_now_on_misses_nothing_after_that() {
    let hale = Hale::start().await;
    hale.record(3).await;
    let mut stream = hale.client().follow(EventQuery::default()).await.unwrap();
    hale.record(1).await;
    assert_eq!(id(&mut stream).await, 4);
    hale.stop().await;
}

#[tokio::test]
async fn a_filter_holds_for_a_stream_too() {
    let hale = Hale::start().await;
    hale.record(2).await;
    hale.store.append(ready("web-1"));
    hale.record(2).await;
    let query = EventQuery { after: Some(0), subject: Some("web-1".to_owned()), ..EventQuery::default() };
    let mut stream = hale.client().follow(query).await.unwrap();
    assert_eq!(id(&mut stream).await, 3);
    hale.store.append(ready("web-1"));
    assert_eq!(id(&mut stream).await, 6);
    hale.stop().await;
}

#[tokio::test]
async fn an_id_beyond_the_end_gets_an_explicit_reset() {
    let hale = Hale::start().await;
    hale.record(2).await;
    let mut stream =
        hale.client().follow(EventQuery { after: Some(99), ..EventQuery::default() }).await.unwrap();
    assert_eq!(timeout(LONG, stream.next()).await.unwrap().unwrap(), Followed::Reset);
    assert_eq!((id(&mut stream).await, id(&mut stream).await), (1, 2));
    hale.stop().await;
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_cut_off_and_others_are_not_held_up() {
    let limits = Limits { stalled_write: Duration::from_millis(300), ..Limits::default() };
    let hale = Hale::start_with(limits).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(hale.address).await.unwrap();
    let text = format!(
        "GET /api/v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         Authorization: Bearer {TOKEN}\r\n\r\n"
    );
    slow.write_all(text.as_bytes()).await.unwrap();
    let mut quick =
        hale.client().follow(EventQuery { after: Some(0), ..EventQuery::default() }).await.unwrap();
    for round in 0..20 {
        hale.record(2000).await;
        for n in 1..=2000 {
            assert_eq!(id(&mut quick).await, round * 2000 + n);
        }
    }
    // Some megabytes went by; it has read nothing. Its connection ends within the limit, so that this read ends too.
    tokio::time::sleep(limits.stalled_write * 2).await;
    let mut got = Vec::new();
    let _reset = timeout(LONG, slow.read_to_end(&mut got)).await.expect("it was cut off");
    let all = 40_000 * 300;
    assert!(got.len() < all, "{} bytes", got.len());
    hale.stop().await;
}

#[tokio::test]
async fn endpoints_are_told_when_they_change() {
    let hale = Hale::start().await;
    let answer = raw(hale.address, &request("GET", "/api/v1/services/web/endpoints", "")).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let service = Service {
        name: "web".to_owned(),
        port: "http".to_owned(),
        listen: None,
        protocol: Protocol::Http,
        balance: Balance::LeastRequest,
        panic_threshold: 0,
        slow_start: Duration::ZERO,
    };
    hale.registry.declare("web", Some(&service));
    let set = hale.client().endpoints("web").await.unwrap();
    assert!(set.endpoints.is_empty());
    let path = format!("/api/v1/services/web/endpoints?after={}", set.revision);
    let text = request("GET", &path, "");
    let (answer, ()) = tokio::join!(raw(hale.address, &text), async {
        hale.registry.apply(&report());
    });
    assert!(answer.contains("\"replica\":\"web-0\"") && answer.contains("\"ready\":true"), "{answer}");
    hale.stop().await;
}

fn report() -> hale_model::report::EndpointReport {
    hale_model::report::EndpointReport {
        workload: "web".to_owned(),
        replica: "web-0".to_owned(),
        node: "local".to_owned(),
        generation: 1,
        incarnation: 1,
        address: Some([127, 0, 0, 1].into()),
        ports: [("http".to_owned(), 20_001)].into(),
        ready: true,
        damped: false,
        serving: true,
        draining: false,
        reason: "readiness: 1/1".to_owned(),
        traceparent: None,
    }
}
