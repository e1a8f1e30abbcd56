//! SIGTERM with runs in flight (R13).

use std::time::{Duration, Instant};

use crate::{
    harness::{Bench, Responder, declared},
    process::{alive, kill},
};

fn waiting(bench: &Bench) -> String {
    let program = bench.script(
        "run.sh",
        "echo $$ >> $DIR/pids\nwhile [ ! -e $DIR/go ]; do sleep 0.05; done\necho $HALE_NAME >> $DIR/done",
    );
    let rules = format!("{{name: all, run: {{command: [\"{}\"]}}}}", program.display());
    declared(&["eu"], &rules, "")
}

#[test]
fn runs_in_flight_may_end_by_themselves_and_queued_alerts_stay_for_the_next_start() {
    let bench = Bench::new();
    let yaml = waiting(&bench);
    let mut responder = Responder::start(&bench, &yaml, &[]);
    responder.alert("eu", "one");
    responder.alert("eu", "two");
    responder.wait("one runs", || bench.lines("pids").len() == 1);
    kill("TERM", responder.pid());
    responder.wait("it says so", || responder.healthy("/healthz").0 == 503);
    let (status, why) = responder.healthy("/readyz");
    assert!(status == 503 && why.contains("shutting down"), "{status} {why}");
    std::fs::write(bench.path("go"), "").unwrap();
    let (status, lines) = responder.ended();
    assert_eq!(status.code(), Some(0));
    let told = lines.iter().find(|it| it["message"] == "the responder has ended").unwrap();
    assert_eq!(
        (&told["signal"], &told["in_flight"], &told["completed"], &told["interrupted"]),
        (&"SIGTERM".into(), &1.into(), &1.into(), &0.into()),
        "{told:#}"
    );
    assert_eq!(bench.lines("done"), ["one"], "nothing new was begun");
    drop(responder);
    let responder = Responder::start(&bench, &yaml, &[]);
    responder.wait_run("two", "succeeded");
    assert_eq!(responder.run_on("one").unwrap()["state"], "succeeded");
}

#[test]
fn what_does_not_end_in_time_is_ended_and_the_exit_status_is_0() {
    let bench = Bench::new();
    let responder = Responder::start(&bench, &waiting(&bench), &["--shutdown-timeout", "1"]);
    responder.alert("eu", "one");
    responder.wait("it runs", || bench.lines("pids").len() == 1);
    let pid: u32 = bench.lines("pids")[0].parse().unwrap();
    let began = Instant::now();
    let (status, lines) = responder.end("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(!alive(pid));
    let told = lines.iter().find(|it| it["message"] == "the responder has ended").unwrap();
    assert_eq!((&told["completed"], &told["interrupted"]), (&0.into(), &1.into()), "{told:#}");
}

#[test]
fn a_second_signal_hurries() {
    let bench = Bench::new();
    let mut responder = Responder::start(&bench, &waiting(&bench), &["--shutdown-timeout", "3600"]);
    responder.alert("eu", "one");
    responder.wait("it runs", || bench.lines("pids").len() == 1);
    kill("INT", responder.pid());
    responder.wait("it is ending", || responder.healthy("/healthz").0 == 503);
    kill("INT", responder.pid());
    let (status, _) = responder.ended();
    assert_eq!(status.code(), Some(0));
}
