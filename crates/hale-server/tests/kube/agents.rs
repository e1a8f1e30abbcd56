//! Agents of clusters: who they are, what is desired of them, what they may see (K1, K14).

use std::time::Duration;

use hale_api::{
    AgentPush, Code,
    kube::{
        DeploymentObjectRequest, KubeAgentPatch, KubeAgentRegistration, KubeMode, StackPatch, StackRequest,
    },
};
use hale_model::Status;
use tokio::time::timeout;

use super::kit::{PATIENCE, Server, entry, manifest, problem, report};

#[tokio::test]
async fn an_agent_registers_as_often_as_it_likes_and_a_persons_word_stays() {
    let server = Server::start().await;
    let eu = server.as_("eu-1");
    let wish =
        KubeAgentRegistration { mode: KubeMode::Observe, check_interval_seconds: 20, ..Default::default() };
    let first = eu.register_kube_agent(&wish).await.unwrap();
    assert_eq!((first.name.as_str(), first.mode, first.stale_after_seconds), ("eu-1", KubeMode::Observe, 60));
    let again = KubeAgentRegistration { version: "2".to_owned(), mode: KubeMode::Apply, ..wish.clone() };
    let second = eu.register_kube_agent(&again).await.unwrap();
    assert_eq!((second.agent_id.clone(), second.mode), (first.agent_id, KubeMode::Apply));

    let patch = KubeAgentPatch {
        mode: Some(KubeMode::Observe),
        stacks: Some(["shop".to_owned()].into()),
        ..Default::default()
    };
    server.as_("ann").change_kube_agent("eu-1", &patch).await.unwrap();
    let third = eu.register_kube_agent(&again).await.unwrap();
    assert_eq!(third.mode, KubeMode::Observe, "a person has said");
    let seen = server.as_("vera").kube_agent(&third.agent_id).await.unwrap();
    assert_eq!((seen.stacks.len(), seen.version.as_str(), seen.silent), (1, "2", false));
    assert!(seen.last_seen.is_some());
    assert_eq!(problem(eu.change_kube_agent("eu-1", &patch).await).code, Code::Forbidden);
    assert_eq!(problem(server.as_("ann").register_kube_agent(&wish).await).code, Code::Forbidden);
    let nonsense = KubeAgentRegistration { check_interval_seconds: 0, ..wish };
    assert_eq!(problem(eu.register_kube_agent(&nonsense).await).status, 400);
    server.stop().await;
}

#[tokio::test]
async fn what_is_desired_comes_by_name_and_by_labels_and_a_long_poll_wakes_at_a_change() {
    let server = Server::start().await;
    let object = server.shop().await;
    let (ann, eu) = (server.as_("ann"), server.as_("eu-1"));
    let desired = eu.desired("eu-1", None, Duration::ZERO).await.unwrap();
    assert_eq!(desired.stacks.len(), 1);
    assert_eq!(desired.stacks[0].objects[0].id, object.id);
    assert_eq!(desired.stacks[0].objects[0].yaml, manifest("a"));

    // What is nobody's business of this agent does not wake it.
    ann.create_stack(&StackRequest { name: "other".to_owned(), labels: Default::default() }).await.unwrap();
    let same = eu.desired("eu-1", Some(&desired.revision), Duration::from_millis(50)).await.unwrap();
    assert_eq!(same.revision, desired.revision);

    let waiting = tokio::spawn({
        let (eu, revision) = (eu.clone(), desired.revision.clone());
        async move { eu.desired("eu-1", Some(&revision), Duration::from_secs(25)).await.unwrap() }
    });
    let next = server.push("shop", "b").await;
    let woken = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(woken.stacks[0].objects[0].id, next.id);

    let patch = KubeAgentPatch {
        stacks: Some(Default::default()),
        match_labels: Some([("tier".to_owned(), "web".to_owned())].into()),
        ..Default::default()
    };
    ann.change_kube_agent("eu-1", &patch).await.unwrap();
    assert!(eu.desired("eu-1", None, Duration::ZERO).await.unwrap().stacks.is_empty());
    let labels =
        StackPatch { labels: [("tier", "web"), ("x", "y")].map(|it| (it.0.into(), it.1.into())).into() };
    ann.change_stack("other", &labels).await.unwrap();
    let by_labels = eu.desired("eu-1", None, Duration::ZERO).await.unwrap();
    assert_eq!(by_labels.stacks.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["other"]);
    assert!(by_labels.stacks[0].objects.is_empty(), "it has none yet");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_tells_what_is_desired_and_what_is_asked_for_as_it_happens() {
    let server = Server::start().await;
    let object = server.shop().await;
    let (olga, eu) = (server.as_("olga"), server.as_("eu-1"));
    let before = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let mut stream = eu.agent_stream("eu-1").await.unwrap();
    let first = stream.next().await.unwrap();
    let desired = eu.desired("eu-1", None, Duration::ZERO).await.unwrap();
    assert_eq!(first, AgentPush::Desired { revision: desired.revision });
    let pushed = |push| match push {
        AgentPush::Diagnostics(it) => it,
        other => panic!("{other:?}"),
    };
    let waiting = pushed(stream.next().await.unwrap());
    assert_eq!(waiting.id, before.request_id, "what waited comes at once");
    let now = olga.request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let told = pushed(timeout(PATIENCE, stream.next()).await.unwrap().unwrap());
    assert_eq!((told.id, told.deployment_object_id), (now.request_id, object.id.clone()));

    let marker = DeploymentObjectRequest { yaml: String::new(), deletion_marker: true };
    server.as_("ann").create_deployment_object("shop", &marker).await.unwrap();
    let changed = timeout(PATIENCE, stream.next()).await.unwrap().unwrap();
    assert!(matches!(changed, AgentPush::Desired { .. }));
    server.as_("ann").delete_kube_agent("eu-1").await.unwrap();
    assert!(timeout(PATIENCE, stream.next()).await.unwrap().is_err(), "it ends with its agent");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_is_told_the_same_of_anothers_as_of_what_does_not_exist() {
    let server = Server::start().await;
    let object = server.shop().await;
    server.as_("us-1").register_kube_agent(&KubeAgentRegistration::default()).await.unwrap();
    let us = server.as_("us-1");
    let asked = server.as_("olga").request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let eu_id = server.as_("ann").kube_agent("eu-1").await.unwrap().id;
    let result = hale_api::kube::DiagnosticsResult::Failed { error: "no".to_owned() };

    let mut answers = Vec::new();
    for object in [object.id.as_str(), "no-such-object"] {
        answers.push(problem(us.deployment_object(object).await));
        answers.push(problem(us.deployment_health(object).await));
    }
    for request in [asked.request_id.as_str(), "no-such-request"] {
        answers.push(problem(us.diagnostics(request).await));
        answers.push(problem(us.claim_diagnostics(request).await));
        answers.push(problem(us.post_diagnostics_result(request, &result).await));
    }
    for agent in [eu_id.as_str(), "eu-1", "no-such-agent"] {
        answers.push(problem(us.kube_agent(agent).await));
        answers.push(problem(us.desired(agent, None, Duration::ZERO).await));
        answers.push(problem(us.agent_stream(agent).await));
        answers.push(problem(us.pending_diagnostics(agent).await));
        answers.push(problem(us.agent_health(agent, &Default::default()).await));
        answers.push(problem(us.report_health(agent, &report(&[])).await));
    }
    let first = answers[0].clone();
    assert_eq!(first.status, 403);
    for answer in answers {
        assert_eq!(answer, first);
    }
    // In a report it is by index, and in the same words.
    let entries = [entry(&object.id, Status::Healthy, &[]), entry("no-such-object", Status::Healthy, &[])];
    let answer = us.report_health("us-1", &report(&entries)).await.unwrap();
    assert_eq!((answer.accepted, answer.errors.len()), (0, 2));
    assert_eq!(answer.errors[0].message, answer.errors[1].message);
    assert_eq!(answer.errors[0].code, answer.errors[1].code);
    let untouched = server.as_("vera").diagnostics(&asked.request_id).await.unwrap();
    assert_eq!(untouched.claims, 0);
    server.stop().await;
}
