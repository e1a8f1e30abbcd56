//! Stacks and their deployment objects (K1).

use std::collections::BTreeMap;

use hale_api::{
    Code,
    audit::AuditQuery,
    kube::{DeploymentObjectRequest, StackPatch, StackRequest},
};
use hale_model::Status;

use super::kit::{Server, entry, manifest, problem, report};

#[tokio::test]
async fn a_stack_is_made_once_found_by_id_and_name_and_every_act_is_on_record() {
    let server = Server::start().await;
    let ann = server.as_("ann");
    let labels: BTreeMap<String, String> = [("tier".to_owned(), "web".to_owned())].into();
    let request = StackRequest { name: "shop".to_owned(), labels: labels.clone() };
    let made = ann.create_stack(&request).await.unwrap();
    assert_eq!(ann.create_stack(&request).await.unwrap(), made, "the same once more is found");
    let other = StackRequest { labels: BTreeMap::new(), ..request.clone() };
    assert_eq!(problem(ann.create_stack(&other).await).code, Code::Conflict);
    assert_eq!(
        problem(ann.create_stack(&StackRequest { name: "No Name".to_owned(), ..request }).await).status,
        400
    );

    for name in [&made.id, &made.name] {
        assert_eq!(server.as_("vera").stack(name).await.unwrap(), made);
    }
    let patch = StackPatch { labels: [("tier".to_owned(), "db".to_owned())].into() };
    assert_eq!(ann.change_stack("shop", &patch).await.unwrap().labels, patch.labels);
    assert_eq!(ann.stacks().await.unwrap().len(), 1);
    ann.delete_stack(&made.id).await.unwrap();
    assert_eq!(problem(ann.stack("shop").await).code, Code::NotFound);

    let record = ann.audit(&AuditQuery::default()).await.unwrap();
    let acts: Vec<&str> = record.records.iter().map(|it| it.action.as_str()).collect();
    assert_eq!(acts, ["stack.create", "stack.change", "stack.delete"], "each once, and no refusal");
    server.stop().await;
}

#[tokio::test]
async fn manifests_are_immutable_numbered_and_the_newest_is_current() {
    let server = Server::start().await;
    let ann = server.as_("ann");
    let first = server.shop().await;
    assert_eq!((first.sequence, first.current, first.checksum.len()), (1, true, 64));
    assert_eq!(server.push("shop", "a").await.id, first.id, "the same manifests are found");
    let second = server.push("shop", "b").await;
    assert_eq!((second.sequence, second.current), (2, true));
    let old = ann.deployment_object(&first.id).await.unwrap();
    assert_eq!((old.current, old.yaml), (false, Some(manifest("a"))));
    assert_eq!(server.push("shop", "a").await.sequence, 3, "going back is going on");

    let bad =
        DeploymentObjectRequest { yaml: "apiVersion: v1\nkind: Pod\n".to_owned(), deletion_marker: false };
    let refused = problem(ann.create_deployment_object("shop", &bad).await);
    assert_eq!((refused.status, refused.errors[0].place.as_str()), (422, "manifests:1"));
    assert_eq!(problem(ann.create_deployment_object("none", &bad).await).code, Code::NotFound);

    let marker = DeploymentObjectRequest { yaml: String::new(), deletion_marker: true };
    let marker = ann.create_deployment_object("shop", &marker).await.unwrap();
    assert!(marker.deletion_marker && marker.current);
    ann.delete_deployment_object(&marker.id).await.unwrap();
    assert_eq!(ann.stack("shop").await.unwrap().current.map(|it| it == first.id), Some(false));

    for n in 0..12 {
        server.push("shop", &format!("c{n}")).await;
    }
    let kept = ann.deployment_objects("shop").await.unwrap();
    assert_eq!(kept.len(), 10, "the newest ten are kept");
    assert!(kept.windows(2).all(|it| it[0].sequence > it[1].sequence) && kept[0].current);
    assert_eq!(problem(ann.deployment_object(&first.id).await).code, Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn manifests_of_some_mebibytes_are_taken_and_more_than_eight_are_not() {
    let server = Server::start().await;
    server.shop().await;
    let ann = server.as_("ann");
    let large = |mebibytes: usize| DeploymentObjectRequest {
        yaml: format!("{}data: {{text: {}}}\n", manifest("large"), "x".repeat(mebibytes << 20)),
        deletion_marker: false,
    };
    let made = ann.create_deployment_object("shop", &large(5)).await.unwrap();
    assert_eq!(ann.deployment_object(&made.id).await.unwrap().yaml.unwrap().len(), large(5).yaml.len());
    assert_eq!(problem(ann.create_deployment_object("shop", &large(9)).await).code, Code::BodyTooLarge);
    // What every server follows has none of it.
    let all = server.store.load().await.unwrap();
    let bytes: usize = all.records.iter().map(|it| format!("{:?}", it.record).len()).sum();
    assert!(bytes < 100_000, "{bytes}");
    server.stop().await;
}

#[tokio::test]
async fn with_a_stack_go_its_objects_statuses_and_requests() {
    let server = Server::start().await;
    let object = server.shop().await;
    server
        .as_("eu-1")
        .report_health("eu-1", &report(&[entry(&object.id, Status::Healthy, &[])]))
        .await
        .unwrap();
    let asked = server.as_("olga").request_diagnostics(&object.id, &Default::default()).await.unwrap();
    let ann = server.as_("ann");
    ann.delete_stack("shop").await.unwrap();
    assert_eq!(problem(ann.deployment_object(&object.id).await).code, Code::NotFound);
    assert_eq!(problem(ann.deployment_health(&object.id).await).code, Code::NotFound);
    assert_eq!(problem(ann.diagnostics(&asked.request_id).await).code, Code::NotFound);
    let snapshot = server.cluster.snapshot();
    let kube = &snapshot.kube;
    assert!(kube.health.is_empty() && kube.objects.is_empty() && kube.diagnostics.is_empty());
    assert!(ann.agent_health("eu-1", &Default::default()).await.unwrap().deployment_objects.is_empty());
    server.stop().await;
}
