//! The failure breaker (R7), timeouts and crashes (R9), expiry while it is open (R5).

use serde_json::Value;

use crate::{
    harness::{Bench, Responder, declared},
    process::alive,
};

const STATE: &str = "hale_responder_circuit_breaker_state{breaker=\"failure\"}";

#[test]
fn three_failed_runs_open_the_breaker_once_and_the_first_success_closes_it() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "echo $HALE_NAME >> $DIR/ran\n[ -e $DIR/mended ]");
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let limits = "failureBreakerReset: 2s, duplicateWindow: 1s, maxQueueAge: 1h";
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, limits), &[]);
    for n in 0..3 {
        responder.alert("eu", &format!("pod-{n}"));
        responder.wait_run(&format!("pod-{n}"), "failed");
    }
    assert_eq!(responder.figure(STATE), 1.0);
    let (status, why) = responder.healthy("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(why.lines().any(|it| it.contains("failure")), "{why}");
    assert_eq!(responder.healthy("/healthz").0, 200);

    // What comes now waits, until one probe run is let through, which fails again.
    responder.alert("eu", "pod-3");
    assert_eq!(bench.lines("ran").len(), 3, "nothing is dequeued while it is open");
    responder.wait_run("pod-3", "failed");
    let opened = || responder.logged(|it| it["message"] == "a circuit breaker has opened").len();
    assert_eq!(opened(), 1, "one notification per opening");

    std::fs::write(bench.path("mended"), "").unwrap();
    responder.alert("eu", "pod-4");
    responder.wait_run("pod-4", "succeeded");
    assert_eq!(responder.figure(STATE), 0.0);
    assert_eq!(responder.logged(|it| it["message"] == "a circuit breaker has closed").len(), 1);
    assert_eq!(opened(), 1);
    assert_eq!(responder.healthy("/readyz").0, 200);
    let count = |series: &str| responder.figure(&format!("hale_responder_{series}"));
    assert_eq!(count("agents_failed_total{cluster=\"eu\",reason=\"exit\"}"), 4.0);
    assert_eq!(count("agents_completed_total{cluster=\"eu\",status=\"succeeded\"}"), 1.0);
}

#[test]
fn alerts_expire_one_by_one_while_the_breaker_is_open() {
    let bench = Bench::new();
    let program = bench.script("run.sh", "exit 1");
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    let limits = "failureBreaker: 1, failureBreakerReset: 1h";
    let args = ["--max-queue-age", "1", "--queue-sweep-interval", "0.2"];
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, limits), &args);
    responder.alert("eu", "first");
    responder.wait_run("first", "failed");
    responder.alert("eu", "second");
    responder.alert("eu", "third");
    for name in ["second", "third"] {
        let run = responder.wait_run(name, "expired");
        assert!(run["started_at"].is_null(), "{run:#}");
    }
    let lines = responder.logged(|it| it["message"].as_str().is_some_and(|it| it.contains("is expired")));
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert_eq!((&line["level"], &line["cluster"]), (&"WARN".into(), &"eu".into()), "{line:#}");
        assert!(line["age"].as_f64().unwrap() >= 1.0 && line["max_age"].as_f64() == Some(1.0), "{line:#}");
        assert!(line["alert"].is_string(), "{line:#}");
    }
    assert_eq!(responder.figure("hale_responder_events_expired_total{cluster=\"eu\"}"), 2.0);
    assert_eq!(responder.figure("hale_responder_queue_depth{cluster=\"eu\"}"), 0.0);
}

#[test]
fn a_program_that_is_deaf_to_sigterm_is_ended_with_all_that_it_spawned() {
    let bench = Bench::new();
    let program = bench.script(
        "run.sh",
        "trap '' TERM\nsetsid sh -c 'trap \"\" TERM; echo $$ >> '$DIR'/pids; sleep 600' &\n\
         sh -c 'trap \"\" TERM; echo $$ >> '$DIR'/pids; sleep 600' &\necho $$ >> $DIR/pids\nsleep 600",
    );
    let rules = format!("{{name: all, run: {{command: [\"{}\"], timeout: 1s}}}}", program.display());
    let responder = Responder::start(&bench, &declared(&["eu"], &rules, ""), &[]);
    responder.alert("eu", "web");
    responder.wait("all of it runs", || bench.lines("pids").len() == 3);
    let pids: Vec<u32> = bench.lines("pids").iter().map(|it| it.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| alive(*pid)));
    let run = responder.wait_run("web", "timed_out");
    assert!(pids.iter().all(|pid| !alive(*pid)), "something is left of it");
    assert!(run["ended_at"].is_string());
    let count = |series: &str| responder.figure(&format!("hale_responder_{series}"));
    assert_eq!(count("agents_timeout_total{cluster=\"eu\"}"), 1.0);
    assert_eq!(count("agents_failed_total{cluster=\"eu\",reason=\"exit\"}"), 0.0, "a timeout is no failure");
    let lines = responder.logged(|it| {
        it["level"] == "WARN" && it["message"].as_str().is_some_and(|it| it.contains("took too long"))
    });
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert!(line["duration"].as_f64().unwrap() >= 1.0 && !line["threshold"].is_null(), "{line:#}");
    assert_eq!((&line["cluster"], &line["run"]), (&Value::from("eu"), &run["id"]));
}

#[test]
fn a_flood_of_output_and_a_crash_harm_nothing_else() {
    let bench = Bench::new();
    let flood = bench.script("flood.sh", "head -c 50000000 /dev/zero | tr '\\0' x\necho end >&2");
    let crash = bench.script("crash.sh", "kill -SEGV $$");
    let rules = format!(
        "{{name: flood, match: {{names: [flood]}}, run: {{command: [\"{}\"], maxOutput: 1Mi}}}}, \
         {{name: crash, match: {{names: [crash]}}, run: {{command: [\"{}\"]}}}}, \
         {{name: gone, run: {{command: [\"/no/such/program\"]}}}}",
        flood.display(),
        crash.display()
    );
    let responder = Responder::start(&bench, &declared(&["eu", "us", "ap"], &rules, ""), &[]);
    responder.alert("eu", "flood");
    responder.alert("us", "crash");
    responder.alert("ap", "gone");
    let flooded = responder.wait_run("flood", "succeeded");
    let logs = std::path::Path::new(flooded["workspace"].as_str().unwrap()).join("logs/stdout.log");
    assert!(std::fs::metadata(logs).unwrap().len() < (1 << 20) + 4096);
    let crashed = responder.wait_run("crash", "failed");
    assert_eq!(crashed["signal"], 11);
    let gone = responder.wait_run("gone", "failed");
    assert!(gone["reason"].as_str().unwrap().contains("/no/such/program"), "{gone:#}");
    assert_eq!(responder.healthy("/healthz"), (200, "OK\n".to_owned()));
    let failed = |cluster: &str, reason: &str| {
        responder.figure(&format!(
            "hale_responder_agents_failed_total{{cluster=\"{cluster}\",reason=\"{reason}\"}}"
        ))
    };
    assert_eq!((failed("us", "signal"), failed("ap", "not_started")), (1.0, 1.0));
}
