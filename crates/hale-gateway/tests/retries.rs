//! When a request goes to another endpoint, and when it must not (S17).

mod kit;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use hale_gateway::{Options, ejection::EjectionPolicy};
use kit::{Backend, Does, Site, endpoint, ok, status};

/// An endpoint that nobody listens at any more.
async fn gone() -> Backend {
    let backend = Backend::named("gone").await;
    backend.kill();
    while tokio::net::TcpStream::connect(backend.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    backend
}

#[tokio::test]
async fn any_request_whose_connection_cannot_be_made_goes_to_another_endpoint() {
    let (dead, live) = (gone().await, Backend::named("live").await);
    let site = Site::over(&[&dead, &live]);
    for _ in 0..4 {
        assert_eq!(status(&site.client().await.get("/").await), 200);
        assert_eq!(status(&site.client().await.post("body").await), 200);
    }
    assert_eq!(live.seen().len(), 8);
    assert!(
        site.metrics().contains(r#"retries_total{service="web",reason="connect"} 4"#),
        "{}",
        site.metrics()
    );
}

#[tokio::test]
async fn when_no_endpoint_can_be_reached_the_answer_says_so() {
    let (one, two) = (gone().await, gone().await);
    let site = Site::over(&[&one, &two]);
    let answer = site.client().await.get("/").await;
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("endpoint_unreachable") && answer.contains("retry-after: 1"), "{answer}");
}

#[tokio::test]
async fn an_idempotent_request_that_breaks_goes_to_another_endpoint() {
    let (breaks, live) = (Backend::start(|_| Does::Breaks).await, Backend::named("live").await);
    let site = Site::over(&[&breaks, &live]);
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PUT"] {
        let mut answers = Vec::new();
        for _ in 0..2 {
            let body = if method == "PUT" { "Content-Length: 5\r\n\r\nhello" } else { "\r\n" };
            let mut client = site.client().await;
            client.send(&format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{body}")).await;
            answers.push(status(&client.rest().await));
        }
        assert_eq!(answers, [200, 200], "{method}");
    }
    let bodies = live.seen().iter().filter(|it| it.ends_with("\r\n\r\nhello")).count();
    assert_eq!(bodies, 2, "the body was sent again, whole");
}

#[tokio::test]
async fn a_request_that_may_have_been_carried_out_is_not_sent_again() {
    let (one, two) = (Backend::start(|_| Does::Breaks).await, Backend::start(|_| Does::Breaks).await);
    let site = Site::over(&[&one, &two]);
    let answer = site.client().await.post("order").await;
    assert_eq!(status(&answer), 502);
    assert!(answer.contains("endpoint_broke_off"), "{answer}");
    assert_eq!(one.seen().len() + two.seen().len(), 1);
}

#[tokio::test]
async fn a_large_upload_is_not_kept_and_not_sent_again() {
    let (one, two) = (Backend::start(|_| Does::Breaks).await, Backend::start(|_| Does::Breaks).await);
    let site = Site::over(&[&one, &two]);
    let body = "x".repeat(100_000);
    let put = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(status(&site.client().await.ask(&put).await), 502);
    assert_eq!(one.seen().len() + two.seen().len(), 1);
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_sent_again() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let backend = Backend::start(move |_| Does::AnswersAndCloses(half.into())).await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("half"), "{answer}");
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_endpoint_closed_costs_nothing() {
    // Closes after every answer, without saying so.
    let backend =
        Backend::start(|_| Does::AnswersAndCloses("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into()))
            .await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    for turn in 0..200 {
        let answer =
            if turn % 2 == 0 { client.get("/").await } else { get_after_close(&mut client, &backend).await };
        assert_eq!(status(&answer), 200, "{answer}");
    }
}

async fn get_after_close(client: &mut kit::Client, backend: &Backend) -> String {
    let closed = backend.seen().len();
    backend.until("closed", |it| it.closed() == closed).await;
    client.post("x").await
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let (one, two) = (Backend::start(|_| Does::Breaks).await, Backend::start(|_| Does::Breaks).await);
    let never = EjectionPolicy { failures: u32::MAX, ..EjectionPolicy::default() };
    let options = Options { retry_ratio: 0.0, retries_per_second: 1, ejection: never, ..Options::default() };
    let site = Site::with(&[&one, &two], options);
    for _ in 0..50 {
        assert_eq!(status(&site.client().await.get("/").await), 502);
    }
    let sent = one.seen().len() + two.seen().len();
    assert_eq!(sent, 60, "fifty requests, and ten retries in ten seconds");
}

#[tokio::test]
async fn an_endpoint_that_fails_five_times_in_a_row_is_passed_over_and_a_new_run_of_it_is_not() {
    let broken = AtomicBool::new(true);
    let broken = std::sync::Arc::new(broken);
    let sick = {
        let broken = std::sync::Arc::clone(&broken);
        let unwell = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        move |_: &str| if broken.load(Ordering::SeqCst) { Does::Answers(unwell.into()) } else { ok("well") }
    };
    let (bad, good) = (Backend::start(sick).await, Backend::named("good").await);
    let site = Site::over(&[&bad, &good]);
    let mut client = site.client().await;
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(status(&client.get("/").await));
    }
    assert_eq!(answers.iter().filter(|it| **it == 503).count(), 5, "{answers:?}");
    assert!(site.metrics().contains(r#"ejections_total{service="web"} 1"#));
    broken.store(false, Ordering::SeqCst);
    site.publish(vec![endpoint("web-0", 2, bad.address), endpoint("web-1", 1, good.address)]);
    let before = bad.seen().len();
    for _ in 0..10 {
        client.get("/").await;
    }
    assert_eq!(bad.seen().len() - before, 5, "the new run takes its turn at once");
}

#[tokio::test]
async fn the_last_endpoint_is_never_passed_over() {
    let backend =
        Backend::start(|_| Does::Answers("HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n".into())).await;
    let site = Site::over(&[&backend]);
    let mut client = site.client().await;
    for _ in 0..20 {
        assert_eq!(status(&client.get("/").await), 502);
    }
    assert_eq!(backend.seen().len(), 20);
}

#[tokio::test]
async fn what_was_passed_over_is_used_when_it_is_all_that_is_left() {
    let count = AtomicUsize::new(0);
    let flaky =
        move |_: &str| if count.fetch_add(1, Ordering::SeqCst) < 5 { Does::Breaks } else { ok("flaky") };
    let (bad, good) = (Backend::start(flaky).await, Backend::named("good").await);
    let ejection = EjectionPolicy { base: Duration::from_secs(3600), ..EjectionPolicy::default() };
    let site = Site::with(&[&bad, &good], Options { ejection, ..Options::default() });
    let mut client = site.client().await;
    for _ in 0..20 {
        assert_eq!(status(&client.get("/").await), 200);
    }
    assert_eq!(bad.seen().len(), 5, "passed over now");
    site.publish(vec![endpoint("web-0", 1, bad.address)]);
    assert!(client.get("/").await.ends_with("flaky"));
}
