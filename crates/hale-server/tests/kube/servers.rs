//! Several servers on one PostgreSQL: what one is told all know, and nothing hangs on the memory of one (S3, K9).

use std::time::Duration;

use hale_api::kube::{DiagnosticsStatus, StatusQuery};
use hale_model::Status;
use hale_server::kube::Options;
use hale_store::Store;
use hale_testkit::Postgres;

use super::{
    diagnostics::bundle,
    kit::{Server, entry, report, until},
};

async fn server(url: &str, options: Options) -> Server {
    Server::on(Store::connect(url, hale_store::Options::default()).await.unwrap(), options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_server_is_asked_it_is_the_same() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let options =
        Options { claim: Duration::from_millis(500), lease: Duration::from_secs(1), ..Options::default() };
    let (a, b) = (server(&url, options.clone()).await, server(&url, options).await);
    let object = a.shop().await;

    // The agent's stream is with b, the person's request with a.
    let mut stream =
        until("registered at a, heard of at b", async || b.as_("eu-1").agent_stream("eu-1").await.ok()).await;
    let asked = a.as_("olga").request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let told = loop {
        let push = tokio::time::timeout(super::kit::PATIENCE, stream.next()).await.unwrap().unwrap();
        if let hale_api::AgentPush::Diagnostics(it) = push {
            break it.id;
        }
    };
    assert_eq!(told, asked.request_id);

    // Both are asked for the same claim at once: one gives it.
    let (eu_a, eu_b) = (a.as_("eu-1"), b.as_("eu-1"));
    let (one, other) = tokio::join!(eu_a.claim_diagnostics(&told), eu_b.claim_diagnostics(&told));
    assert_eq!(u8::from(one.is_ok()) + u8::from(other.is_ok()), 1, "{one:?} {other:?}");
    // It runs out, whoever gave it; the result goes to the other server and is read at the first.
    until("given again", async || {
        let again = eu_b.claim_diagnostics(&told).await;
        again.ok().filter(|it| it.claims == 2)
    })
    .await;
    eu_b.post_diagnostics_result(&told, &bundle("here")).await.unwrap();
    let read = until("read at a", async || {
        let now = a.as_("vera").diagnostics(&told).await.unwrap();
        (now.status == DiagnosticsStatus::Completed).then_some(now)
    })
    .await;
    assert_eq!(read.result.unwrap()["log_tails"]["web-1/app"][0], "here");

    // Reports in turn to either: none is lost, the older never wins.
    for n in 0..10 {
        let status = if n % 2 == 0 { Status::Failing } else { Status::Healthy };
        let to = if n % 3 == 0 { &eu_a } else { &eu_b };
        let answer = to.report_health("eu-1", &report(&[entry(&object.id, status, &[])])).await.unwrap();
        assert_eq!(answer.accepted, 1);
    }
    for it in [&a, &b] {
        until("healthy everywhere", async || {
            let stack = it.as_("vera").stack_health("shop", &StatusQuery::default()).await.unwrap();
            (stack.overall_status == Status::Healthy).then_some(())
        })
        .await;
    }
    let events = b.events("shop").await;
    let told: Vec<&str> =
        events.iter().map(|it| it.data.kind()).filter(|it| it.starts_with("dev.hale.deployment")).collect();
    let pair = ["dev.hale.deployment.failing", "dev.hale.deployment.recovered"];
    assert_eq!(told, pair.repeat(5), "each change is told once, in order");

    // The server that looks for silence goes: the other takes over.
    drop(stream);
    let stale = hale_api::kube::KubeAgentRegistration { stale_after_seconds: Some(1), ..Default::default() };
    b.register("eu-1", stale).await;
    a.stop().await;
    until("unknown, by the one that is left", async || {
        let stack = b.as_("vera").stack_health("shop", &StatusQuery::default()).await.unwrap();
        (stack.overall_status == Status::Unknown).then_some(())
    })
    .await;
    b.stop().await;
}
