//! What a responder that was killed has left (R12).

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use hale_responder::exec::{ExecOptions, Executor, MARK_VARIABLE};
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::support::{Place, is_alive, options, read_pid, script, wait_for};

const DIR: &str = "HALE_TEST_LEFTOVERS_DIR";

fn executor(options: ExecOptions, cgroups: bool) -> Executor {
    if cgroups { Executor::new(options) } else { Executor::without_cgroups(options) }.unwrap()
}

/// This test again, in a process that can be killed.
fn responder(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[rstest]
#[case::by_cgroup(true, "case_1_by_cgroup")]
#[case::by_mark(false, "case_2_by_mark")]
#[tokio::test]
async fn what_a_killed_responder_left_is_found_and_ended(#[case] cgroups: bool, #[case] case: &str) {
    let hidden = if cgroups { "env -i " } else { "" };
    if let Some(dir) = std::env::var_os(DIR) {
        let lines = format!(
            "(setsid {hidden}sh -c 'echo $$ > output/hidden; exec sleep 600' &); echo $$ > output/main; sleep 600"
        );
        let executor = executor(options(Path::new(&dir)), cgroups);
        executor.run(script("r1", &lines), CancellationToken::new()).await;
        panic!("it ended");
    }
    let dir = tempfile::tempdir().unwrap();
    let test = format!("leftovers::what_a_killed_responder_left_is_found_and_ended::{case}");
    let mut first = responder(&test, dir.path());
    let output = dir.path().join("workspaces/r1/output");
    let main = wait_for("main process", || read_pid(&output.join("main"))).await;
    let hidden = wait_for("hidden process", || read_pid(&output.join("hidden"))).await;
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(is_alive(main) && is_alive(hidden), "both outlive their responder");
    let mut stranger =
        Command::new("sleep").arg("600").env(MARK_VARIABLE, "another-mark/r1").spawn().unwrap();

    let second = executor(options(dir.path()), cgroups);
    // The two, and the sleep of the main one.
    assert_eq!(second.end_leftovers().unwrap(), 3);
    assert!(!is_alive(main) && !is_alive(hidden));
    assert_eq!(second.end_leftovers().unwrap(), 0);
    assert!(stranger.try_wait().unwrap().is_none(), "another's are let be");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn a_mark_is_a_word() {
    for mark in ["", "a/b", "../x", "a b"] {
        let dir = tempfile::tempdir().unwrap();
        let options = ExecOptions { mark: mark.into(), ..options(dir.path()) };
        assert!(Executor::new(options).is_err(), "{mark:?}");
    }
}

#[tokio::test]
async fn cgroups_are_taken_away_with_their_runs_and_their_executor() {
    let place = Place::new();
    let base = std::fs::read_to_string(place.dir.path().join("workspaces/.cgroup")).unwrap();
    let base = Path::new(&base);
    assert!(base.is_dir());
    place.run(&script("r1", "sleep 600 & exit 0")).await;
    assert_eq!(place.groups(), 0);
    drop(place);
    assert!(!base.exists());
}
