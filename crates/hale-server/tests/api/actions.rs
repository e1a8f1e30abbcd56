//! Restarting, stopping, pausing.

use std::time::Duration;

use hale_api::{
    Collection,
    operation::{ActionRequest, Operation, OperationState, StepState, Verb},
};
use hale_model::{Phase, ProbeKind};
use hale_server::control::{Order, Subject};

use super::hale::Hale;

async fn act(hale: &Hale, on: Collection, name: &str, verb: Verb, request: &ActionRequest) -> Operation {
    hale.client().act(on, name, verb, request).await.unwrap()
}

async fn ended(hale: &Hale, mut operation: Operation) -> Operation {
    while operation.state == OperationState::Running {
        operation = hale.client().operation(operation.id, Some(operation.revision)).await.unwrap();
    }
    operation
}

fn states(operation: &Operation) -> Vec<StepState> {
    operation.steps.iter().map(|it| it.state).collect()
}

#[tokio::test]
async fn a_restart_is_done_when_every_replica_is_ready_again() {
    let hale = Hale::start().await;
    let operation = act(&hale, Collection::Workloads, "web", Verb::Restart, &ActionRequest::default()).await;
    assert_eq!(operation.state, OperationState::Running);
    assert_eq!(*hale.node.on_record.lock().unwrap(), 1, "it is on record before it is carried out");
    for name in ["web-0", "web-1"] {
        assert_ne!(states(&operation), [StepState::Done, StepState::Done]);
        hale.node.replica(name, |it| {
            it.phase = Phase::Running;
            it.ready = true;
        });
    }
    let operation = ended(&hale, operation).await;
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(states(&operation), [StepState::Done, StepState::Done]);
    hale.stop().await;
}

#[tokio::test]
async fn a_restart_that_never_becomes_ready_fails_and_says_how_far_it_came() {
    let hale = Hale::start().await;
    let operation = act(&hale, Collection::Workloads, "web", Verb::Restart, &ActionRequest::default()).await;
    hale.node.replica("web-0", |it| {
        it.phase = Phase::Running;
        it.ready = true;
    });
    let operation = ended(&hale, operation).await;
    assert_eq!(operation.state, OperationState::Failed);
    assert_eq!(states(&operation), [StepState::Done, StepState::Running]);
    assert_eq!(operation.error.unwrap(), "not ready within 700ms: web-1 (starting, not ready)");
    hale.stop().await;
}

#[tokio::test]
async fn a_restart_ends_at_once_when_the_replica_is_given_up() {
    let hale = Hale::start().await;
    let operation = act(&hale, Collection::Replicas, "web-1", Verb::Restart, &ActionRequest::default()).await;
    hale.node.replica("web-1", |it| {
        it.phase = Phase::Failed;
        it.last_error = Some("exit 125 is permanent".to_owned());
    });
    let operation = ended(&hale, operation).await;
    assert_eq!(operation.error.unwrap(), "web-1: exit 125 is permanent");
    hale.stop().await;
}

#[tokio::test]
async fn a_stop_is_done_when_it_has_ended_and_a_start_of_what_runs_asks_for_nothing() {
    let hale = Hale::start().await;
    let operation = act(&hale, Collection::Replicas, "web-0", Verb::Stop, &ActionRequest::default()).await;
    assert_eq!(operation.state, OperationState::Running);
    hale.node.replica("web-0", |it| it.phase = Phase::Stopped);
    assert_eq!(ended(&hale, operation).await.state, OperationState::Succeeded);
    hale.stop().await;
}

#[tokio::test]
async fn a_pause_carries_who_why_and_how_long_and_is_on_record() {
    let hale = Hale::start().await;
    let request = ActionRequest {
        by: Some("ada".to_owned()),
        reason: Some("deploying".to_owned()),
        for_seconds: Some(1.5),
        probe: Some(ProbeKind::Liveness),
    };
    let operation = act(&hale, Collection::Workloads, "web", Verb::Pause, &request).await;
    assert_eq!(operation.state, OperationState::Succeeded);
    let expected = Order {
        on: Subject::Workload("web".to_owned()),
        verb: Verb::Pause,
        by: "ada via cli".to_owned(),
        from: "127.0.0.1".to_owned(),
        reason: "deploying".to_owned(),
        lasting: Some(Duration::from_millis(1500)),
        probe: Some(ProbeKind::Liveness),
    };
    assert_eq!(*hale.node.orders.lock().unwrap(), [expected]);
    act(&hale, Collection::Targets, "billing", Verb::Resume, &ActionRequest::default()).await;
    assert_eq!(hale.node.orders.lock().unwrap().len(), 2);
    hale.stop().await;
}
