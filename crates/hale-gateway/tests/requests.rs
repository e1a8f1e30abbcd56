//! What goes through, what stays, and what is refused (S19).

mod kit;

use hale_gateway::Options;
use kit::{Backend, Does, SOON, Site, endpoint, ok, status};
use rstest::rstest;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Whatever an ambiguous request is answered, an endpoint never sees more than one, and never the one hidden in it.
#[rstest]
#[case::length_then_chunked("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 400])]
#[case::chunked_then_length("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n", &[200, 400])]
#[case::two_lengths("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabcGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n", &[400])]
#[case::a_list_of_lengths("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", &[400])]
#[case::a_signed_length("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", &[400])]
#[case::a_negative_length("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", &[400])]
#[case::an_absurd_length("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nabc", &[400])]
#[case::an_unknown_coding("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", &[400, 501])]
#[case::a_coding_under_chunked("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", &[400, 501])]
#[case::chunked_twice("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400, 501])]
#[case::chunked_not_last("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", &[400, 501])]
#[case::chunked_in_http_1_0("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400])]
#[case::a_blank_before_the_colon("POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\n\r\nabc", &[400])]
#[case::a_folded_header("GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", &[400])]
#[case::a_nul("GET / HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n", &[400])]
#[case::no_host("GET / HTTP/1.1\r\n\r\n", &[400])]
#[case::two_hosts("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400])]
#[case::a_host_with_a_path("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", &[400])]
#[case::a_host_with_a_user("GET / HTTP/1.1\r\nHost: me@a\r\n\r\n", &[400])]
#[case::connect("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", &[405])]
#[case::another_expectation("GET / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\n\r\n", &[417])]
#[case::no_http("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n", &[400])]
#[case::another_version("GET / HTTP/3.0\r\nHost: a\r\n\r\n", &[400, 505])]
#[tokio::test]
async fn an_ambiguous_request_never_becomes_two(#[case] request: &str, #[case] expected: &[u16]) {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    client.send(request).await;
    let answers = client.rest().await;
    assert!(expected.contains(&status(&answers)), "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    let seen = backend.seen();
    assert!(seen.len() <= 1 && !seen.concat().contains("/hidden"), "{seen:?}");
    assert!(!seen.concat().to_ascii_lowercase().contains("content-length: 40"), "{seen:?}");
}

#[rstest]
#[case::a_bad_chunk_size("zz\r\nabc\r\n0\r\n\r\n")]
#[case::an_overflowing_chunk_size("ffffffffffffffffff\r\nabc\r\n0\r\n\r\n")]
#[case::a_chunk_that_runs_on("2\r\nabcdef\r\n0\r\n\r\n")]
#[tokio::test]
async fn a_malformed_chunk_ends_the_request_at_the_endpoint_too(#[case] body: &str) {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = site.client().await;
    client.send(&format!("{head}{body}")).await;
    let answer = client.rest().await;
    assert!([0, 400].contains(&status(&answer)), "{answer}");
    assert!(backend.seen().is_empty(), "never whole: {:?}", backend.seen());
}

#[tokio::test]
async fn the_head_is_cleaned_and_says_who_asked() {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    let answer = site
        .ask(
            "GET http://shop.test/a?b=c HTTP/1.1\r\nHost: other\r\nConnection: keep-alive, X-Secret, Host\r\nX-Secret: 1\r\n\
             Keep-Alive: 5\r\nTE: trailers\r\nTrailer: X\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\n\
             X-Forwarded-For: 10.0.0.1\r\nVia: 1.1 front\r\nCookie: a=1\r\n\r\n",
        )
        .await;
    assert_eq!(status(&answer), 200, "{answer}");
    let seen = backend.seen().concat();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    for kept in [
        "host: shop.test",
        "cookie: a=1",
        "x-forwarded-for: 10.0.0.1, 127.0.0.1",
        "x-forwarded-proto: http",
        "via: 1.1 front",
        "via: 1.1 hale",
    ] {
        assert!(seen.contains(&format!("{kept}\r\n")), "{kept}: {seen}");
    }
    for gone in ["x-secret", "keep-alive", "te:", "trailer", "upgrade", "proxy-", "connection"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
}

#[tokio::test]
async fn an_answer_is_cleaned_too() {
    let backend = Backend::start(|_| {
        Does::Answers(
            "HTTP/1.1 201 Created\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: yes\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .into(),
        )
    })
    .await;
    let site = Site::over(&[&backend]);
    let answer = site.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 201 Created\r\n") && answer.ends_with("3\r\nabc\r\n0\r\n\r\n"),
        "{answer}"
    );
    assert!(answer.contains("x-kept: yes") && answer.contains("via: 1.1 hale"), "{answer}");
    assert!(!answer.contains("x-hop") && !answer.contains("keep-alive"), "{answer}");
}

#[tokio::test]
async fn without_an_endpoint_the_answer_says_which_service_and_since_when() {
    let site = Site::new(Vec::new(), Options::default());
    let answer =
        site.ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["service"], "web");
    assert_eq!(body["since"], "2026-01-02T03:04:05Z");
    assert_eq!(body["code"], "no_endpoint");
    let text = site.ask("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html,*/*\r\n\r\n").await;
    assert!(text.ends_with("service web has had no ready endpoint since 2026-01-02T03:04:05Z\n"), "{text}");
    assert!(site.metrics().contains(r#"hale_gateway_no_endpoint_responses_total{service="web"} 2"#));
}

#[tokio::test]
async fn expect_continue_is_answered_here_and_the_body_goes_on() {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    let first =
        client.ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(status(&first), 100, "{first}");
    client.send("hello").await;
    assert_eq!(status(&client.read().await), 200);
    let seen = backend.seen().concat();
    assert!(seen.ends_with("\r\n\r\nhello") && !seen.contains("expect"), "{seen}");
}

#[tokio::test]
async fn head_and_no_content_have_no_body_and_the_connection_goes_on() {
    let backend = Backend::start(|request| {
        Does::Answers(match request.split(' ').nth(1) {
            Some("/long") => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".into(),
            Some("/chunked") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            Some("/none") => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            _ => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".into(),
        })
    })
    .await;
    let site = Site::over(&[&backend]);
    assert!(site.head("/long").await.contains("content-length: 1234\r\n"));
    let chunked = site.head("/chunked").await;
    assert!(!chunked.contains("content-length: 0"), "{chunked}");
    let mut client = site.client().await;
    assert_eq!(status(&client.get("/none").await), 204);
    assert_eq!(status(&client.get("/same").await), 304);
    assert_eq!(backend.closed(), 0);
}

#[tokio::test]
async fn an_old_client_is_served_and_its_connection_closed() {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with("web"), "{answer}");
    assert!(backend.seen().concat().starts_with("GET / HTTP/1.1\r\n"));
}

#[tokio::test]
async fn limits_on_head_and_body_are_kept() {
    let backend = Backend::named("web").await;
    let site = Site::with(&[&backend], Options { max_body_bytes: 1000, ..Options::default() });
    let many = "X-A: b\r\n".repeat(101);
    assert_eq!(status(&site.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await), 431);
    let large = "b".repeat(70_000);
    assert_eq!(status(&site.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {large}\r\n\r\n")).await), 431);
    let declared = site.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
    assert_eq!(status(&declared), 413, "{declared}");
    let chunk = format!("3e8\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "y".repeat(1000));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = site.ask(&format!("{head}{chunk}")).await;
    assert_eq!(status(&chunked), 413, "{chunked}");
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let size = 8 * 1024 * 1024;
    let backend = Backend::start(move |request| {
        let body = request.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body.len(), size);
        ok(body)
    })
    .await;
    let site = Site::over(&[&backend]);
    let answer = site.client().await.post(&"z".repeat(size)).await;
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), size);
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_a_504_and_a_slow_upload_is_not() {
    let backend =
        Backend::start(|request| if request.starts_with("POST") { ok("done") } else { Does::Hangs }).await;
    let options = Options { response_timeout: Duration::from_secs(1), ..Options::default() };
    let site = Site::with(&[&backend], options);
    assert_eq!(status(&site.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await), 504);
    assert_eq!(backend.seen().len(), 1, "not sent again");
    let mut client = site.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        client.send("x").await;
    }
    assert_eq!(status(&client.read().await), 200);
}

#[tokio::test]
async fn an_upload_that_stands_still_is_given_up() {
    let backend = Backend::named("web").await;
    let site =
        Site::with(&[&backend], Options { stall_timeout: Duration::from_millis(150), ..Options::default() });
    let answer = site.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc").await;
    assert_eq!(status(&answer), 408, "{answer}");
}

#[tokio::test]
async fn a_client_that_dawdles_over_its_head_is_cut_off() {
    let site =
        Site::new(Vec::new(), Options { header_timeout: Duration::from_millis(100), ..Options::default() });
    let mut client = site.client().await;
    client.send("GET / HT").await;
    assert!(!client.rest().await.contains("503"));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let body = "b".repeat(64 * 1024 * 1024);
    let backend = Backend::start(move |_| ok(&body)).await;
    let options = Options { stall_timeout: Duration::from_millis(200), ..Options::default() };
    let site = Site::with(&[&backend], options);
    let mut client = site.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    backend.until("the endpoint is let go", |it| it.closed() == 1).await;
    assert_eq!(site.gateway.in_flight(&kit::run("web-0", 1)), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request_at_the_endpoint() {
    let backend = Backend::start(|_| Does::Hangs).await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    backend.until("the request is there", |it| it.seen().len() == 1).await;
    assert_eq!(site.gateway.in_flight(&kit::run("web-0", 1)), 1);
    drop(client);
    backend.until("it was cancelled", |it| it.closed() == 1).await;
}

#[tokio::test]
async fn a_web_socket_passes_bytes_both_ways_and_counts_as_in_flight() {
    let backend = Backend::start(|request| {
        assert!(request.contains("connection: upgrade\r\n") && request.contains("upgrade: websocket\r\n"), "{request}");
        let key = "Sec-WebSocket-Accept: abc";
        Does::Answers(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\nhello"
        ))
    })
    .await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let mut got = String::new();
    while !got.ends_with("hello") {
        let mut bytes = [0; 1024];
        let count = tokio::time::timeout(SOON, client.stream().read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "{got}");
        got.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    assert!(got.starts_with("HTTP/1.1 101") && got.contains("sec-websocket-accept: abc"), "{got}");
    // The endpoint of this test reads what follows as one more message.
    client.stream().write_all(b"ping /through HTTP/1.1\r\n\r\n").await.unwrap();
    backend.until("bytes came through", |it| it.seen().concat().contains("ping /through")).await;
    assert_eq!(site.gateway.in_flight(&kit::run("web-0", 1)), 1);
    site.publish(Vec::new());
    let drained = site.gateway.drained(kit::run("web-0", 1));
    drop(client);
    tokio::time::timeout(SOON, drained).await.unwrap();
}

#[tokio::test]
async fn a_web_socket_keeps_its_place_among_the_connections_that_are_let_in() {
    let backend = Backend::start(|request| match request.contains("upgrade: websocket") {
        true => Does::Answers(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".into(),
        ),
        false => ok("web"),
    })
    .await;
    let site = Site::with(&[&backend], Options { max_connections: 1, ..Options::default() });
    let mut tunnel = site.client().await;
    tunnel.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(status(&tunnel.read().await), 101);
    // The endpoint of this test reads what follows as one more message.
    tunnel.send("GET /through HTTP/1.1\r\nupgrade: websocket\r\n\r\n").await;
    assert_eq!(status(&tunnel.read().await), 101, "it is a tunnel now");
    let mut other = site.client().await;
    let answered = tokio::time::timeout(Duration::from_millis(100), other.get("/"));
    assert!(answered.await.is_err(), "there is room for one");
    drop(tunnel);
    assert_eq!(status(&other.read().await), 200);
}

#[tokio::test]
async fn requests_in_a_row_on_one_connection_use_one_connection_to_the_endpoint() {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    for _ in 0..100 {
        assert_eq!(status(&client.get("/").await), 200);
    }
    backend.until("all came", |it| it.seen().len() == 100).await;
    site.publish(vec![endpoint("web-0", 2, backend.address)]);
    backend.until("the kept connections are closed", |it| it.closed() >= 1).await;
    assert!(backend.closed() <= 3, "{}", backend.closed());
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_takes_no_new_ones() {
    let backend = Backend::start(|_| Does::Waits).await;
    let site = Site::over(&[&backend]);
    let address = site.gateway.local_addr();
    let mut client = site.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    backend.until("the request is there", |it| it.seen().len() == 1).await;
    let shutdown = tokio::spawn(site.gateway.shutdown(SOON));
    let answer = tokio::spawn(async move { client.read().await });
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    backend.release();
    let answer = answer.await.unwrap();
    assert!(answer.ends_with("late"), "{answer}");
    tokio::time::timeout(SOON, shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_counted_can_be_scraped() {
    let backend = Backend::named("web").await;
    let site = Site::over(&[&backend]);
    for _ in 0..3 {
        site.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    let text = site.metrics();
    for line in [
        r#"hale_gateway_requests_total{service="web",code="2xx"} 3"#,
        r#"hale_gateway_requests_total{service="web",code="5xx"} 0"#,
        r#"hale_gateway_retries_total{service="web",reason="connect"} 0"#,
        r#"hale_gateway_requests_in_flight{service="web"} 0"#,
        r#"hale_gateway_request_duration_seconds_count{service="web"} 3"#,
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
}
