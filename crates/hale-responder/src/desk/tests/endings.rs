//! What runs come to (R9, R10).

use hale_model::spec::{ArtifactRule, ResponderLimits};
use rstest::rstest;

use super::{
    super::Effect,
    kit::{Bench, ended, responder, secs},
};
use crate::exec::How;

fn running(fault_type: &str) -> Bench {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", fault_type, "a");
    bench.next();
    bench
}

#[rstest]
#[case(How::Exited(0), "succeeded", "", Some(0), None)]
#[case(How::Exited(3), "failed", "it ended with exit status 3", Some(3), None)]
#[case(How::Signal(11), "failed", "it was ended by signal 11", None, Some(11))]
#[case(How::TimedOut, "timed_out", "it ran for longer than 300s", None, None)]
#[case(How::Interrupted, "interrupted", "the responder ended while it ran", None, None)]
#[case(How::NoArtifact("no report".to_owned()), "failed", "no report", Some(0), None)]
#[case(How::NotStarted("no such file".to_owned()), "failed", "it could not be started: no such file", None, None)]
fn an_end_is_on_record_with_its_reason(
    #[case] how: How,
    #[case] state: &str,
    #[case] reason: &str,
    #[case] exit: Option<i32>,
    #[case] signal: Option<i32>,
) {
    let mut bench = running("act");
    bench.pass(secs(7));
    assert_eq!(bench.end("00002", how), [format!("run 00002 {state}"), "completed 00002".to_owned()]);
    let run = &bench.runs["00002"];
    assert_eq!((run.exit_code, run.signal), (exit, signal));
    assert_eq!((run.ended_at, run.finished_at), (Some(bench.now.wall), Some(bench.now.wall)));
    assert_eq!(bench.reason("00002"), reason);
    assert_eq!(bench.desk.active("c00"), 0);
}

#[test]
fn an_end_is_believed_once() {
    let mut bench = running("act");
    assert!(bench.end("00001", How::Exited(0)).is_empty());
    assert!(bench.sent_effects("00002", Ok(())).is_empty());
    bench.end("00002", How::Exited(1));
    assert!(bench.end("00002", How::Exited(0)).is_empty());
}

#[test]
fn a_recovering_run_holds_no_worker_and_succeeds_by_the_health_signal_alone() {
    let mut bench = running("heal");
    assert_eq!(bench.end("00002", How::Exited(0)), ["run 00002 recovering", "watch 00002"]);
    assert_eq!(bench.desk.active("c00"), 0);
    assert_eq!(bench.wakes_in(), Some(100));
    // Others run meanwhile.
    bench.hear("c00", "act", "b");
    assert_eq!(bench.next().len(), 2);
    assert!(bench.recover("c01", "a").is_empty());
    assert!(bench.recover("c00", "b").is_empty());
    bench.pass(secs(99));
    assert_eq!(bench.recover("c00", "a"), ["unwatch 00002", "run 00002 succeeded", "completed 00002"]);
    assert!(bench.recover("c00", "a").is_empty());
}

#[test]
fn one_that_mends_nothing_is_escalated_step_by_step() {
    let mut bench = running("heal");
    bench.end("00002", How::Exited(0));
    bench.pass(secs(99));
    assert!(bench.sweep().is_empty());
    bench.pass(secs(1));
    assert_eq!(
        bench.sweep(),
        ["unwatch 00002", "run 00002 ineffective", "completed 00002", "run 00003 queued"]
    );
    assert_eq!(bench.reason("00002"), "the resource was not healthy within 100s");
    let page = bench.runs["00003"].clone();
    assert_eq!((page.step, page.escalates.as_deref(), page.alert.as_str()), (1, Some("00002"), "00001"));
    assert_eq!((page.exit_code, page.ended_at, page.recover_until), (None, None, None));
    assert_eq!(bench.next(), ["run 00003 running", "start 00003 page"]);
    // New alerts on the resource are the escalation's.
    assert_eq!(bench.hear("c00", "heal", "a")[1], "run 00003 running");
    assert_eq!(bench.end("00003", How::Exited(0)), ["run 00003 recovering", "watch 00003"]);
    bench.pass(secs(100));
    bench.sweep();
    assert_eq!(bench.next(), ["run 00005 running", "send 00005"]);
    assert_eq!(bench.desk.active("c00"), 0, "a webhook needs no worker");
    assert!(bench.end("00005", How::Exited(0)).is_empty());
    bench.sent_effects("00005", Err("refused".to_owned()));
    assert_eq!(bench.reason("00005"), "could not be sent: refused");
    // There is no further step.
    assert!(bench.next().is_empty());
    assert_eq!(bench.desk.runs().count(), 0);
}

#[rstest]
#[case(How::Exited(1), true)]
#[case(How::TimedOut, true)]
#[case(How::NotStarted(String::new()), true)]
#[case(How::Interrupted, false)]
fn failures_escalate_and_interruptions_do_not(#[case] how: How, #[case] expected: bool) {
    let mut bench = running("heal");
    bench.end("00002", how);
    assert_eq!(bench.next().contains(&"start 00003 page".to_owned()), expected);
}

#[test]
fn a_signal_heard_while_the_program_runs_counts_when_it_ends() {
    let mut bench = running("heal");
    assert!(bench.recover("c00", "a").is_empty());
    assert_eq!(bench.end("00002", How::Exited(0)), ["run 00002 succeeded", "completed 00002"]);
}

#[test]
fn a_signal_that_another_alert_contradicts_does_not_count() {
    let mut bench = running("heal");
    bench.recover("c00", "a");
    bench.hear("c00", "act", "a");
    assert_eq!(bench.end("00002", How::Exited(0)), ["run 00002 recovering", "watch 00002"]);
}

#[test]
fn a_signal_does_not_mend_a_failed_program() {
    let mut bench = running("heal");
    bench.recover("c00", "a");
    assert_eq!(bench.end("00002", How::Exited(1))[0], "run 00002 failed");
}

#[test]
fn an_escalating_program_keeps_to_the_workers_and_goes_before_the_queue() {
    let mut bench = running("heal");
    bench.hear("c00", "act", "b");
    bench.end("00002", How::Exited(0));
    bench.next();
    bench.hear("c00", "act", "c");
    bench.pass(secs(100));
    bench.sweep();
    assert!(bench.next().is_empty(), "the cluster's one worker is busy");
    bench.end("00004", How::Exited(0));
    assert_eq!(bench.next(), ["run 00007 running", "start 00007 page"]);
}

#[test]
fn the_artifact_is_asked_of_the_rules_own_program_only() {
    let mut it = responder(1, ResponderLimits::default());
    it.rules[3].success.artifact = Some(ArtifactRule { path: "output/report.md".into(), min_bytes: 1 });
    let mut bench = Bench::new(it);
    bench.hear("c00", "heal", "a");
    let artifact = |effects: Vec<Effect>| {
        effects.into_iter().find_map(|it| match it {
            Effect::Start(it) => Some(it.success.artifact.is_some()),
            _ => None,
        })
    };
    assert_eq!(artifact(bench.next_effects()), Some(true));
    bench.end_effects("00002", ended(How::Exited(1)));
    assert_eq!(artifact(bench.next_effects()), Some(false));
}
