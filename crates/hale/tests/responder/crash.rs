//! `kill -9` in the middle of runs and of intake (R5, R12): nothing accepted is lost, nothing runs twice unnoticed.

use std::collections::BTreeMap;

use crate::{
    harness::{Bench, Responder, declared},
    process::alive,
};

#[test]
fn after_a_kill_queued_alerts_run_and_what_ran_is_interrupted_ended_and_not_run_again() {
    let bench = Bench::new();
    let program = bench.script(
        "run.sh",
        "echo \"$$ $HALE_RUN_ID $HALE_NAME\" >> $DIR/ran\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done",
    );
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let yaml = declared(&["eu"], &rules, "");
    let responder = Responder::start(&bench, &yaml, &[]);
    responder.alert("eu", "going");
    responder.wait("it runs", || bench.lines("ran").len() == 1);
    let going: u32 = bench.lines("ran")[0].split(' ').next().unwrap().parse().unwrap();
    for n in 0..5 {
        responder.alert("eu", &format!("waits-{n}"));
    }
    responder.kill();
    assert!(alive(going), "a killed responder ends nothing");

    let responder = Responder::start(&bench, &yaml, &[]);
    assert!(!alive(going), "what it left was ended before anything was begun");
    let interrupted = responder.wait_run("going", "interrupted");
    assert!(interrupted["finished_at"].is_string(), "{interrupted:#}");
    std::fs::write(bench.path("go"), "").unwrap();
    for n in 0..5 {
        responder.wait_run(&format!("waits-{n}"), "succeeded");
    }
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for line in bench.lines("ran") {
        *times.entry(line.rsplit(' ').next().unwrap().to_owned()).or_default() += 1;
    }
    assert!(times.len() == 6 && times.values().all(|it| *it == 1), "each once: {times:?}");
    let names: Vec<String> =
        bench.lines("ran").iter().map(|it| it.rsplit(' ').next().unwrap().into()).collect();
    assert_eq!(names, ["going", "waits-0", "waits-1", "waits-2", "waits-3", "waits-4"], "in their order");
}

/// Alerts are sent without a pause while the responder is killed again and again: each that was answered with 202 has a
/// run, and no run has been started twice.
#[test]
fn what_was_accepted_in_the_moment_of_a_kill_is_there() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "echo \"$HALE_RUN_ID $HALE_NAME\" >> $DIR/ran");
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let yaml = declared(&["eu"], &rules, "queueSize: 100000, globalQueueSize: 100000");
    let mut accepted = Vec::new();
    let mut sent = 0;
    for round in 0..4 {
        let responder = Responder::start(&bench, &yaml, &[]);
        let pid = responder.pid();
        let killer = std::thread::spawn({
            let bench = bench.clone();
            let before = bench.lines("ran").len();
            move || {
                // In the middle of things: some have run by then.
                crate::process::wait_until("some have run", || {
                    bench.lines("ran").len() >= before + 3 + round
                });
                crate::process::kill("KILL", pid);
            }
        });
        for _ in 0..10_000 {
            let name = format!("pod-{sent}");
            sent += 1;
            match responder.post("eu", &crate::harness::alert(&name)) {
                202 => accepted.push(name),
                _ => break,
            }
        }
        killer.join().unwrap();
        responder.gone();
    }
    let responder = Responder::start(&bench, &yaml, &[]);
    responder.wait("all are over", || {
        responder.runs().iter().all(|it| it["state"] == "succeeded" || it["state"] == "interrupted")
    });
    let names: Vec<String> =
        responder.runs().iter().map(|it| it["resource"]["name"].as_str().unwrap().to_owned()).collect();
    for name in &accepted {
        assert_eq!(names.iter().filter(|it| *it == name).count(), 1, "{name}, which was accepted");
    }
    let ran = bench.lines("ran");
    let mut ids: Vec<&str> = ran.iter().map(|it| it.split(' ').next().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "a run was started twice");
    assert!(accepted.len() > 10, "{} were accepted", accepted.len());
}
