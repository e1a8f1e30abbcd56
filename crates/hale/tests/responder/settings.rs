//! What can be set, and what stops the start (R15); health as it is asked for (R14).

use std::process::Stdio;

use crate::{
    harness::{Bench, Responder, declared},
    process::hale,
};

fn rules() -> String {
    "{name: all, run: {command: [\"true\"]}}".to_owned()
}

#[test]
fn what_is_no_time_and_no_port_stops_the_start() {
    let bench = Bench::new();
    let file = bench.path("responder.yaml");
    std::fs::write(&file, declared(&["eu"], &rules(), "")).unwrap();
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = hale();
        command.arg("responder").arg(&file).arg("--data-dir").arg(bench.path("data"));
        let output = command
            .args(["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for flag in [
        "--run-timeout",
        "--agent-timeout",
        "--max-queue-age",
        "--queue-sweep-interval",
        "--shutdown-timeout",
        "--metrics-port",
        "--health-port",
        "--sse-reconnect-initial-delay",
        "--sse-reconnect-max-delay",
    ] {
        for value in ["0", "-1", "soon"] {
            let (code, why) = run(&[&format!("{flag}={value}")], &[]);
            assert_eq!(code, Some(2), "{flag} {value}: {why}");
        }
    }
    for name in [
        "AGENT_TIMEOUT_SECONDS",
        "AGENT_TIMEOUT",
        "MAX_QUEUE_AGE_SECONDS",
        "QUEUE_SWEEP_INTERVAL_SECONDS",
        "SHUTDOWN_TIMEOUT_SECONDS",
        "METRICS_PORT",
        "HEALTH_PORT",
        "SSE_RECONNECT_INITIAL_DELAY_SECONDS",
        "SSE_RECONNECT_MAX_DELAY_SECONDS",
    ] {
        let (code, why) = run(&[], &[(name, "0")]);
        assert_eq!(code, Some(2), "{name}=0: {why}");
        assert!(why.contains(name) || why.contains("--"), "it says which: {why}");
    }
    std::fs::write(
        &file,
        declared(&["eu"], "{name: all, match: {severity: loud}, run: {command: [\"true\"]}}", ""),
    )
    .unwrap();
    let (code, why) = run(&[], &[]);
    assert_eq!(code, Some(3), "a bad severity stops the start: {why}");
    assert!(why.contains("loud"), "{why}");
}

#[test]
fn very_large_times_work() {
    let bench = Bench::new();
    let args = [
        "--run-timeout=99999999999999999999",
        "--max-queue-age=18446744073709551615",
        "--queue-sweep-interval=4000000000",
        "--shutdown-timeout=99999999999",
        "--sse-reconnect-max-delay=99999999999999",
    ];
    let responder = Responder::start(&bench, &declared(&["eu"], &rules(), ""), &args);
    responder.alert("eu", "web");
    responder.wait_run("web", "succeeded");
    let (status, _) = responder.end("TERM");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_flag_wins_over_the_timeout_of_a_rule() {
    let bench = Bench::new();
    let rules = "{name: all, run: {command: [\"sleep\", \"600\"], timeout: 1h}}";
    let responder = Responder::start(&bench, &declared(&["eu"], rules, ""), &["--agent-timeout", "1"]);
    responder.alert("eu", "web");
    responder.wait_run("web", "timed_out");
}

#[test]
fn health_is_said_in_one_word_and_what_is_wrong_line_by_line() {
    let bench = Bench::new();
    let responder = Responder::start(&bench, &declared(&["eu"], &rules(), ""), &[]);
    assert_eq!(responder.healthy("/healthz"), (200, "OK\n".to_owned()));
    responder.wait("a webhook that listens makes it ready", || responder.healthy("/readyz").0 == 200);
    drop(responder);
    // A source that is not there.
    let port = crate::process::free_port();
    let yaml = format!(
        "kind: Responder\nname: triage\nsources: [{{name: eu, kind: sse, url: \"http://127.0.0.1:{port}/\", \
         fields: {{name: /name}}}}]\nrules: [{}]\n",
        rules()
    );
    let bench = Bench::new();
    let mut responder = Responder::start(&bench, &yaml, &[]);
    let line = responder.wait_log("a connection failed", |it| it["message"] == "a connection failed");
    assert_eq!(
        (&line["level"], &line["cluster"], &line["reason"]),
        (&"WARN".into(), &"eu".into(), &"network".into())
    );
    assert!(
        line["retry_in"].as_f64().unwrap() > 0.5 && line["attempt"] == 1 && line["error"].is_string(),
        "{line:#}"
    );
    assert_eq!(responder.healthy("/readyz"), (503, "no source is connected\n".to_owned()));
    assert_eq!(responder.healthy("/healthz").0, 200);
}
