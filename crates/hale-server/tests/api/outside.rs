//! The document and the running API, seen by tools of others: a validator of OpenAPI, and schemathesis, which asks
//! whatever the document allows and what it does not.

use std::{path::PathBuf, time::Duration};

use hale_api::declare::{ApplyRequest, DocumentText};
use tokio::{process::Command, time::timeout};

use super::hale::{Hale, TOKEN};

/// A program in the environment that `cargo xtask test` makes.
fn tool(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let target: PathBuf = tests.ancestors().nth(3).unwrap().to_owned();
    let mut command = Command::new(target.join("python/venv/bin").join(name));
    command.kill_on_drop(true).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs it to its end; what it printed, and whether it was content.
async fn run(mut command: Command, limit: Duration) -> (String, bool) {
    let output = timeout(limit, command.output()).await.expect("it ends in time");
    let output = output.expect("it is installed by `cargo xtask test`");
    let text = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    (text, output.status.success())
}

#[tokio::test]
async fn the_document_is_valid_openapi() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, serde_json::to_vec(&hale_server::openapi()).unwrap()).unwrap();
    let mut validator = tool("openapi-spec-validator");
    validator.arg(&file);
    let (text, content) = run(validator, Duration::from_secs(120)).await;
    assert!(content, "{text}");

    std::fs::write(&file, r#"{"openapi": "3.1.0", "info": {"title": "x"}}"#).unwrap();
    let mut validator = tool("openapi-spec-validator");
    validator.arg(&file);
    let (_, content) = run(validator, Duration::from_secs(120)).await;
    assert!(!content, "a broken one is told from it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_gets_a_500_or_an_answer_that_is_not_in_the_document() {
    let hale = Hale::start_cluster().await;
    let web = DocumentText { text: WEB.to_owned(), dir: "/".to_owned(), origin: String::new() };
    hale.client().apply(&ApplyRequest { documents: vec![web], dry_run: false }).await.unwrap();
    hale.record(5).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, serde_json::to_vec(&hale_server::openapi()).unwrap()).unwrap();
    let mut asker = tool("st");
    asker
        .arg("--config-file")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml"))
        .arg("run")
        .arg(&file)
        .args(["--url", &format!("http://{}", hale.address)])
        .args(["--header", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--checks", CHECKS, "--phases", "examples,coverage"])
        .args(["--seed", "1", "--workers", "2", "--no-shrink", "--no-color"])
        .args(["--rate-limit", "auto", "--request-timeout", "25", "--suppress-health-check", "all"])
        .current_dir(dir.path());
    let (text, content) = run(asker, Duration::from_secs(300)).await;
    assert!(content, "{text}");
    assert!(hale.client().overview().await.is_ok(), "it goes on");
    hale.stop().await;
}

/// Something to ask after. There is no node, so that it runs nowhere.
const WEB: &str = "kind: Workload\nname: web\nreplicas: 2\nprocess: {command: [sleep, '1']}\nports: [{name: http, port: 0}]\n\
    service: {port: http}\n---\nkind: Target\nname: billing\nhttpGet: {url: 'http://127.0.0.1:1/'}\n";

const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
