//! `hale assess`.

use std::fs;

use serde_json::{Value, json};

use crate::{hale, run};

fn objects(situation: &str) -> String {
    format!("{}/../hale-kube/tests/objects/{situation}.json", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_dump_is_judged_and_told_why() {
    let done =
        run(hale().arg("assess").args([objects("oomkilled"), objects("daemonset"), objects("evicted")]));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    insta::assert_snapshot!(done.out);
}

#[test]
fn json_has_the_fields_that_programs_rely_on() {
    let done = run(hale().args(["assess", "-o", "json", &objects("pvcpending")]));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&done.out).unwrap();
    let object = &told["objects"][0];
    assert_eq!(told["objects"].as_array().unwrap().len(), 1);
    assert_eq!(object["kind"], "StatefulSet");
    assert_eq!((&object["namespace"], &object["name"]), (&json!("pvcpending"), &json!("db")));
    assert_eq!((&object["pods_ready"], &object["pods_total"]), (&json!(0), &json!(2)));
    assert_eq!((&object["status"], &object["conditions"]), (&json!("failing"), &json!(["Unschedulable"])));
    assert!(object["reasons"][0].is_string());
    let keys: Vec<&str> = object["resources"][0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["kind", "name", "namespace", "ready", "message"]);
}

#[test]
fn standard_input_another_moment_and_the_verdict_as_exit_status() {
    let text = fs::read(objects("livenesskill")).unwrap();
    let mut assess = hale();
    let done = run(assess.args(["assess", "-", "--exit-code"]).write_stdin(text.clone()));
    assert_eq!(done.code, 1);
    assert!(
        done.out.starts_with("STATUS") && done.err.contains("1 of 1 workload not healthy"),
        "{}",
        done.err
    );
    let mut assess = hale();
    let later = assess.args(["assess", "-", "--exit-code", "--at", "2026-11-22T07:00:00Z"]);
    let done = run(later.write_stdin(text));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[test]
fn a_directory_and_documents_in_yaml_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let pod = |name: &str, phase: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: x}}\nstatus: {{phase: {phase}}}\n"
        )
    };
    fs::write(dir.path().join("a.yaml"), format!("{}---\n{}", pod("a", "Succeeded"), pod("b", "Failed")))
        .unwrap();
    fs::write(dir.path().join("notes.txt"), "not read").unwrap();
    let done = run(hale().arg("assess").arg(dir.path()));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(done.out.contains("healthy  Pod x/a") && done.out.contains("failing  Pod x/b"), "{}", done.out);
}

#[test]
fn a_bad_file_is_exit_3_and_says_which_and_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.json");
    fs::write(&path, "{\n  \"kind\": \"Pod\",\n  oops\n}").unwrap();
    let done = run(hale().arg("assess").args([objects("healthy").as_ref(), path.as_os_str()]));
    assert_eq!((done.code, done.out.as_str()), (3, ""));
    assert!(done.err.contains("dump.json:3:3: it is not valid JSON"), "{}", done.err);
    let done = run(hale().args(["assess", "/nowhere/pods.json"]));
    assert_eq!(done.code, 3);
    assert!(done.err.contains("/nowhere/pods.json: cannot be read"), "{}", done.err);
    let done = run(hale().arg("assess").arg(tempfile::tempdir().unwrap().path()));
    assert_eq!(done.code, 3);
    let done = run(hale().args(["assess", "-", "-"]).write_stdin("[]"));
    assert_eq!(done.code, 2);
}

#[test]
fn what_is_left_out_is_said_on_stderr() {
    let list: Value = serde_json::from_str(&fs::read_to_string(objects("healthy")).unwrap()).unwrap();
    let pods: Vec<&Value> =
        list["items"].as_array().unwrap().iter().filter(|it| it["kind"] == "Pod").collect();
    let done = run(hale().args(["assess", "-", "-o", "json"]).write_stdin(json!(pods).to_string()));
    assert_eq!(done.code, 0);
    assert!(done.err.contains("ReplicaSet healthy/web-859597c5dc"), "{}", done.err);
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap()["objects"], json!([]));
}
