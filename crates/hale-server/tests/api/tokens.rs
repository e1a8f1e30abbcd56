//! Tokens over the API: made, used, rotated, revoked; streams that are cut.

use std::time::Duration;

use hale_api::{
    Client, ClientError, Code,
    audit::AuditQuery,
    events::EventQuery,
    tokens::{RotateRequest, TokenRequest},
};
use hale_model::cluster::Role;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::hale::{Hale, raw, request, token_of};

const LONG: Duration = Duration::from_secs(20);

/// Within this a revoked token is out (S25).
const REVOKED: Duration = Duration::from_secs(5);

fn asked(role: Role) -> TokenRequest {
    let node = (role == Role::Agent).then(|| "n1".to_owned());
    TokenRequest { role, node, description: "ci".to_owned(), expires_in_seconds: None }
}

fn with(hale: &Hale, token: &str) -> Client {
    Client::remote(&format!("http://{}", hale.address), token).unwrap()
}

#[tokio::test]
async fn an_agents_token_is_for_a_node_of_any_name_that_an_agent_may_have() {
    let hale = Hale::start().await;
    let of = |node: &str| TokenRequest { node: Some(node.to_owned()), ..asked(Role::Agent) };
    for node in ["n1", "n1.example.com"] {
        assert_eq!(hale.client().create_token(&of(node)).await.unwrap().node.as_deref(), Some(node));
    }
    for node in ["", "N1", "n1.", "-n1", "n1..example"] {
        let refused = hale.client().create_token(&of(node)).await.unwrap_err();
        assert!(matches!(refused, ClientError::Refused(_)), "{node}: {refused}");
    }
    hale.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once_does_what_its_role_may_and_is_on_record() {
    let hale = Hale::start().await;
    let admin = hale.client();
    let made = admin.create_token(&asked(Role::Viewer)).await.unwrap();
    assert!(made.token.starts_with(&format!("hale_{}_", made.id)));
    let viewer = with(&hale, &made.token);
    assert!(viewer.overview().await.is_ok());
    assert!(
        matches!(viewer.tokens().await.unwrap_err(), ClientError::NotAllowed(it) if it.code == Code::Forbidden)
    );

    let listed = admin.tokens().await.unwrap();
    assert_eq!(listed.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [made.id.as_str()]);
    let secret = made.token.rsplit('_').next().unwrap();
    let text = serde_json::to_string(&listed).unwrap();
    assert!(!text.contains(secret) && !text.contains("hash"), "{text}");
    let files = std::fs::read_dir(hale.dir.path()).unwrap();
    for file in files.map(|it| it.unwrap().path()).filter(|it| it.is_file()) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(secret.len()).any(|it| it == secret.as_bytes()), "{}", file.display());
    }
    let record = admin.audit(&AuditQuery::default()).await.unwrap().records;
    let made_by = record.iter().find(|it| it.action == "token.create").unwrap();
    assert_eq!(made_by.subject, format!("tokens/{}", made.id));
    assert_eq!(made_by.by, "cli");
    assert!(
        made_by.detail.contains("role viewer") && made_by.detail.contains("from 127.0.0.1"),
        "{made_by:?}"
    );
    assert!(!serde_json::to_string(&record).unwrap().contains(secret));
    hale.stop().await;
}

#[tokio::test]
async fn what_a_token_may_be_for_is_checked() {
    let hale = Hale::start().await;
    let admin = hale.client();
    let wrong = [
        TokenRequest { node: None, ..asked(Role::Agent) },
        TokenRequest { node: Some("Not a name".to_owned()), ..asked(Role::Agent) },
        TokenRequest { node: Some("n1".to_owned()), ..asked(Role::Admin) },
        TokenRequest { description: "two\nlines".to_owned(), ..asked(Role::Viewer) },
        TokenRequest { expires_in_seconds: Some(-1.0), ..asked(Role::Viewer) },
        TokenRequest { expires_in_seconds: Some(1e300), ..asked(Role::Viewer) },
    ];
    for it in wrong {
        let error = admin.create_token(&it).await.unwrap_err();
        assert!(matches!(&error, ClientError::Refused(it) if it.code == Code::BadRequest), "{it:?}: {error}");
    }
    assert!(admin.tokens().await.unwrap().is_empty());
    assert!(matches!(admin.revoke_token("nope").await, Err(ClientError::NotFound(_))));
    hale.stop().await;
}

#[tokio::test]
async fn a_token_that_ends_is_out_after_that() {
    let hale = Hale::start().await;
    let made = TokenRequest { expires_in_seconds: Some(0.5), ..asked(Role::Viewer) };
    let made = hale.client().create_token(&made).await.unwrap();
    let client = with(&hale, &made.token);
    let until = Instant::now() + LONG;
    while client.overview().await.is_ok() {
        assert!(Instant::now() < until, "it never ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(hale.client().tokens().await.unwrap()[0].expired);
    hale.stop().await;
}

#[tokio::test]
async fn a_rotated_token_is_taken_with_its_new_secret_and_with_the_old_one_for_its_grace() {
    let hale = Hale::start().await;
    let admin = hale.client();
    let first = admin.create_token(&asked(Role::Viewer)).await.unwrap();
    let grace = RotateRequest { grace_seconds: 3600.0 };
    let second = admin.rotate_token(&first.id, &grace).await.unwrap();
    assert_eq!(second.id, first.id);
    assert!(with(&hale, &first.token).overview().await.is_ok());
    assert!(with(&hale, &second.token).overview().await.is_ok());
    let third = admin.rotate_token(&first.id, &RotateRequest::default()).await.unwrap();
    for old in [&first.token, &second.token] {
        assert!(matches!(with(&hale, old).overview().await, Err(ClientError::NotAllowed(_))));
    }
    assert!(with(&hale, &third.token).overview().await.is_ok());
    hale.stop().await;
}

#[tokio::test]
async fn a_revoked_token_is_out_and_its_streams_are_cut() {
    let hale = Hale::start().await;
    let admin = hale.client();
    let made = admin.create_token(&asked(Role::Viewer)).await.unwrap();
    let mut streams = Vec::new();
    for (path, accept) in [
        ("/api/v1/events", "text/event-stream"),
        ("/api/v1/events?after=0", "text/event-stream"),
        ("/api/v1/logs/web?follow=true", "*/*"),
    ] {
        let mut stream = TcpStream::connect(hale.address).await.unwrap();
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\n\r\n",
            made.token
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut head = [0; 15];
        timeout(LONG, stream.read_exact(&mut head)).await.expect("an answer").unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        streams.push((path, stream));
    }
    let mut own = admin.follow(EventQuery::default()).await.unwrap();
    let revoked = Instant::now();
    admin.revoke_token(&made.id).await.unwrap();
    for (path, mut stream) in streams {
        let mut rest = Vec::new();
        // Cut in the middle or ended: either way there is no more of it.
        let _cut = timeout(LONG, stream.read_to_end(&mut rest)).await.expect(path);
    }
    assert!(revoked.elapsed() < REVOKED, "{:?}", revoked.elapsed());
    assert!(matches!(with(&hale, &made.token).overview().await, Err(ClientError::NotAllowed(_))));
    hale.record(1).await;
    assert!(timeout(LONG, own.next()).await.unwrap().is_ok(), "the streams of others go on");
    hale.stop().await;
}

#[tokio::test]
async fn what_another_server_revokes_is_out_here_too() {
    use hale_store::cluster::{Change, Key, Kind, Write};

    let hale = Hale::start().await;
    let made = hale.client().create_token(&asked(Role::Viewer)).await.unwrap();
    let client = with(&hale, &made.token);
    let mut stream = client.follow(EventQuery::default()).await.unwrap();
    let revoked = Instant::now();
    // As another server writes it: past this one's routes, into the database that both follow.
    let changes = vec![Change::Delete(Key::new(Kind::Token, &made.id))];
    hale.store.write(Write { changes, guards: Vec::new() }).await.unwrap();
    let end = timeout(LONG, stream.next()).await.expect("the stream is cut");
    assert!(matches!(end, Err(ClientError::NotAllowed(_))), "{end:?}");
    assert!(revoked.elapsed() < REVOKED, "{:?}", revoked.elapsed());
    hale.stop().await;
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once() {
    let hale = Hale::start().await;
    let body = r#"{"role":"viewer"}"#;
    let ask = async |key: &str, body: &str, token: Option<Role>| {
        let more = format!(
            "Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        let mut text = request("POST", "/api/v1/tokens", &more);
        if let Some(role) = token {
            text = text.replace(super::hale::TOKEN, &token_of(role));
        }
        raw(hale.address, &(text + body)).await
    };
    let of = |answer: &str| answer.split("\r\n\r\n").nth(1).unwrap().to_owned();
    let first = ask("k1", body, None).await;
    assert!(first.starts_with("HTTP/1.1 201"), "{first}");
    let again = ask("k1", body, None).await;
    assert!(again.starts_with("HTTP/1.1 201"), "{again}");
    assert_eq!(of(&first), of(&again));
    assert_eq!(hale.client().tokens().await.unwrap().len(), 1);

    let other = ask("k1", r#"{"role":"admin"}"#, None).await;
    assert!(other.starts_with("HTTP/1.1 409"), "{other}");
    let somebody = ask("k1", body, Some(Role::Admin)).await;
    assert_ne!(of(&somebody), of(&first), "keys are a token's own");
    let (one, two) = tokio::join!(ask("k2", body, None), ask("k2", body, None));
    assert_eq!(of(&one), of(&two));
    assert_eq!(hale.client().tokens().await.unwrap().len(), 3);
    let long = "k".repeat(129);
    assert!(ask(&long, body, None).await.starts_with("HTTP/1.1 400"));
    hale.stop().await;
}
