//! `httpGet` and `tcpSocket` (H7, H8), made alone and by the engine alike.

use std::{
    io::Write,
    net::{Ipv6Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::Duration,
};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{BodyMatch, Check, HttpGet};
use rstest::rstest;

use crate::support::{AMPLE, SOON, Server, both, failed, get, hang, http, ok, request, succeeded, tcp};

type Nothing = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn an_answer_of_200_is_a_success_with_timings() {
    let server = Server::answering(ok("fine"));
    let result = both(http(get(server.address), server.address), AMPLE).await;
    succeeded(&result);
    assert_eq!(result.http_status, Some(200));
    let timings = result.timings;
    assert!(timings.connect.unwrap() <= timings.first_byte.unwrap());
    assert!(timings.first_byte.unwrap() <= timings.total && timings.dns.is_none() && timings.tls.is_none());
}

#[tokio::test]
async fn the_request_is_what_a_server_expects() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    let server = Server::new(move |mut stream, _| {
        if let Some(text) = request(&mut stream) {
            requests.lock().unwrap().push(text);
            let _ = stream.write_all(ok("").as_bytes());
        }
    });
    let headers = vec![("X-Token".into(), "a b".into()), ("User-Agent".into(), "mine".into())];
    let spec = HttpGet { headers, path: "/h?x=1".into(), ..get(server.address) };
    succeeded(&both(http(spec, server.address), AMPLE).await);
    let expected = format!(
        "GET /h?x=1 HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\nConnection: close\r\nX-Token: a b\r\nUser-Agent: mine\r\n\r\n",
        server.address
    );
    assert_eq!(*seen.lock().unwrap(), [expected.clone(), expected]);
}

#[rstest]
#[case::as_it_is("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", 404)]
#[case::chunked("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngone\r\n0\r\n\r\n", 503)]
#[case::until_close("HTTP/1.0 500 No\r\n\r\ngone", 500)]
#[tokio::test]
async fn another_status_fails_and_its_body_is_kept(#[case] answer: &str, #[case] status: u16) {
    let server = Server::answering(answer);
    let result = both(http(get(server.address), server.address), AMPLE).await;
    failed(&result, Reason::StatusMismatch, &[&status.to_string(), "200-399", "gone"]);
    assert_eq!((result.http_status, result.snippet.as_deref()), (Some(status), Some("gone")));
}

#[rstest]
#[case(vec![(200, 200), (418, 418)], true)]
#[case(vec![(200, 204)], false)]
#[tokio::test]
async fn expected_status_narrows_and_widens(#[case] expected_status: Vec<(u16, u16)>, #[case] good: bool) {
    let server = Server::answering("HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n");
    let spec = HttpGet { expected_status, ..get(server.address) };
    assert_eq!(both(http(spec, server.address), AMPLE).await.verdict.is_success(), good);
}

#[rstest]
#[case(Some(BodyMatch::Contains("\"ok\"".into())), vec![], &[])]
#[case(Some(BodyMatch::Contains("absent".into())), vec![], &["does not hold \"absent\""])]
#[case(Some(BodyMatch::Regex("st.te.*ok".into())), vec![], &[])]
#[case(Some(BodyMatch::Regex("^ok$".into())), vec![], &["does not match /^ok$/"])]
#[case(None, vec![("/state".into(), "ok".into()), ("/n".into(), 1.into())], &[])]
#[case(None, vec![("/state".into(), "bad".into())], &["/state", "\"ok\"", "expected \"bad\""])]
#[case(None, vec![("/nowhere".into(), 1.into())], &["nothing at \"/nowhere\""])]
#[tokio::test]
async fn the_body_must_hold_what_is_expected(
    #[case] expected_body: Option<BodyMatch>,
    #[case] expected_json: Vec<(String, serde_json::Value)>,
    #[case] says: &[&str],
) {
    let server = Server::answering(ok(r#"{"state":"ok","n":1.0}"#));
    let result =
        both(http(HttpGet { expected_body, expected_json, ..get(server.address) }, server.address), AMPLE)
            .await;
    if says.is_empty() { succeeded(&result) } else { failed(&result, Reason::BodyMismatch, says) }
}

#[tokio::test]
async fn a_server_that_accepts_and_hangs_times_out() {
    let server = Server::new(|mut stream, _| hang(&mut stream));
    let result = both(http(get(server.address), server.address), SOON).await;
    failed(&result, Reason::Timeout, &["connected, but no answer within 800ms"]);
    assert!(result.timings.total >= SOON && result.timings.total < AMPLE);
}

#[tokio::test]
async fn the_timeout_covers_the_body() {
    let server = Server::new(|mut stream, _| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
        hang(&mut stream);
    });
    let result = both(http(get(server.address), server.address), SOON).await;
    failed(&result, Reason::Timeout, &["the answer began but was not complete"]);
}

#[tokio::test]
async fn a_server_that_drips_its_answer_times_out() {
    let server = Server::new(|mut stream, _| {
        request(&mut stream);
        for byte in ok(&"x".repeat(1000)).bytes() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    failed(&both(http(get(server.address), server.address), SOON).await, Reason::Timeout, &["began"]);
}

#[tokio::test]
async fn an_endless_body_is_read_to_ten_kibibytes_and_judged_by_that() {
    let server = Server::new(|mut stream, _| {
        request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nstart");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let wanted =
        |part: &str| HttpGet { expected_body: Some(BodyMatch::Contains(part.into())), ..get(server.address) };
    succeeded(&both(http(wanted("startx"), server.address), AMPLE).await);
    let result = both(http(wanted("y"), server.address), AMPLE).await;
    failed(&result, Reason::BodyMismatch, &[]);
    assert_eq!(result.snippet.unwrap().len(), 10 * 1024);
}

#[rstest]
#[case::another_protocol("SSH-2.0-OpenSSH_9.2\r\n", &["not an HTTP/1 answer", "SSH-2.0"])]
#[case::binary("\0\u{1}\u{2}\u{3}", &["not an HTTP/1 answer"])]
#[case::tls_alert("\u{15}\u{3}\u{3}\0\u{2}\u{2}", &["not an HTTP/1 answer"])]
#[case::bad_status("HTTP/1.1 twohundred OK\r\n\r\n", &["status line"])]
#[tokio::test]
async fn garbage_is_a_protocol_failure(#[case] answer: &'static str, #[case] says: &[&str]) {
    let server = Server::answering(answer);
    failed(&both(http(get(server.address), server.address), AMPLE).await, Reason::Protocol, says);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_a_protocol_failure() {
    let server = Server::new(|mut stream, _| {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        hang(&mut stream);
    });
    failed(&both(http(get(server.address), server.address), AMPLE).await, Reason::Protocol, &["220 mail"]);
}

#[rstest]
#[case::one_long_header(format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "a".repeat(64 * 1024)))]
#[case::endless_headers(format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(20_000)))]
#[tokio::test]
async fn headers_beyond_the_limit_are_a_protocol_failure(#[case] answer: String) {
    let server = Server::new(move |mut stream, _| {
        request(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
        hang(&mut stream);
    });
    failed(&both(http(get(server.address), server.address), AMPLE).await, Reason::Protocol, &["headers"]);
}

#[rstest]
#[case::without_an_answer("")]
#[case::within_the_head("HTTP/1.1 200 OK\r\nA:")]
#[case::within_the_body("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")]
#[case::within_a_chunk("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf")]
#[tokio::test]
async fn a_connection_closed_early_is_a_reset(#[case] answer: &'static str) {
    let server = Server::answering(answer);
    failed(
        &both(http(get(server.address), server.address), AMPLE).await,
        Reason::ConnectionReset,
        &["closed"],
    );
}

#[tokio::test]
async fn a_connection_reset_by_the_server_says_so() {
    let server = Server::new(|mut stream, _| {
        request(&mut stream);
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    });
    failed(&both(http(get(server.address), server.address), AMPLE).await, Reason::ConnectionReset, &[]);
}

#[tokio::test]
async fn nobody_listening_is_a_refused_connection() -> Nothing {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    failed(
        &both(http(get(address), address), AMPLE).await,
        Reason::ConnectionRefused,
        &[&address.to_string()],
    );
    failed(&both(tcp(address), AMPLE).await, Reason::ConnectionRefused, &[&address.to_string()]);
    Ok(())
}

#[tokio::test]
async fn a_tcp_check_succeeds_once_connected() {
    let server = Server::new(|mut stream, _| hang(&mut stream));
    let result = both(tcp(server.address), AMPLE).await;
    succeeded(&result);
    assert!(result.timings.connect.is_some());
}

#[tokio::test]
async fn ipv6_is_asked_like_ipv4() {
    let server = Server::at(Ipv6Addr::LOCALHOST.into(), |mut stream, _| {
        if request(&mut stream).is_some_and(|it| it.contains("Host: [::1]:")) {
            let _ = stream.write_all(ok("").as_bytes());
        }
    });
    succeeded(&both(http(get(server.address), server.address), AMPLE).await);
    succeeded(&both(tcp(server.address), AMPLE).await);
}

#[tokio::test]
async fn a_name_is_resolved_and_one_that_is_not_known_fails() {
    let server = Server::answering(ok(""));
    let spec = HttpGet { host: Some("localhost".into()), ..get(server.address) };
    let checker = Checker::compile(&Check::HttpGet(spec.clone()), &Subject::default()).unwrap();
    let first = checker.run(AMPLE).await;
    succeeded(&first);
    assert!(first.timings.dns.is_some());
    let spec = HttpGet { host: Some("no-such-host.invalid".into()), ..spec };
    let checker = Checker::compile(&Check::HttpGet(spec), &Subject::default()).unwrap();
    failed(&both(checker, AMPLE).await, Reason::Dns, &["no-such-host.invalid"]);
}

#[tokio::test]
async fn a_replica_without_an_address_is_the_probers_error() {
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let checker = Checker::compile(&Check::HttpGet(get(address)), &Subject::default()).unwrap();
    failed(&both(checker, AMPLE).await, Reason::ProberError, &["no address yet"]);
}

/// Redirects `/healthz` to what `to` makes of the server's address, and answers everything else.
fn redirecting(status: u16, to: impl Fn(SocketAddr) -> String + Send + Sync + 'static) -> Server {
    Server::new(move |mut stream, _| {
        let address = stream.local_addr().unwrap();
        let Some(text) = request(&mut stream) else { return };
        let answer = if text.starts_with("GET /healthz ") {
            format!("HTTP/1.1 {status} Go\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", to(address))
        } else if text.starts_with("GET /good ") && text.contains(&format!("Host: {address}\r\n")) {
            ok("there")
        } else {
            "HTTP/1.1 500 Lost\r\nContent-Length: 0\r\n\r\n".into()
        };
        let _ = stream.write_all(answer.as_bytes());
    })
}

#[rstest]
#[case(301)]
#[case(302)]
#[case(303)]
#[case(307)]
#[case(308)]
#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed(#[case] status: u16) {
    let server = redirecting(status, |_| "/good".into());
    let result = both(http(get(server.address), server.address), AMPLE).await;
    succeeded(&result);
    assert_eq!(result.http_status, Some(200));
    let server = redirecting(status, |own| format!("http://{own}/good"));
    succeeded(&both(http(get(server.address), server.address), AMPLE).await);
}

#[tokio::test]
async fn what_a_redirect_leads_to_is_what_counts() {
    let server = redirecting(302, |_| "/bad".into());
    let result = both(http(get(server.address), server.address), AMPLE).await;
    failed(&result, Reason::StatusMismatch, &["500"]);
}

#[tokio::test]
async fn a_redirect_to_another_host_succeeds_with_a_warning() {
    let server = redirecting(302, |_| "http://example.invalid/login".into());
    let result = both(http(get(server.address), server.address), AMPLE).await;
    succeeded(&result);
    assert!(result.warning.unwrap().contains("example.invalid"));
    assert_eq!(result.http_status, Some(302));
}

#[tokio::test]
async fn a_redirect_loop_ends_after_ten() {
    let server = redirecting(302, |_| "/healthz".into());
    let checker = http(get(server.address), server.address);
    failed(&checker.run(AMPLE).await, Reason::TooManyRedirects, &["10"]);
    assert_eq!(server.accepted(), 11, "the first and ten more");
    failed(&both(http(get(server.address), server.address), AMPLE).await, Reason::TooManyRedirects, &[]);
}

#[tokio::test]
async fn a_check_that_wants_only_a_redirect_does_not_follow_it() {
    let server = redirecting(302, |_| "/good".into());
    let spec = HttpGet { expected_status: vec![(302, 302)], ..get(server.address) };
    let result = both(http(spec, server.address), AMPLE).await;
    succeeded(&result);
    assert_eq!(result.http_status, Some(302));
}

#[tokio::test]
async fn a_fresh_connection_is_made_for_each_check_unless_told_otherwise() {
    let patient = |mut stream: std::net::TcpStream, _: usize| {
        while request(&mut stream).is_some() {
            let _ = stream.write_all(ok("").as_bytes());
        }
    };
    let server = Server::new(patient);
    let checker = http(get(server.address), server.address);
    let kept = Server::new(patient);
    let keeper = http(HttpGet { keep_alive: true, ..get(kept.address) }, kept.address);
    for _ in 0..5 {
        succeeded(&checker.run(AMPLE).await);
        succeeded(&keeper.run(AMPLE).await);
    }
    assert_eq!((server.accepted(), kept.accepted()), (5, 1));
}

#[tokio::test]
async fn a_kept_connection_that_the_peer_has_closed_is_replaced_once() {
    // Says it keeps the connection, and closes it: the check must not fail for that.
    let server = Server::answering(ok(""));
    let checker = http(HttpGet { keep_alive: true, ..get(server.address) }, server.address);
    for _ in 0..4 {
        succeeded(&checker.run(AMPLE).await);
    }
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn closing_leaves_no_connection_waiting() {
    let server = Server::answering(ok(""));
    let port = format!(":{:04X} ", server.address.port());
    succeeded(&both(http(get(server.address), server.address), AMPLE).await);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // The fourth field is the state; 06 is TIME_WAIT. The remote address is the third.
    let ours = table
        .lines()
        .filter(|line| line.split_whitespace().nth(2).is_some_and(|it| format!("{it} ").ends_with(&port)));
    assert_eq!(ours.filter(|line| line.split_whitespace().nth(3) == Some("06")).count(), 0);
}

#[test]
fn what_can_be_found_wrong_beforehand_is() {
    let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let bad = |change: fn(&mut HttpGet)| {
        let mut spec = get(address);
        change(&mut spec);
        Checker::compile(&Check::HttpGet(spec), &Subject::default()).unwrap_err().to_string()
    };
    assert!(bad(|it| it.path = "no slash".into()).contains("slash"));
    assert!(bad(|it| it.headers = vec![("A".into(), "b\r\nEvil: c".into())]).contains("\"A\""));
    assert!(bad(|it| it.expected_body = Some(BodyMatch::Regex("(".into()))).contains("regular expression"));
    assert!(bad(|it| it.expected_json = vec![("x".into(), 1.into())]).contains("JSON pointer"));
    assert!(bad(|it| it.host = Some("a b".into())).contains("host name"));
    assert!(bad(|it| it.port = hale_model::spec::PortRef::Name("web".into())).contains("\"web\""));
    assert!(Checker::compile(&Check::Notify, &Subject::default()).is_err());
}

#[tokio::test]
async fn what_lets_us_in_does_not_go_along_to_another_port() {
    let (tell, told) = std::sync::mpsc::sync_channel(8);
    let other = Server::new(move |mut stream, _| {
        if let Some(request) = request(&mut stream) {
            let _ = tell.send(request);
            let _ = Write::write_all(&mut stream, ok("").as_bytes());
        }
    });
    let to = other.address;
    let server = redirecting(302, move |_| format!("http://{to}/inner"));
    let headers = [("Authorization", "Bearer secret"), ("cookie", "id=secret"), ("X-Own", "kept")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let spec = HttpGet { headers, ..get(server.address) };
    succeeded(&http(spec, server.address).run(AMPLE).await);
    let asked = told.recv_timeout(AMPLE).unwrap();
    assert!(asked.contains("X-Own: kept") && asked.starts_with("GET /inner "), "{asked}");
    assert!(!asked.contains("secret"), "{asked}");
}
