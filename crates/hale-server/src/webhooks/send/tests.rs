use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const QUICK: Timeouts = Timeouts { connect: Duration::from_millis(300), total: Duration::from_millis(600) };

fn message() -> Message {
    let headers = HeaderMap::from_iter([(
        header::HeaderName::from_static("webhook-id"),
        HeaderValue::from_static("evt_1"),
    )]);
    Message { headers, body: Bytes::from_static(b"{\"id\":\"1\"}") }
}

/// Reads one request, head and body.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut got = Vec::new();
    loop {
        let mut more = [0; 4096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => got.extend_from_slice(&more[..n]),
        }
        if got.ends_with(b"{\"id\":\"1\"}") {
            return String::from_utf8(got).ok();
        }
    }
}

/// A receiver that gives each connection these answers, one for each request, and tells what it got.
async fn receiver(answers: &'static [&'static str]) -> (Endpoint, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}/hook?a=b", listener.local_addr().unwrap())).unwrap();
    let (tell, told) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in answers {
                let Some(got) = read(&mut stream).await else { break };
                tell.send(got).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    (endpoint, told)
}

fn sender() -> Sender {
    Sender::trusting(RootCertStore::empty(), QUICK)
}

#[tokio::test]
async fn a_message_arrives_whole_and_the_connection_is_kept() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (endpoint, mut told) = receiver(&[OK, OK]).await;
    let mut kept = Kept::default();
    for _ in 0..2 {
        let answer = sender().send(&mut kept, &endpoint, true, &message()).await.unwrap();
        assert_eq!(answer, Answer { status: 200, retry_after: None });
        let got = told.recv().await.unwrap();
        assert!(got.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{got}");
        for line in ["webhook-id: evt_1", "content-type: application/cloudevents+json"] {
            assert!(got.contains(line), "{got}");
        }
    }
    // The receiver has closed it after two; a third message takes a new one.
    assert!(sender().send(&mut kept, &endpoint, true, &message()).await.is_ok());
}

#[tokio::test]
async fn an_address_that_is_not_out_in_the_world_is_refused_unless_it_is_allowed() {
    let (endpoint, mut told) = receiver(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]).await;
    let port = endpoint.port;
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"] {
        let Ok(endpoint) = Endpoint::parse(&format!("http://{host}:{port}/")) else { continue };
        let error = sender().send(&mut Kept::default(), &endpoint, false, &message()).await.unwrap_err();
        let meant = matches!(error, SendError::Forbidden(_) | SendError::Name { .. });
        assert!(meant, "{host}: {error}");
    }
    assert!(told.try_recv().is_err(), "nothing was sent");
    assert!(sender().send(&mut Kept::default(), &endpoint, true, &message()).await.is_ok());
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_a_way() {
    let (endpoint, _told) =
        receiver(&["HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"]).await;
    let answer = sender().send(&mut Kept::default(), &endpoint, true, &message()).await.unwrap();
    assert_eq!(answer.status, 302);
}

#[tokio::test]
async fn a_receiver_that_never_answers_never_ends_or_speaks_garbage_costs_no_more_than_the_bounds() {
    for answers in [&[""][..], &["HTTP/1.1 200 OK\r\nx: "], &["\0\0garbage\r\n\r\n"], &["HTTP/1.1 999"]] {
        let (endpoint, _told) = receiver(answers.to_vec().leak()).await;
        let (sender, mut kept, message) = (sender(), Kept::default(), message());
        let sent = sender.send(&mut kept, &endpoint, true, &message);
        let result = timeout(Duration::from_secs(10), sent).await.expect("within bounds");
        assert!(matches!(attempted(result), Attempted::Failed { .. }), "{answers:?}");
    }
    // The status has come: what the body does after that is no matter.
    let (endpoint, _told) = receiver(&["HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\nx"]).await;
    let long = Sender::trusting(RootCertStore::empty(), Timeouts::default());
    let result = long.send(&mut Kept::default(), &endpoint, true, &message()).await;
    assert_eq!(result.unwrap().status, 200);
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let result = sender().send(&mut Kept::default(), &endpoint, true, &message()).await;
    assert!(matches!(result, Err(SendError::Connect { .. })), "{result:?}");
}

#[test]
fn urls_are_of_http_and_hold_no_password() {
    for wrong in ["", "x", "/hook", "ftp://a/", "https://", "https://me:pw@a/", "http://a:0/", "https:///x"] {
        assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
    }
    let endpoint = Endpoint::parse("https://hooks.example.com/T0/s3cret?x=1#frag").unwrap();
    assert_eq!((endpoint.port, endpoint.path.as_str()), (443, "/T0/s3cret?x=1"));
    assert!(!format!("{endpoint:?}").contains("s3cret"));
    assert_eq!(Endpoint::parse("http://[::1]:8080").unwrap().host, "::1");
}
