//! How things are: reported, added up, remembered, unknown when nobody tells (K8, K13).

use hale_api::{
    Client,
    kube::{DeploymentHealth, EntryErrorCode, KubeAgentRegistration, ReportedHealth, StatusQuery},
};
use hale_model::{Status, event::EventData};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::kit::{Server, entry, problem, report, until};

async fn told(server: &Server, subject: &str) -> Vec<&'static str> {
    let events = server.events(subject).await;
    events.iter().map(|it| it.data.kind()).filter(|it| it.starts_with("dev.hale.deployment")).collect()
}

async fn health(server: &Server, object: &str) -> DeploymentHealth {
    server.as_("vera").deployment_health(object).await.unwrap()
}

#[tokio::test]
async fn what_was_never_told_is_unknown_and_what_is_told_is_there_at_once() {
    let server = Server::start().await;
    let object = server.shop().await;
    let before = health(&server, &object.id).await;
    assert_eq!((before.status, before.checked_at, before.agents.len()), (Status::Unknown, None, 1));
    let all = server.as_("vera").stack_health("shop", &StatusQuery::default()).await.unwrap();
    assert_eq!((all.overall_status, all.deployment_objects.len()), (Status::Unknown, 1));

    let sent = entry(&object.id, Status::Failing, &["CrashLoopBackOff"]);
    let answer =
        server.as_("eu-1").report_health("eu-1", &report(std::slice::from_ref(&sent))).await.unwrap();
    assert_eq!((answer.accepted, answer.errors.len(), answer.clock_skew), (1, 0, false));
    let now = health(&server, &object.id).await;
    assert_eq!((now.status, &now.summary, now.stale), (Status::Failing, &sent.summary, false));
    let listed = server
        .as_("eu-1")
        .agent_health("eu-1", &StatusQuery { status: Some(Status::Failing) })
        .await
        .unwrap();
    assert_eq!(listed.deployment_objects.len(), 1);
    let none = server
        .as_("eu-1")
        .agent_health("eu-1", &StatusQuery { status: Some(Status::Healthy) })
        .await
        .unwrap();
    assert!(none.deployment_objects.is_empty());
    assert_eq!(told(&server, "shop").await, ["dev.hale.deployment.failing"]);
    let events = server.events("shop").await;
    let Some(EventData::DeploymentFailing(data)) =
        events.iter().map(|it| &it.data).find(|it| matches!(it, EventData::DeploymentFailing(_)))
    else {
        panic!("{events:?}")
    };
    assert_eq!(
        (data.stack.as_str(), data.agent.as_str(), &data.deployment_object_id),
        ("shop", "eu-1", &object.id)
    );
    assert_eq!(server.metric("hale_server_deployment_objects{status=\"failing\"}"), "1");
    assert_eq!(server.metric("hale_server_health_reports_total"), "1");
    server.stop().await;
}

#[tokio::test]
async fn a_bad_entry_is_named_by_its_place_and_the_good_ones_are_taken() {
    let server = Server::start().await;
    let object = server.shop().await;
    let good = entry(&object.id, Status::Healthy, &["SomethingOfTomorrow"]);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(&good).unwrap();
        change(&mut value);
        value
    };
    let body = json!({"deployment_objects": [
        with(&|it| it["status"] = json!("splendid")),
        with(&|it| it["summary"]["pods_ready"] = json!(2)),
        // What the system before this one did: JSON written as text.
        with(&|it| it["summary"] = json!(it["summary"].to_string())),
        with(&|it| it["checked_at"] = json!("yesterday")),
        {"status": "healthy"},
        "nonsense",
        with(&|it| it["id"] = json!("no-such-object")),
        good,
    ]});
    let answer: hale_api::kube::HealthReportAnswer = patch(&server.as_("eu-1"), body).await;
    assert_eq!(answer.accepted, 1);
    let places: Vec<(u32, EntryErrorCode)> = answer.errors.iter().map(|it| (it.index, it.code)).collect();
    let invalid = (0..6).map(|it| (it, EntryErrorCode::Invalid));
    assert_eq!(places, invalid.chain([(6, EntryErrorCode::NotYours)]).collect::<Vec<_>>());
    assert_eq!(health(&server, &object.id).await.status, Status::Healthy);
    let many: Vec<_> = (0..2001).map(|_| good.clone()).collect();
    assert_eq!(problem(server.as_("eu-1").report_health("eu-1", &report(&many)).await).status, 400);
    server.stop().await;
}

/// A report of whatever form.
async fn patch<T: serde::de::DeserializeOwned>(client: &Client, body: serde_json::Value) -> T {
    client.patch("/api/v1/agents/eu-1/health-status", &body).await.unwrap()
}

#[tokio::test]
async fn an_older_report_changes_nothing_even_when_the_newer_one_had_no_news() {
    let server = Server::start().await;
    let object = server.shop().await;
    let eu = server.as_("eu-1");
    let at = |seconds: i64, status| {
        let checked_at = Timestamp::now() - SignedDuration::from_secs(100 - seconds);
        hale_api::kube::HealthEntry { checked_at, ..entry(&object.id, status, &[]) }
    };
    for (seconds, status) in [(10, Status::Healthy), (20, Status::Healthy), (15, Status::Failing)] {
        assert_eq!(eu.report_health("eu-1", &report(&[at(seconds, status)])).await.unwrap().accepted, 1);
    }
    let now = health(&server, &object.id).await;
    assert_eq!(now.status, Status::Healthy);
    let age = Timestamp::now().duration_since(now.checked_at.unwrap()).as_secs();
    assert!((79..=90).contains(&age), "the look without news counts: {age} s ago");
    assert!(told(&server, "shop").await.is_empty());
    let ahead = hale_api::kube::HealthEntry {
        checked_at: Timestamp::now() + SignedDuration::from_hours(5),
        ..entry(&object.id, Status::Failing, &[])
    };
    assert!(eu.report_health("eu-1", &report(&[ahead])).await.unwrap().clock_skew);
    let now = health(&server, &object.id).await;
    assert!(now.agents[0].clock_skew && now.checked_at.unwrap() <= Timestamp::now());
    server.stop().await;
}

#[tokio::test]
async fn of_several_agents_the_worst_counts_and_a_restart_of_the_server_changes_nothing() {
    let server = Server::start().await;
    let object = server.shop().await;
    server.register("us-1", KubeAgentRegistration::default()).await;
    let failing = entry(&object.id, Status::Failing, &["OOMKilled"]);
    let degraded = entry(&object.id, Status::Degraded, &["Evicted"]);
    server.as_("us-1").report_health("us-1", &report(&[failing])).await.unwrap();
    assert_eq!(health(&server, &object.id).await.checked_at, None, "one has not told yet");
    server.as_("eu-1").report_health("eu-1", &report(&[degraded])).await.unwrap();
    let before = health(&server, &object.id).await;
    assert_eq!((before.status, before.summary.pods_total, before.agents.len()), (Status::Failing, 2, 2));
    let conditions: Vec<&str> = before.summary.conditions.iter().map(String::as_str).collect();
    assert_eq!(conditions, ["Evicted", "OOMKilled"], "the later degraded one hides nothing");
    // One agent is told of its own cluster alone.
    assert_eq!(server.as_("eu-1").deployment_health(&object.id).await.unwrap().agents.len(), 1);

    let server = server.again().await;
    assert_eq!(health(&server, &object.id).await, before);
    let history = server.as_("vera").deployment_history(&object.id).await.unwrap();
    assert_eq!(history.agents.iter().map(|it| it.changes.len()).collect::<Vec<_>>(), [1, 1]);
    server.stop().await;
}

#[tokio::test]
async fn of_a_superseded_object_nothing_lingers_and_its_trouble_ends_with_the_next_one() {
    let server = Server::start().await;
    let first = server.shop().await;
    let eu = server.as_("eu-1");
    eu.report_health("eu-1", &report(&[entry(&first.id, Status::Failing, &["ImagePullBackOff"])]))
        .await
        .unwrap();
    let second = server.push("shop", "b").await;
    let stack = server.as_("vera").stack_health("shop", &StatusQuery::default()).await.unwrap();
    assert_eq!(stack.deployment_objects.len(), 1);
    assert_eq!(stack.deployment_objects[0].deployment_object_id, second.id);
    assert_eq!((stack.overall_status, stack.deployment_objects[0].checked_at), (Status::Unknown, None));
    let listed: Vec<ReportedHealth> =
        eu.agent_health("eu-1", &StatusQuery::default()).await.unwrap().deployment_objects;
    assert!(listed.is_empty(), "{listed:?}");
    // The agent is behind: what it still tells of the old one is refused by index, not kept.
    let entries = [entry(&first.id, Status::Failing, &[]), entry(&second.id, Status::Healthy, &[])];
    let answer = eu.report_health("eu-1", &report(&entries)).await.unwrap();
    assert_eq!((answer.accepted, answer.errors[0].code), (1, EntryErrorCode::Superseded));
    assert_eq!(told(&server, "shop").await, ["dev.hale.deployment.failing", "dev.hale.deployment.recovered"]);
    assert_eq!(health(&server, &first.id).await.agents[0].status, Status::Unknown);
    server.stop().await;
}

#[tokio::test]
async fn a_silent_agent_makes_unknown_what_it_watched_and_its_next_word_mends_that() {
    let server = Server::start().await;
    let object = server.shop().await;
    let stale = KubeAgentRegistration { stale_after_seconds: Some(1), ..Default::default() };
    server.register("eu-1", stale).await;
    let eu = server.as_("eu-1");
    let sent = entry(&object.id, Status::Healthy, &[]);
    eu.report_health("eu-1", &report(&[sent])).await.unwrap();
    let silent = until("silence", async || {
        let now = health(&server, &object.id).await;
        (now.status == Status::Unknown).then_some(now)
    })
    .await;
    assert!(silent.stale && silent.agents[0].stale);
    assert_eq!(silent.summary.pods_ready, 1, "what was last seen is still told");
    assert!(server.as_("vera").kube_agent("eu-1").await.unwrap().silent);
    assert_eq!(server.metric("hale_server_kube_agents{state=\"silent\"}"), "1");

    eu.report_health("eu-1", &report(&[entry(&object.id, Status::Healthy, &[])])).await.unwrap();
    let back = health(&server, &object.id).await;
    assert_eq!((back.status, back.stale), (Status::Healthy, false));
    let history = server.as_("vera").deployment_history(&object.id).await.unwrap();
    let to: Vec<Status> = history.agents[0].changes.iter().map(|it| it.to).collect();
    assert_eq!(to, [Status::Healthy, Status::Unknown, Status::Healthy]);
    assert!(told(&server, "shop").await.is_empty(), "silence is no trouble of the deployment");
    server.stop().await;
}

#[tokio::test]
async fn an_open_stream_is_a_sign_of_life() {
    let server = Server::start().await;
    let object = server.shop().await;
    let stale = KubeAgentRegistration { stale_after_seconds: Some(2), ..Default::default() };
    server.register("eu-1", stale).await;
    let eu = server.as_("eu-1");
    eu.report_health("eu-1", &report(&[entry(&object.id, Status::Healthy, &[])])).await.unwrap();
    let mut stream = eu.agent_stream("eu-1").await.unwrap();
    // As long as the stream is read the agent is heard, over more than two of its times.
    let listening = tokio::time::timeout(std::time::Duration::from_secs(5), async {
        while stream.next().await.is_ok() {}
    });
    assert!(listening.await.is_err(), "the stream goes on");
    assert_eq!(health(&server, &object.id).await.status, Status::Healthy);
    drop(stream);
    until("silence once the stream is gone", async || {
        (health(&server, &object.id).await.status == Status::Unknown).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn with_an_agent_goes_what_it_told_and_what_it_is_given_no_more_is_forgotten() {
    let server = Server::start().await;
    let object = server.shop().await;
    server.register("us-1", KubeAgentRegistration::default()).await;
    for agent in ["eu-1", "us-1"] {
        let sent = entry(&object.id, Status::Failing, &[]);
        server.as_(agent).report_health(agent, &report(&[sent])).await.unwrap();
    }
    let ann = server.as_("ann");
    ann.delete_kube_agent("us-1").await.unwrap();
    assert_eq!(health(&server, &object.id).await.agents.len(), 1);
    let patch = hale_api::kube::KubeAgentPatch { stacks: Some(Default::default()), ..Default::default() };
    ann.change_kube_agent("eu-1", &patch).await.unwrap();
    assert!(health(&server, &object.id).await.agents.is_empty(), "at once");
    until("the records go, too", async || server.cluster.snapshot().kube.health.is_empty().then_some(()))
        .await;
    let gone = server.as_("us-1").report_health("us-1", &report(&[])).await;
    assert_eq!(problem(gone).status, 404, "it is to register again");
    server.stop().await;
}
