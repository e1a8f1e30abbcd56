//! The chain of causes, over the API.

use hale_api::explain::{StepKind, SubjectKind};
use hale_server::Limits;
use tokio::net::TcpListener;

use super::hale::{Hale, ready};

#[tokio::test]
async fn what_happened_before_a_restart_of_hale_is_explained_too() {
    let hale = Hale::start().await;
    hale.store.append(ready("web-0"));
    hale.store.append(ready("old-0"));
    let (dir, _) = hale.stop().await;
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hale = Hale::start_in(dir, tcp, Limits::default()).await;

    let replica = hale.client().explain("web-0").await.unwrap();
    assert_eq!(replica.kind, SubjectKind::Replica);
    let texts: Vec<_> = replica.steps.iter().map(|it| (it.kind, it.text.as_str())).collect();
    assert_eq!(texts[0], (StepKind::Event, "ready: readiness: 1/1"));
    assert_eq!(texts.last().unwrap().0, StepKind::Now);

    let workload = hale.client().explain("web").await.unwrap();
    assert_eq!(
        workload.replicas.iter().map(|it| it.subject.as_str()).collect::<Vec<_>>(),
        ["web-0", "web-1"]
    );
    assert_eq!(hale.client().explain("billing").await.unwrap().kind, SubjectKind::Target);
    let gone = hale.client().explain("old-0").await.unwrap();
    assert!(gone.summary.starts_with("not declared now"), "{}", gone.summary);
    hale.stop().await;
}
