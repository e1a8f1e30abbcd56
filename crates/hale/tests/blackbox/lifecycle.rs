//! `hale up` as a whole: start, second start, stop, death, and what is still known at the next start.

use std::{fs, sync::Arc, time::Duration};

use crate::harness::{Up, alive, data_dir, hale, kill, pid_of, processes_with, wait_until};

const SLEEPER: &str = r#"
kind: Workload
name: sleeper
replicas: 2
process: {command: ["sleep", "633633"]}
"#;

#[test]
fn an_interrupt_stops_everything_in_order_and_exits_0() {
    let up = Up::start(&format!(
        "{}---\n{}",
        SLEEPER, "kind: Workload\nname: user\nprocess: {command: [sleep, '644644']}\ndependsOn: [sleeper]\n"
    ));
    up.wait_status("all running", |status| {
        status["status"] == "healthy" && status["workloads"][1]["ready"] == 1
    });
    let pids = [pid_of(&up.replica("sleeper-0")), pid_of(&up.replica("user-0"))];
    let (status, output) = up.end("INT");
    assert_eq!(status.code(), Some(0), "{output}");
    let line = |text: &str| output.lines().position(|line| line.contains(text) && line.contains("stopped"));
    assert!(line("user-0") < line("sleeper-0"), "dependents stop first:\n{output}");
    assert!(pids.into_iter().all(|pid| !alive(pid)));
}

#[test]
fn a_second_hale_on_the_same_directory_says_who_holds_it() {
    let up = Up::start(SLEEPER);
    let second = hale()
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .args([data_dir(&up.dir()), up.path("app.yaml")])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(message.contains(&up.pid().to_string()), "{message}");
    assert!(message.contains("--data-dir"), "what to try: {message}");
    up.wait_status("the first is unharmed", |status| status["workloads"][0]["ready"] == 2);
}

#[test]
fn replicas_end_when_hale_itself_is_killed() {
    let yaml = SLEEPER.replace("633633", "655655");
    let up = Up::start(&yaml);
    up.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    kill("KILL", up.pid());
    wait_until("no replica is left", || processes_with("sleep 655655").is_empty());
}

#[test]
fn what_is_left_after_everything_was_killed_ends_at_the_next_start() {
    let yaml = SLEEPER.replace("633633", "666666");
    let up = Up::start(&yaml);
    up.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    let old = processes_with("sleep 666666");
    let dir = up.dir();
    let keepers = processes_with(&format!("{}", data_dir(&dir).display()));
    for pid in keepers {
        if alive(pid) {
            kill("KILL", pid);
        }
    }
    drop(up);
    let again = Up::start_in(dir, &yaml);
    again.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    assert!(old.into_iter().all(|pid| !alive(pid)), "the old ones are gone");
    assert_eq!(processes_with("sleep 666666").len(), 2);
}

#[test]
fn events_and_history_are_still_there_at_the_next_start() {
    let up = Up::start(SLEEPER);
    let replica = up.wait_replica("sleeper-0", "running", |replica| replica["phase"] == "running");
    kill("KILL", pid_of(&replica));
    up.wait_events("replica.exited", "sleeper-0", 1);
    let before = up.events();
    let dir = up.dir();
    let (status, output) = up.end("TERM");
    assert_eq!(status.code(), Some(0), "{output}");
    let again = Up::start_in(Arc::clone(&dir), SLEEPER);
    again.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    let after = again.events();
    assert_eq!(after[..before.len()], before[..], "the old ones come first, unchanged");
    let ids: Vec<u64> = after.iter().map(|event| event["id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    assert!(
        again.ok(&["explain", "sleeper-0"]).contains("signal 9"),
        "what happened before is still explained"
    );
}

#[test]
fn what_is_given_up_is_told_once() {
    let mut up = Up::start("kind: Workload\nname: a\nprocess: {command: [/nowhere/a]}\n");
    up.wait_line("given up");
    up.wait_status("it is failing", |status| status["status"] == "failing");
    let output = up.output();
    assert_eq!(output.matches("given up").count(), 1, "{output}");
}

#[test]
fn a_file_that_was_changed_while_nothing_ran_never_starts_as_it_was() {
    let up = Up::start(&SLEEPER.replace("633633", "645645"));
    up.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    let dir = up.dir();
    up.end("TERM");
    let again = Up::start_in(Arc::clone(&dir), &SLEEPER.replace("633633", "644644"));
    again.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    assert!(processes_with("sleep 645645").is_empty());
    let starts = again.events_of("replica.starting", "sleeper-0");
    assert_eq!(starts.len(), 2, "once before, once as it is now: {starts:#?}");
    let dir = again.dir();
    again.end("TERM");
    let other =
        Up::start_in(Arc::clone(&dir), "kind: Workload\nname: a\nprocess: {command: [sleep, \"644645\"]}\n");
    other.wait_status("it runs", |status| status["workloads"][0]["ready"] == 1);
    assert!(!other.output().contains("ERROR"), "{}", other.output());
}

#[test]
fn the_command_line_keeps_its_exit_statuses() {
    let up = Up::start(SLEEPER);
    up.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    let code = |args: &[&str]| up.cli(args).status.code().unwrap();
    assert_eq!(code(&["status", "sleeper"]), 0);
    assert_eq!(code(&["explain", "sleeper"]), 0, "a workload is explained too");
    assert_eq!(code(&["explain", "sleeper-0"]), 0);
    assert_eq!(code(&["explain", "sleeper-7"]), 4);
    assert_eq!(code(&["status", "nobody"]), 4);
    assert_eq!(code(&["restart", "nobody"]), 4);
    assert_eq!(code(&["status", "--no-such-flag"]), 2);
    assert_eq!(code(&["status", "--wait", "healthy", "--timeout", "30s"]), 0);
    assert_eq!(code(&["status", "--wait", "failing", "--timeout", "200ms"]), 1);
    let nowhere = tempfile::tempdir().unwrap();
    let output = hale().args(["status", "--data-dir"]).arg(nowhere.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(up.path("token"), "hale_wrong_token").unwrap();
    let output =
        hale().args(["status", "--server", &up.url, "--token-file"]).arg(up.path("token")).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn stop_start_pause_and_resume_do_what_they_say() {
    let up = Up::start(SLEEPER);
    up.wait_status("both running", |status| status["workloads"][0]["ready"] == 2);
    up.ok(&["stop", "sleeper-1"]);
    let stopped = up.wait_replica("sleeper-1", "stopped", |replica| replica["phase"] == "stopped");
    assert!(stopped["pid"].is_null(), "{stopped:#}");
    assert_eq!(up.replica("sleeper-0")["phase"], "running");
    up.ok(&["start", "sleeper-1"]);
    up.wait_replica("sleeper-1", "running", |replica| replica["phase"] == "running");

    up.ok(&["pause", "sleeper-0", "--for", "10m", "--reason", "being looked at"]);
    let paused = up.wait_replica("sleeper-0", "paused", |replica| replica["paused"] == true);
    kill("KILL", pid_of(&paused));
    let held =
        up.wait_replica("sleeper-0", "held by the pause", |replica| replica["held_by"]["by"] == "pause");
    assert_eq!(held["ready"], false, "an exit makes it not ready under every hold");
    assert!(held["held_by"]["reason"].as_str().unwrap().contains("being looked at"), "{held:#}");
    up.ok(&["resume", "sleeper-0"]);
    up.wait_replica("sleeper-0", "running again", |replica| {
        replica["phase"] == "running" && replica["paused"] == false
    });
}

#[test]
fn a_workload_without_probes_is_restarted_when_it_exits() {
    let up = Up::start("kind: Workload\nname: plain\nprocess: {command: [sleep, '677677']}\n");
    let before = up.wait_replica("plain-0", "running", |replica| replica["phase"] == "running");
    kill("KILL", pid_of(&before));
    let after = up.wait_replica("plain-0", "running again", |replica| {
        replica["phase"] == "running" && replica["pid"] != before["pid"] && !replica["pid"].is_null()
    });
    assert_eq!(after["incarnation"], 2);
    assert_eq!(after["restarts"], 1);
    let down = up.wait_events("replica.restarted", "plain-0", 1)[0]["data"]["down_seconds"].as_f64().unwrap();
    assert!(down >= Duration::from_secs(1).as_secs_f64(), "the first backoff is a second: {down}");
}

#[test]
fn a_target_is_told_down_once_and_up_once() {
    let port = crate::harness::free_port();
    let up = Up::start(&format!(
        "kind: Target\nname: billing\nhttpGet: {{url: 'http://127.0.0.1:{port}/healthz'}}\nperiodSeconds: 0.1\nfailureThreshold: 2\n"
    ));
    let failed = &up.wait_events("target.probe_failed", "billing", 1)[0];
    assert_eq!(failed["data"]["consecutive_failures"], 2);
    assert_eq!(failed["data"]["last_status"], 0);
    assert_eq!(failed["data"]["last_reason"], "connection_refused");
    assert_eq!(up.status()["targets"][0]["status"], "failing");
    let mut web = hale().arg("demo-web").env("PORT", port.to_string()).spawn().unwrap();
    let recovered = up.wait_events("target.probe_recovered", "billing", 1);
    assert!(recovered[0]["data"]["prior_failure_count"].as_u64().unwrap() >= 2);
    web.kill().unwrap();
    web.wait().unwrap();
    assert_eq!(up.events_of("target.probe_failed", "billing").len(), 1, "told once, then silence");
}

#[test]
fn the_log_is_sentences_about_named_things_and_has_no_empty_values() {
    let up = Up::start_logging(
        r#"
kind: Workload
name: brief
process: {command: ["sh", "-c", "exit 7"]}
restart: {maxRestarts: 1, initialBackoff: 0s}
---
kind: Target
name: nobody
tcpSocket: {host: 127.0.0.1, port: 1}
periodSeconds: 0.1
"#,
    );
    up.wait_events("replica.failed", "brief-0", 1);
    up.wait_events("target.probe_failed", "nobody", 1);
    up.ok(&["pause", "nobody", "--for", "1m", "--reason", "moving house"]);
    let (_, output) = up.end("INT");
    let lines: Vec<serde_json::Value> =
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for line in &lines {
        let message = line["message"].as_str().unwrap_or_default();
        assert!(message.contains(' '), "no sentence: {line}");
        let empty = line.as_object().unwrap().iter().find(|(_, value)| **value == *"" || value.is_null());
        assert!(empty.is_none(), "an empty value: {line}");
    }
    let of = |key: &str, name: &str, level: &str, text: &str| {
        let is = |line: &&serde_json::Value| {
            line[key] == *name && line["level"] == *level && line["message"].as_str().unwrap().contains(text)
        };
        assert!(lines.iter().any(|line| is(&line)), "no {level} of {name} with {text:?} in:\n{output}");
    };
    of("replica", "brief-0", "INFO", "exited: exit 7");
    of("replica", "brief-0", "ERROR", "hale restart brief-0");
    of("target", "nobody", "DEBUG", "a check failed");
    of("target", "nobody", "WARN", "connection_refused");
    of("target", "nobody", "INFO", "moving house");
    of("node", "local", "INFO", "hale stops");
}
