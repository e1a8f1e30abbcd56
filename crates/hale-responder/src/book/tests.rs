use serde_json::json;

use super::*;

fn run(id: &str, state: &str, queued_at: Timestamp) -> Run {
    serde_json::from_value(json!({
        "id": id, "responder": "triage", "alert": format!("a-{id}"), "cluster": "eu", "severity": "error",
        "fault_type": "CrashLoop", "resource": {"kind": "Pod", "name": "web"}, "rule": "all", "autonomy": "act",
        "state": state, "queued_at": queued_at
    }))
    .unwrap()
}

fn alert(run: &Run) -> AlertRecord {
    serde_json::from_value(json!({
        "alert": {
            "id": run.alert, "cluster": "eu", "source": "webhook", "severity": "error", "fault_type": "CrashLoop",
            "resource": {"kind": "Pod", "name": "web"}, "timestamp": run.queued_at, "received_at": run.queued_at
        },
        "outcome": "accepted", "run": run.id
    }))
    .unwrap()
}

fn batch(runs: &[Run]) -> Batch {
    Batch {
        alerts: runs.iter().map(alert).collect(),
        runs: runs.to_vec(),
        cursors: BTreeMap::from([("eu".to_owned(), "7".to_owned())]),
    }
}

fn hours_ago(hours: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 - hours * 3600).unwrap()
}

#[tokio::test]
async fn what_was_written_is_there_after_the_file_was_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("responder.db");
    let book = Book::open(&path).await.unwrap();
    let runs = [
        run("1", "succeeded", hours_ago(5)),
        run("2", "queued", hours_ago(4)),
        run("3", "failed", hours_ago(0)),
        run("4", "awaiting_approval", hours_ago(3)),
    ];
    book.commit(&batch(&runs)).await.unwrap();
    // A person said yes: it is queued as of now, and ended.
    book.commit(&Batch { runs: vec![run("4", "succeeded", hours_ago(0))], ..Batch::default() })
        .await
        .unwrap();
    book.close().await;
    drop(book);
    let book = Book::open(&path).await.unwrap();
    let known = book.load(hours_ago(0), Duration::from_secs(3600)).await.unwrap();
    let ids: Vec<&str> = known.runs.iter().map(|(run, _)| run.id.as_str()).collect();
    assert_eq!(ids, ["2", "3", "4"], "what is not over, and what is recent, by the time it was queued");
    assert_eq!(known.cursors["eu"], "7");
    let query = hale_api::runs::RunQuery { limit: Some(3), ..Default::default() };
    let page = book.runs(&query).await.unwrap();
    assert_eq!((page.runs.len(), page.runs[0].id.as_str(), page.next.as_deref()), (3, "4", Some("2")));
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_what_is_not_over_keeps_its_alert() {
    let dir = tempfile::tempdir().unwrap();
    let book = Book::open(&dir.path().join("responder.db")).await.unwrap();
    let runs = [
        run("1", "succeeded", hours_ago(50)),
        run("2", "queued", hours_ago(50)),
        run("3", "failed", hours_ago(1)),
    ];
    book.commit(&batch(&runs)).await.unwrap();
    let keep = Keep { age: Duration::from_secs(48 * 3600), alerts: 0 };
    assert_eq!(book.retain(hours_ago(0), keep).await.unwrap(), 1);
    assert!(book.run("1").await.unwrap().is_none());
    let (alert, _) = book.alerts_of(&runs[1]).await.unwrap();
    assert!(alert.is_some(), "it is needed to run it");
    assert_eq!(book.alerts().await.unwrap().len(), 1, "beyond the bound the oldest go");
}

#[tokio::test]
async fn a_file_of_a_newer_hale_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("responder.db");
    drop(Book::open(&path).await.unwrap());
    let mut file = schema::open(&path).await.unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut file).await.unwrap();
    drop(file);
    assert!(matches!(Book::open(&path).await, Err(BookError::Newer { .. })));
}
