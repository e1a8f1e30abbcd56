//! Diagnostics on request (K9).

use std::time::Duration;

use hale_api::{
    Code,
    kube::{
        Bundle, Collected, CollectedState, DiagnosticsQuery, DiagnosticsRequest, DiagnosticsResult,
        DiagnosticsStatus, KubeAgentRegistration,
    },
};
use hale_model::event::EventData;
use hale_server::kube::Options;
use jiff::Timestamp;
use serde_json::json;

use super::kit::{Server, problem, until};

pub(crate) fn bundle(line: &str) -> DiagnosticsResult {
    let logs = [("web-1/app".to_owned(), vec![line.to_owned()])];
    DiagnosticsResult::Completed {
        result: Box::new(Bundle {
            collected_at: Timestamp::now(),
            pod_statuses: Vec::new(),
            events: Vec::new(),
            log_tails: logs.into(),
            resources: Vec::new(),
            collection: vec![Collected { part: "logs".to_owned(), state: CollectedState::Ok, error: None }],
        }),
    }
}

#[tokio::test]
async fn what_is_asked_for_is_taken_collected_posted_and_read() {
    let server = Server::start().await;
    let object = server.shop().await;
    let (olga, eu) = (server.as_("olga"), server.as_("eu-1"));
    assert_eq!(
        problem(server.as_("vera").request_diagnostics(&object.id, &Default::default()).await).status,
        403
    );
    let asked = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    assert_eq!(asked.status, DiagnosticsStatus::Pending);
    let left = asked.expires_at.duration_since(Timestamp::now()).as_secs();
    assert!((3500..=3600).contains(&left), "an hour: {left}");
    let pending = eu.pending_diagnostics("eu-1").await.unwrap().requests;
    assert_eq!(
        (pending.len(), &pending[0].id, &pending[0].deployment_object_id),
        (1, &asked.request_id, &object.id)
    );

    let claimed = eu.claim_diagnostics(&asked.request_id).await.unwrap();
    assert_eq!(
        (claimed.status, claimed.claims, claimed.requested_by.starts_with("olga")),
        (DiagnosticsStatus::Claimed, 1, true)
    );
    assert_eq!(problem(eu.claim_diagnostics(&asked.request_id).await).status, 409);
    assert!(eu.pending_diagnostics("eu-1").await.unwrap().requests.is_empty());
    assert_eq!(olga.diagnostics(&asked.request_id).await.unwrap().result, None);

    let result = bundle("panic: no database");
    let done = eu.post_diagnostics_result(&asked.request_id, &result).await.unwrap();
    assert_eq!(done.status, DiagnosticsStatus::Completed);
    eu.post_diagnostics_result(&asked.request_id, &result).await.expect("the same once more is no mistake");
    let other = eu.post_diagnostics_result(&asked.request_id, &bundle("else")).await;
    assert_eq!(problem(other).status, 409);
    let read = server.as_("vera").diagnostics(&asked.request_id).await.unwrap();
    assert_eq!(read.result.unwrap()["log_tails"]["web-1/app"], json!(["panic: no database"]));
    assert!(read.claimed_at.is_some() && read.completed_at.is_some() && read.error.is_none());

    let query = DiagnosticsQuery {
        status: Some(DiagnosticsStatus::Completed),
        deployment_object_id: Some(object.id),
    };
    assert_eq!(olga.all_diagnostics(&query).await.unwrap().len(), 1);
    let events = server.events("shop").await;
    let ends = events.iter().filter(|it| matches!(it.data, EventData::DiagnosticsCompleted(_))).count();
    assert_eq!(ends, 1, "told once");
    assert_eq!(server.metric("hale_server_diagnostics_ended_total{status=\"completed\"}"), "1");
    server.stop().await;
}

#[tokio::test]
async fn a_result_is_structured_and_as_large_as_eight_mebibytes() {
    let server = Server::start().await;
    let object = server.shop().await;
    let (olga, eu) = (server.as_("olga"), server.as_("eu-1"));
    let asked = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let path = format!("/api/v1/diagnostics/{}/result", asked.request_id);
    let text = serde_json::to_value(bundle("x")).unwrap()["result"].to_string();
    let written_as_text = json!({"status": "completed", "result": text});
    assert_eq!(problem(eu.post::<serde_json::Value>(&path, &written_as_text).await).code, Code::BadRequest);
    let inside =
        json!({"status": "completed", "result": {"collected_at": Timestamp::now(), "pod_statuses": "[]"}});
    assert_eq!(problem(eu.post::<serde_json::Value>(&path, &inside).await).code, Code::BadRequest);
    let large = bundle(&"l".repeat(9 << 20));
    let refused = problem(eu.post_diagnostics_result(&asked.request_id, &large).await);
    assert_eq!(refused.code, Code::BodyTooLarge);

    let line = "l".repeat(7 << 20);
    eu.post_diagnostics_result(&asked.request_id, &bundle(&line)).await.unwrap();
    let read = olga.diagnostics(&asked.request_id).await.unwrap().result.unwrap();
    assert!(read["log_tails"]["web-1/app"][0] == line);
    let all = server.store.load().await.unwrap();
    let bytes: usize = all.records.iter().map(|it| format!("{:?}", it.record).len()).sum();
    assert!(bytes < 100_000, "what every server follows has none of it: {bytes}");
    server.stop().await;
}

#[tokio::test]
async fn a_claim_whose_agent_dies_is_given_again_three_times_and_never_stays_claimed() {
    let server = Server::with(Options { claim: Duration::from_millis(300), ..Options::default() }).await;
    let object = server.shop().await;
    let (olga, eu) = (server.as_("olga"), server.as_("eu-1"));
    let asked = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    for claim in 1..=3 {
        let taken =
            until("it can be taken", async || eu.claim_diagnostics(&asked.request_id).await.ok()).await;
        assert_eq!(taken.claims, claim);
    }
    let failed = until("its end", async || {
        let now = olga.diagnostics(&asked.request_id).await.unwrap();
        (now.status == DiagnosticsStatus::Failed).then_some(now)
    })
    .await;
    assert!(failed.error.unwrap().starts_with("claim_expired"));
    assert_eq!(problem(eu.claim_diagnostics(&asked.request_id).await).status, 409);
    assert_eq!(problem(eu.post_diagnostics_result(&asked.request_id, &bundle("late")).await).status, 409);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_is_told_again_of_a_request_whose_claim_ran_out() {
    let server = Server::with(Options { claim: Duration::from_millis(300), ..Options::default() }).await;
    let object = server.shop().await;
    let (olga, eu) = (server.as_("olga"), server.as_("eu-1"));
    let mut stream = eu.agent_stream("eu-1").await.unwrap();
    let asked = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let mut told = 0;
    while told < 2 {
        let push = tokio::time::timeout(super::kit::PATIENCE, stream.next()).await.unwrap().unwrap();
        if let hale_api::AgentPush::Diagnostics(it) = push {
            assert_eq!(it.id, asked.request_id);
            told += 1;
            eu.claim_diagnostics(&it.id).await.unwrap();
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_has_expired_is_not_told_and_the_sweep_deletes_it_with_its_result() {
    let retention = Duration::from_millis(1500);
    let options = Options { retention, cleanup_interval: Duration::from_millis(100), ..Options::default() };
    let server = Server::with(options).await;
    let object = server.shop().await;
    let (olga, eu) = (server.as_("olga"), server.as_("eu-1"));
    let asked = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    eu.post_diagnostics_result(&asked.request_id, &bundle("x")).await.unwrap();
    let gone = until("404", async || olga.diagnostics(&asked.request_id).await.err()).await;
    assert!(matches!(gone, hale_api::ClientError::NotFound(_)), "{gone}");
    assert!(Timestamp::now() >= asked.expires_at, "not before its time");
    assert!(olga.all_diagnostics(&DiagnosticsQuery::default()).await.unwrap().is_empty());
    until("the sweep", async || server.cluster.snapshot().kube.diagnostics.is_empty().then_some(())).await;
    let texts = server
        .store
        .texts(hale_store::cluster::Kind::Diagnostics, std::slice::from_ref(&asked.request_id))
        .await
        .unwrap();
    assert!(texts.is_empty(), "the result goes with its request");
    assert_eq!(server.metric("hale_server_diagnostics_swept_total"), "1");
    server.stop().await;
}

#[tokio::test]
async fn of_several_agents_one_is_to_be_named_and_one_that_collects_none_fails_at_once() {
    let server = Server::start().await;
    let object = server.shop().await;
    let off = KubeAgentRegistration { diagnostics_enabled: false, ..Default::default() };
    let us_id = server.register("us-1", off).await;
    let olga = server.as_("olga");
    let refused = problem(olga.request_diagnostics(&object.id, &Default::default()).await);
    assert_eq!(refused.status, 409);
    let listed: Vec<&str> = refused.errors.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(listed, ["eu-1", "us-1"]);
    let of = |agent: &str| DiagnosticsRequest { agent_id: Some(agent.to_owned()) };
    assert_eq!(problem(olga.request_diagnostics(&object.id, &of("nobody")).await).status, 409);
    let failed = olga.request_diagnostics(&object.id, &of(&us_id)).await.unwrap();
    assert_eq!(failed.status, DiagnosticsStatus::Failed);
    let read = olga.diagnostics(&failed.request_id).await.unwrap();
    assert_eq!(read.error.as_deref(), Some("diagnostics_disabled"));
    let asked = olga.request_diagnostics(&object.id, &of("eu-1")).await.unwrap();
    assert_eq!(asked.status, DiagnosticsStatus::Pending);

    // Who is superseded is not waited for.
    server.push("shop", "b").await;
    let failed = olga.diagnostics(&asked.request_id).await.unwrap();
    assert_eq!(failed.status, DiagnosticsStatus::Failed);
    assert!(failed.error.unwrap().starts_with("superseded"));
    assert_eq!(problem(olga.request_diagnostics(&object.id, &of("eu-1")).await).status, 409);
    server.stop().await;
}

#[tokio::test]
async fn who_asks_without_end_is_told_to_wait() {
    let server = Server::start().await;
    let object = server.shop().await;
    let olga = server.as_("olga");
    for _ in 0..100 {
        olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    }
    let refused = problem(olga.request_diagnostics(&object.id, &Default::default()).await);
    assert_eq!(refused.code, Code::TooManyRequests);
    server.stop().await;
}
