//! Sources of kind `webhook` (R1).

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use hale_model::spec::{SourceKind, WebhookSource};
use hale_responder::source::{Context, ErrorClass, Link, Message, Taken, What, verify};
use ring::hmac;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::support::{LONG, Running, quick, secret, source};

fn webhook(token_file: Option<PathBuf>, hmac_file: Option<PathBuf>) -> WebhookSource {
    WebhookSource { listen: "127.0.0.1:0".parse().unwrap(), path: "/alerts".into(), token_file, hmac_file }
}

async fn listening(of: WebhookSource) -> (Running, SocketAddr) {
    let sender = watch::Sender::new(None);
    let mut told = sender.subscribe();
    let context = Context { settings: quick(), listening: Some(sender), ..Context::default() };
    let mut running = Running::with(SourceKind::Webhook(of), context);
    assert_eq!(running.link().await, Link::Up { downtime: None });
    let address = told.wait_for(Option::is_some).await.unwrap().unwrap();
    (running, address)
}

/// Answers all that is asked, and tells what it was.
fn answering(mut running: Running, taken: Taken) -> tokio::sync::mpsc::Receiver<What> {
    let (sender, receiver) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        while let Some(Message::Heard(heard)) = running.messages.recv().await {
            if let Some(answer) = heard.answer {
                answer.send(taken.clone()).unwrap();
            }
            if sender.send(heard.what).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// Sends bytes as they are; the answer is its status and all of it.
async fn send_raw(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever is refused in the middle of a large body has no one to write to.
    let _written = stream.write_all(request).await;
    read(&mut stream).await
}

async fn read(stream: &mut TcpStream) -> (u16, String) {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match timeout(LONG, stream.read(&mut piece)).await.expect("an answer") {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    let text = String::from_utf8(answer).unwrap();
    let status = text.split(' ').nth(1).map_or(0, |it| it.parse().unwrap());
    (status, text)
}

fn request(head: &str, body: &str) -> Vec<u8> {
    format!("POST /alerts HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

const JSON: &str = "Content-Type: application/json\r\n";

fn alert() -> String {
    json!({"severity": "error", "faultType": "Down", "resource": {"kind": "Host", "name": "db"}}).to_string()
}

#[tokio::test]
async fn an_alert_is_answered_202_only_once_it_is_durable() {
    let (mut running, address) = listening(webhook(None, None)).await;
    let sent = tokio::spawn(async move { send_raw(address, &request(JSON, &alert())).await });
    let heard = running.heard().await;
    assert!(matches!(&heard.what, What::Alert(it) if it.resource.name == "db"), "{heard:?}");
    assert!(!sent.is_finished());
    heard.answer.unwrap().send(Taken::Yes).unwrap();
    assert_eq!(sent.await.unwrap().0, 202);
    running.end().await;
}

#[tokio::test]
async fn a_full_queue_is_told_with_when_to_come_again_and_nonsense_is_refused() {
    let (running, address) = listening(webhook(None, None)).await;
    let _heard = answering(running, Taken::Full);
    let (status, answer) = send_raw(address, &request(JSON, &alert())).await;
    assert_eq!(status, 429);
    assert!(answer.to_lowercase().contains("retry-after: 30"), "{answer}");

    let (running, address) = listening(webhook(None, None)).await;
    let mut heard = answering(running, Taken::Invalid("no such severity".to_owned()));
    assert_eq!(send_raw(address, &request(JSON, &alert())).await.0, 400);
    assert!(matches!(heard.recv().await, Some(What::Alert(_))));
    for body in ["", "{", "[]x", "7", "{}"] {
        assert_eq!(send_raw(address, &request(JSON, body)).await.0, 400, "{body}");
        assert!(matches!(heard.recv().await, Some(What::Unreadable(_))), "{body}");
    }
}

#[tokio::test]
async fn who_waits_when_the_responder_ends_is_told_to_come_again() {
    let (mut running, address) = listening(webhook(None, None)).await;
    let sent = tokio::spawn(async move { send_raw(address, &request(JSON, &alert())).await });
    let _unanswered = running.heard().await;
    running.end().await;
    assert_eq!(sent.await.unwrap().0, 503);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_token_is_asked_for_and_read_anew_each_time() {
    let (_dir, file) = secret("s3cret\n");
    let (running, address) = listening(webhook(Some(file.clone()), None)).await;
    let _heard = answering(running, Taken::Yes);
    let with = |token: &str| request(&format!("{JSON}Authorization: {token}\r\n"), &alert());
    assert_eq!(send_raw(address, &request(JSON, &alert())).await.0, 401);
    for wrong in ["Bearer wrong", "Bearer s3cre", "Bearer s3crett", "Basic s3cret", "Bearer ", "s3cret"] {
        assert_eq!(send_raw(address, &with(wrong)).await.0, 401, "{wrong}");
    }
    assert_eq!(send_raw(address, &with("Bearer s3cret")).await.0, 202);
    std::fs::write(&file, "renewed").unwrap();
    assert_eq!(send_raw(address, &with("Bearer s3cret")).await.0, 401);
    assert_eq!(send_raw(address, &with("bearer renewed")).await.0, 202);
    std::fs::write(&file, "").unwrap();
    assert_eq!(send_raw(address, &with("Bearer ")).await.0, 503);
}

#[tokio::test]
async fn a_signature_is_over_the_body() {
    let (_dir, file) = secret("key");
    let (running, address) = listening(webhook(None, Some(file))).await;
    let _heard = answering(running, Taken::Yes);
    let body = alert();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"key"), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    for name in ["X-Hub-Signature-256", "X-Hale-Signature"] {
        let head = format!("{JSON}{name}: sha256={hex}\r\n");
        assert_eq!(send_raw(address, &request(&head, &body)).await.0, 202, "{name}");
        assert_eq!(send_raw(address, &request(&head, &body.replace("db", "dc"))).await.0, 401, "{name}");
    }
    for head in ["", "X-Hub-Signature-256: sha256=\r\n", "X-Hub-Signature-256: 00\r\n"] {
        assert_eq!(send_raw(address, &request(&format!("{JSON}{head}"), &body)).await.0, 401, "{head}");
    }
}

#[tokio::test]
async fn a_listener_for_anyone_is_not_started() {
    let open = WebhookSource { listen: "0.0.0.0:0".parse().unwrap(), ..webhook(None, None) };
    let error = verify(&source(SourceKind::Webhook(open.clone()))).unwrap_err();
    assert!(error.contains("tokenFile") && error.contains("127.0.0.1"), "{error}");
    let mut running = Running::start(SourceKind::Webhook(open));
    assert_eq!(running.failure().await.0, ErrorClass::Auth);
    assert!(running.messages.recv().await.is_none(), "it is not tried again");
    let closed = WebhookSource {
        token_file: Some("/x".into()),
        listen: "0.0.0.0:0".parse().unwrap(),
        ..webhook(None, None)
    };
    assert!(verify(&source(SourceKind::Webhook(closed))).is_ok());
}

#[tokio::test]
async fn only_posts_of_json_to_the_path_are_taken() {
    let (running, address) = listening(webhook(None, None)).await;
    let mut heard = answering(running, Taken::Yes);
    for (raw, expected) in [
        ("GET /alerts HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404),
        ("POST /alerts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 415),
        (
            "POST /alerts HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n",
            415,
        ),
        ("nonsense\r\n\r\n", 400),
    ] {
        assert_eq!(send_raw(address, raw.as_bytes()).await.0, expected, "{raw}");
    }
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_body_above_the_bound_is_refused_however_it_comes() {
    let (running, address) = listening(webhook(None, None)).await;
    let _heard = answering(running, Taken::Yes);
    let large = "x".repeat((1 << 20) + 1);
    assert_eq!(send_raw(address, &request(JSON, &large)).await.0, 413);
    let chunked = format!(
        "POST /alerts HTTP/1.1\r\nHost: localhost\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert_eq!(send_raw(address, chunked.as_bytes()).await.0, 413);
}

#[tokio::test]
async fn a_sender_that_never_ends_is_cut_off_and_others_are_served_meanwhile() {
    let (running, address) = listening(webhook(None, None)).await;
    let _heard = answering(running, Taken::Yes);
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST /alerts HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    let mut body = TcpStream::connect(address).await.unwrap();
    body.write_all(
        format!("POST /alerts HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 9\r\n\r\n{{").as_bytes(),
    )
    .await
    .unwrap();
    assert_eq!(send_raw(address, &request(JSON, &alert())).await.0, 202);
    assert_eq!(timeout(LONG, read(&mut body)).await.unwrap().0, 408);
    for mut stream in slow {
        let (status, _) = timeout(LONG, read(&mut stream)).await.unwrap();
        assert!(matches!(status, 0 | 408), "{status}");
    }
}

#[tokio::test]
async fn alertmanagers_group_and_the_forms_of_cloudevents_are_understood() {
    let (running, address) = listening(webhook(None, None)).await;
    let mut heard = answering(running, Taken::Yes);
    let group = json!({
        "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "hale", "truncatedAlerts": 0,
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "A", "pod": "web-0", "severity": "critical"}, "annotations": {},
             "startsAt": "2026-01-01T00:00:00Z", "fingerprint": "f"},
            {"status": "resolved", "labels": {"alertname": "A", "pod": "web-1"}, "annotations": {}},
        ],
    });
    let (status, answer) = send_raw(address, &request(JSON, &group.to_string())).await;
    assert_eq!(status, 202);
    assert!(answer.ends_with("2 taken\n"), "{answer}");
    assert!(matches!(heard.recv().await, Some(What::Alert(it)) if it.resource.name == "web-0"));
    assert!(matches!(heard.recv().await, Some(What::Recovered(it)) if it.name == "web-1"));

    let event = |subject: &str| -> Value {
        json!({"specversion": "1.0", "type": "com.example.disk", "source": "/s", "id": "1", "subject": subject})
    };
    let kind = |of: &str| format!("Content-Type: application/{of}\r\n");
    let batch = json!([event("b"), event("c")]).to_string();
    for (head, body) in [
        (kind("cloudevents+json; charset=utf-8"), event("a").to_string()),
        (kind("cloudevents-batch+json"), batch),
        (
            format!(
                "{JSON}ce-specversion: 1.0\r\nce-type: com.example.disk\r\nce-source: /s\r\nce-id: 1\r\nce-subject: d\r\n"
            ),
            json!({"severity": "error"}).to_string(),
        ),
    ] {
        assert_eq!(send_raw(address, &request(&head, &body)).await.0, 202, "{body}");
    }
    for name in ["a", "b", "c", "d"] {
        assert!(matches!(heard.recv().await, Some(What::Alert(it)) if it.resource.name == name), "{name}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_tried_again_until_it_is_free() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let mut running = Running::start(SourceKind::Webhook(WebhookSource { listen, ..webhook(None, None) }));
    let (class, error, _) = running.failure().await;
    assert_eq!(class, ErrorClass::Network);
    assert!(error.contains(&listen.to_string()), "{error}");
    drop(taken);
    timeout(Duration::from_secs(10), running.up()).await.unwrap();
    running.end().await;
}

#[tokio::test]
async fn without_a_token_a_name_from_elsewhere_is_refused_and_with_one_it_is_not_looked_at() {
    let named = |host: &str, head: &str| {
        let request = String::from_utf8(request(&format!("{JSON}{head}"), &alert())).unwrap();
        request.replace("Host: localhost", &format!("Host: {host}")).into_bytes()
    };
    let (running, address) = listening(webhook(None, None)).await;
    let mut heard = answering(running, Taken::Yes);
    for host in ["evil.example", "evil.example:9099", "10.0.0.1", "localhost.evil.example", ""] {
        assert_eq!(send_raw(address, &named(host, "")).await.0, 403, "{host}");
    }
    assert!(heard.try_recv().is_err());
    for host in ["localhost", "127.0.0.1:9099", "[::1]:9099"] {
        assert_eq!(send_raw(address, &named(host, "")).await.0, 202, "{host}");
    }

    let (_dir, file) = secret("s3cret");
    let (running, address) = listening(webhook(Some(file), None)).await;
    let _heard = answering(running, Taken::Yes);
    let shown = "Authorization: Bearer s3cret\r\n";
    assert_eq!(send_raw(address, &named("hooks.example", shown)).await.0, 202);
}
