//! Who may ask, from where, and how errors look.

use std::os::unix::fs::PermissionsExt;

use hale_api::{Client, ClientError, Code};
use hale_server::Limits;
use tokio::net::TcpListener;

use super::hale::{Hale, TOKEN, raw, request};

#[tokio::test]
async fn only_health_and_the_empty_page_are_told_without_a_token() {
    let hale = Hale::start().await;
    for path in ["/healthz", "/readyz", "/", "/assets/app.js", "/assets/style.css"] {
        let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(hale.address, &text).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}");
    }
    let closed = [
        "/api/v1/status",
        "/api/v1/events",
        "/api/v1/logs/web",
        "/metrics",
        "/api/v1/explain/web",
        "/api/v1/services",
    ];
    for path in closed {
        for token in ["", "Authorization: Bearer hale_wrong_token\r\n", "Authorization: Basic aGFsZQ==\r\n"] {
            let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n");
            let answer = raw(hale.address, &text).await;
            assert!(answer.starts_with("HTTP/1.1 401"), "{path} {token}: {answer}");
            assert!(answer.to_lowercase().contains("content-type: application/problem+json"), "{answer}");
            assert!(answer.contains("\"code\":\"unauthorized\""), "{answer}");
        }
    }
    hale.stop().await;
}

#[tokio::test]
async fn a_name_that_someone_else_lets_point_here_is_refused() {
    let hale = Hale::start().await;
    for path in ["/api/v1/status", "/", "/healthz"] {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        let answer = raw(hale.address, &text).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        assert!(answer.contains("\"code\":\"host_not_allowed\""), "{answer}");
    }
    hale.stop().await;
}

#[tokio::test]
async fn the_socket_answers_its_owner_also_where_its_path_is_long() {
    let mut builder = tempfile::Builder::new();
    let long = "d".repeat(150);
    let dir = builder.prefix(&long).tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hale = Hale::start_in(dir, tcp, Limits::default()).await;
    let socket = hale.dir.path().join("hale.sock");
    assert!(socket.as_os_str().len() > 108);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let client = Client::local(hale.dir.path()).unwrap();
    assert_eq!(client.overview().await.unwrap().workloads[0].name, "web");
    assert!(hale_server::bind_socket(hale.dir.path()).is_err(), "a second one does not take the socket away");
    let (dir, _) = hale.stop().await;
    hale_server::bind_socket(dir.path()).expect("a socket that nobody answers at is replaced");
}

#[tokio::test]
async fn what_the_client_can_do_about_an_error_is_in_its_kind() {
    let hale = Hale::start().await;
    let error = hale.client().explain("nope").await.unwrap_err();
    assert!(matches!(&error, ClientError::NotFound(it) if it.code == Code::NotFound), "{error:?}");
    assert!(error.to_string().contains("nope"));
    let error = hale.client().logs("../../etc/passwd", &Default::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound(_)), "{error:?}");
    let stranger = Client::remote(&format!("http://{}", hale.address), "hale_x_y").unwrap();
    assert!(matches!(stranger.overview().await.unwrap_err(), ClientError::NotAllowed(_)));
    let (_dir, address) = hale.stop().await;
    let gone = Client::remote(&format!("http://{address}"), TOKEN).unwrap();
    assert!(matches!(gone.overview().await.unwrap_err(), ClientError::Unreachable(_)));
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_a_code() {
    let hale = Hale::start().await;
    let json = "Content-Type: application/json\r\n";
    let post = |path: &str, body: &str| {
        request("POST", path, &format!("{json}Content-Length: {}\r\n", body.len())) + body
    };
    let cases: Vec<(&str, String, &str)> = vec![
        ("404", request("GET", "/nothing/here", ""), "not_found"),
        ("404", request("GET", "/api/v1/workloads/nope", ""), "not_found"),
        ("404", request("GET", "/api/v1/operations/12345", ""), "not_found"),
        ("404", request("POST", "/api/v1/workloads/web/explode", ""), "not_found"),
        ("405", request("DELETE", "/api/v1/status", ""), "method_not_allowed"),
        ("400", request("GET", "/api/v1/events?after=x", ""), "bad_request"),
        ("400", request("GET", "/api/v1/events?limit=100000", ""), "bad_request"),
        ("400", request("GET", "/api/v1/events?type=explode", ""), "bad_request"),
        ("400", request("GET", "/api/v1/events?unknown=1", ""), "bad_request"),
        ("409", request("POST", "/api/v1/targets/billing/restart", ""), "not_applicable"),
        ("409", request("GET", "/api/v1/logs/billing", ""), "not_applicable"),
        ("400", post("/api/v1/workloads/web/pause", "{\"for_seconds\": -1}"), "bad_request"),
        ("400", post("/api/v1/workloads/web/pause", "{\"for_seconds\": 1e300}"), "bad_request"),
        ("400", post("/api/v1/workloads/web/stop", "{\"unknown\": 1}"), "bad_request"),
        ("400", post("/api/v1/workloads/web/stop", "{broken"), "bad_request"),
        ("400", post("/api/v1/workloads/web/stop", "{\"probe\":\"liveness\"}"), "bad_request"),
        (
            "415",
            request(
                "POST",
                "/api/v1/workloads/web/stop",
                "Content-Type: text/plain\r\nContent-Length: 2\r\n",
            ) + "{}",
            "unsupported_media_type",
        ),
    ];
    for (status, text, code) in cases {
        let answer = raw(hale.address, &text).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{text}\n{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{text}\n{answer}");
    }
    assert!(hale.node.orders.lock().unwrap().is_empty(), "nothing that was refused reached the node");
    hale.stop().await;
}

#[tokio::test]
async fn a_body_above_a_mebibyte_is_refused_and_hale_goes_on() {
    let hale = Hale::start().await;
    let size = 2 << 20;
    let head = format!("Content-Type: application/json\r\nContent-Length: {size}\r\n");
    let text = request("POST", "/api/v1/workloads/web/stop", &head) + &" ".repeat(size);
    let answer = raw(hale.address, &text).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"code\":\"body_too_large\""), "{answer}");
    assert!(hale.client().overview().await.is_ok());
    hale.stop().await;
}

#[tokio::test]
async fn readiness_tells_the_truth() {
    let hale = Hale::start().await;
    let ask = || raw(hale.address, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(ask().await.starts_with("HTTP/1.1 200"));
    *hale.node.broken.lock().unwrap() = Some("the keeper does not answer".to_owned());
    let answer = ask().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("the keeper does not answer"), "{answer}");
    *hale.node.broken.lock().unwrap() = None;
    hale.store.close().await;
    let answer = ask().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("database"), "{answer}");
    hale.stop().await;
}

#[tokio::test]
async fn metrics_come_in_the_form_asked_for() {
    let hale = Hale::start().await;
    let answer = raw(hale.address, &request("GET", "/metrics", "Accept: text/x\r\n")).await;
    assert!(answer.ends_with("up 1 text/x\n"), "{answer}");
    hale.stop().await;
}
