//! `hale check` and `hale plan`.

use crate::{examples, hale, run};

const WRONG: &str =
    "kind: Workload\nname: web\nprocess: {command: [./web]}\nlivenessProb:\n  httpGet: {port: 80}\n";
const RIGHT: &str = "kind: Workload
name: web
process: {command: [./web]}
ports: [{name: http}]
livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, failureThreshold: 1, timeoutSeconds: 5}
readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 0.5, timeoutSeconds: 0.5}
mode: act
---
kind: Target
name: billing
httpGet: {url: \"http://127.0.0.1:9000/healthz\"}
";

#[test]
fn every_example_is_right_and_nothing_in_it_is_warned_of() {
    for file in examples() {
        let done = run(hale().arg("check").arg(&file));
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", file.display());
        assert!(done.out.starts_with("valid: "), "{}", done.out);
    }
}

#[test]
fn a_wrong_file_is_exit_3_with_the_mistake_on_stderr_only() {
    let done = run(hale().args(["check", "-"]).write_stdin(WRONG));
    assert_eq!((done.code, done.out.as_str()), (3, ""));
    insta::assert_snapshot!(done.err);
}

#[test]
fn a_wrong_file_as_json_names_the_place() {
    let done = run(hale().args(["check", "-", "-o", "json"]).write_stdin(WRONG));
    assert_eq!(done.code, 3);
    insta::assert_snapshot!(done.out);
}

#[test]
fn what_is_of_another_tool_is_shown_to_import() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n";
    let done = run(hale().args(["check", "-"]).write_stdin(pod));
    assert!(done.err.contains("`hale import kubernetes FILE`"), "{}", done.err);
    let compose = "services:\n  web: {image: nginx}\n";
    let done = run(hale().args(["check", "-"]).write_stdin(compose));
    assert!(done.err.contains("`hale import compose FILE`"), "{}", done.err);
}

#[test]
fn a_command_as_a_line_is_shown_as_a_list() {
    let of = |line: &str| format!("kind: Workload\nname: a\nprocess: {{command: {line}}}\n");
    let done = run(hale().args(["check", "-"]).write_stdin(of("sleep 100")));
    assert!(done.err.contains("[\"sleep\", \"100\"]"), "{}", done.err);
    let done = run(hale().args(["check", "-"]).write_stdin(of("[a], env: [{name: A, value: b}]")));
    assert!(done.err.contains("a map is written {NAME: value}"), "{}", done.err);
    let done = run(hale().args(["check", "-"]).write_stdin(of("\"a | b\"")));
    assert!(done.err.contains("[sh, -c, \"a | b\"]"), "{}", done.err);
}

#[test]
fn a_file_that_is_not_there_is_exit_3() {
    let done = run(hale().args(["check", "/nowhere/app.yaml"]));
    assert_eq!((done.code, done.out.as_str()), (3, ""));
    assert!(done.err.contains("/nowhere/app.yaml: No such file"), "{}", done.err);
}

#[test]
fn warnings_are_told_and_do_not_fail() {
    let done = run(hale().args(["check", "-"]).write_stdin(RIGHT));
    assert_eq!((done.code, done.out.as_str()), (0, "valid: 1 workload, 1 target\n"));
    insta::assert_snapshot!(done.err);
    let done = run(hale().args(["check", "-", "-o", "json"]).write_stdin(RIGHT));
    let value: serde_json::Value = serde_json::from_str(&done.out).expect("it is JSON");
    assert_eq!(value["warnings"].as_array().map(Vec::len), Some(2), "{}", done.out);
    assert_eq!((done.code, done.err.as_str()), (0, ""));
}

#[test]
fn a_plan_tells_the_best_and_the_worst_time_of_each_probe() {
    let table = run(hale().args(["plan", "-"]).write_stdin(RIGHT));
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    let json = run(hale().args(["plan", "-", "-o", "json"]).write_stdin(RIGHT));
    insta::assert_snapshot!(format!("{}\n{}", table.out, json.out));
    let wrong = run(hale().args(["plan", "-"]).write_stdin(WRONG));
    assert_eq!((wrong.code, wrong.out.as_str()), (3, ""));
}
