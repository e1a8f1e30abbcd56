//! Autonomy (R11): what would run, and what a person decides.

use crate::harness::{Bench, Responder, declared};

#[test]
fn what_is_only_observed_is_written_down_and_not_run() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "echo $HALE_NAME >> $DIR/ran");
    let rules = format!(
        "{{name: all, autonomy: observe, run: {{command: [\"{}\", \"$(HALE_NAME)\"]}}}}",
        program.display()
    );
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, ""), &[]);
    responder.alert("eu", "web");
    let run = responder.wait_run("web", "observed");
    assert_eq!(run["command"][0], program.to_str().unwrap());
    assert!(bench.lines("ran").is_empty());
}

#[test]
fn a_person_approves_one_and_rejects_the_other() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "echo $HALE_NAME >> $DIR/ran");
    let rules = format!("{{name: all, autonomy: approve, run: {{command: [\"{}\"]}}}}", program.display());
    let yaml = declared(&["eu"], &rules, "");
    let responder = Responder::start(&bench, &yaml, &[]);
    responder.alert("eu", "yes");
    responder.alert("eu", "no");
    let (yes, no) =
        (responder.wait_run("yes", "awaiting_approval"), responder.wait_run("no", "awaiting_approval"));
    // What waits for a person waits over a restart, too.
    responder.kill();
    let responder = Responder::start(&bench, &yaml, &[]);
    let said = responder.cli(&["runs", "approve", yes["id"].as_str().unwrap(), "--reason", "go on"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = responder.cli(&["runs", "reject", no["id"].as_str().unwrap()]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let run = responder.wait_run("yes", "succeeded");
    assert!(run["decided_by"].is_string(), "{run:#}");
    responder.wait_run("no", "rejected");
    assert_eq!(bench.lines("ran"), ["yes"]);
    // The other way round is refused, and what is not there is not found.
    let said = responder.cli(&["runs", "reject", yes["id"].as_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(responder.cli(&["runs", "approve", "0000000000000001"]).status.code(), Some(4));
    // A rejected one does not swallow the next alert of its kind.
    responder.alert("eu", "no");
    responder.wait_run("no", "awaiting_approval");
}

#[test]
fn nobody_says_anything_and_it_expires() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "echo $HALE_NAME >> $DIR/ran");
    let rules = format!(
        "{{name: all, autonomy: approve, approvalTimeout: 1s, run: {{command: [\"{}\"]}}}}",
        program.display()
    );
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, ""), &[]);
    responder.alert("eu", "web");
    let run = responder.wait_run("web", "expired");
    let said = responder.cli(&["runs", "approve", run["id"].as_str().unwrap()]);
    assert_eq!(said.status.code(), Some(1));
    assert!(bench.lines("ran").is_empty());
}
