//! Declaring, scaling and deleting over the API, with a real cluster behind it.

use hale_api::{
    ClientError, Code,
    audit::AuditQuery,
    declare::{Applied, AppliedChange, ApplyRequest, DocumentText},
    nodes::NodeVerb,
};

use super::hale::{Hale, raw, request};

const WEB: &str = "kind: Workload\nname: web\nreplicas: 2\nprocess: {command: [sleep, '1']}\n";
const FRONT: &str = "kind: Workload\nname: front\nprocess: {command: [sleep, '1']}\ndependsOn: [web]\n";

fn of(texts: &[&str]) -> ApplyRequest {
    let text = |text: &&str| DocumentText {
        text: (*text).to_owned(),
        dir: "/srv".to_owned(),
        origin: "app.yaml".to_owned(),
    };
    ApplyRequest { documents: texts.iter().map(text).collect(), dry_run: false }
}

fn changes(applied: &Applied) -> Vec<(&str, AppliedChange)> {
    applied.applied.iter().map(|it| (it.name.as_str(), it.change)).collect()
}

#[tokio::test]
async fn what_is_declared_is_created_then_unchanged_then_updated_and_is_durable() {
    let hale = Hale::start_cluster().await;
    let client = hale.client();
    let dry = client.apply(&ApplyRequest { dry_run: true, ..of(&[WEB]) }).await.unwrap();
    assert_eq!(changes(&dry), [("web", AppliedChange::Created)]);
    assert!(client.overview().await.unwrap().workloads.is_empty(), "nothing was written");

    let made = client.apply(&of(&[WEB, FRONT])).await.unwrap();
    assert_eq!(changes(&made), [("web", AppliedChange::Created), ("front", AppliedChange::Created)]);
    let again = client.apply(&of(&[WEB])).await.unwrap();
    assert_eq!(changes(&again), [("web", AppliedChange::Unchanged)]);
    let more = client.scale("web", 5).await.unwrap();
    assert_eq!(changes(&more), [("web", AppliedChange::Updated)]);
    let overview = client.overview().await.unwrap();
    assert_eq!(overview.workloads.iter().find(|it| it.name == "web").unwrap().desired, 5);

    let record = client.audit(&AuditQuery::default()).await.unwrap().records;
    assert!(
        record.iter().any(|it| it.subject == "workloads/web"
            && it.by == "cli"
            && it.detail.contains("from 127.0.0.1")),
        "{record:?}"
    );
    let kept = hale.store.load().await.unwrap();
    assert!(kept.records.iter().any(|it| it.key.name == "front"));
    hale.stop().await;
}

#[tokio::test]
async fn one_wrong_document_keeps_all_out_and_every_mistake_has_its_place() {
    let hale = Hale::start_cluster().await;
    let client = hale.client();
    let wrong = "kind: Workload\nname: Bad Name\nprocess: {command: [x]}\nreplica: 3\n";
    let error = client.apply(&of(&[WEB, wrong])).await.unwrap_err();
    let ClientError::Invalid(problem) = error else { panic!("{error:?}") };
    assert_eq!((problem.status, problem.code), (422, Code::InvalidDocument));
    assert!(problem.errors.iter().any(|it| it.place.starts_with("app.yaml:4")), "{problem:?}");
    assert!(client.overview().await.unwrap().workloads.is_empty());

    let error = client.apply(&of(&[FRONT])).await.unwrap_err();
    assert!(matches!(&error, ClientError::Invalid(it) if it.to_string().contains("web")), "{error}");
    let error = client.apply(&of(&[WEB, WEB])).await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_)), "{error}");
    let error = client.apply(&of(&[])).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(it) if it.code == Code::BadRequest), "{error}");
    hale.stop().await;
}

#[tokio::test]
async fn a_workload_file_is_taken_as_it_is() {
    let hale = Hale::start_cluster().await;
    let post = |path: &str, kind: &str, body: &str| {
        request("POST", path, &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len())) + body
    };
    let dry = raw(hale.address, &post("/api/v1/apply?dry_run=true", "text/yaml", WEB)).await;
    assert!(dry.contains("\"change\":\"created\""), "{dry}");
    let made = raw(hale.address, &post("/api/v1/apply", "application/yaml; charset=utf-8", WEB)).await;
    assert!(made.contains(r#"{"applied":[{"kind":"Workload","name":"web","change":"created"}]}"#), "{made}");
    let wrong = raw(hale.address, &post("/api/v1/apply", "text/plain", WEB)).await;
    assert!(wrong.starts_with("HTTP/1.1 415"), "{wrong}");
    let body = r#"{"documents":[{"text":"kind: Workload","dir":"relative"}]}"#;
    let wrong = raw(hale.address, &post("/api/v1/apply", "application/json", body)).await;
    assert!(wrong.starts_with("HTTP/1.1 400"), "{wrong}");
    hale.stop().await;
}

#[tokio::test]
async fn what_others_depend_on_stays_until_they_go() {
    let hale = Hale::start_cluster().await;
    let client = hale.client();
    client.apply(&of(&[WEB, FRONT])).await.unwrap();
    let error = client.undeclare("workloads", "web").await.unwrap_err();
    assert!(matches!(error, ClientError::Invalid(_) | ClientError::Refused(_)), "{error:?}");
    for name in ["front", "web"] {
        let gone = client.undeclare("workloads", name).await.unwrap();
        assert_eq!(changes(&gone), [(name, AppliedChange::Deleted)]);
    }
    let error = client.undeclare("workloads", "web").await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound(_)), "{error:?}");
    assert!(matches!(client.scale("web", 1).await, Err(ClientError::NotFound(_))));
    assert!(matches!(client.node("n1", NodeVerb::Drain, "").await, Err(ClientError::NotFound(_))));
    assert!(matches!(client.delete_node("n1").await, Err(ClientError::NotFound(_))));
    hale.stop().await;
}

#[tokio::test]
async fn where_files_declare_nothing_is_declared_otherwise() {
    let hale = Hale::start().await;
    let error = hale.client().apply(&of(&[WEB])).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(it) if it.code == Code::NotApplicable), "{error:?}");
    hale.stop().await;
}
