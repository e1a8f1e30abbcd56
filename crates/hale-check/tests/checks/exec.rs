//! `exec` (H8): real commands, and what is left of them.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use hale_check::{Checker, Subject};
use hale_health::Reason;
use hale_model::spec::{Check, Exec};

use crate::support::{AMPLE, SOON, both, failed, succeeded, until};

fn exec(command: &[&str], subject: &Subject) -> Checker {
    let command = command.iter().map(ToString::to_string).collect();
    Checker::compile(&Check::Exec(Exec { command }), subject).expect("a good check")
}

fn here() -> Subject {
    let path = std::env::var("PATH").unwrap_or_default();
    Subject { env: BTreeMap::from([("PATH".into(), path)]), ..Subject::default() }
}

fn sh(script: &str) -> Checker {
    exec(&["sh", "-c", script], &here())
}

/// Whether a process is there and not a zombie.
fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

/// Children of this process that have ended and were not waited for.
fn zombies() -> usize {
    let own = std::process::id().to_string();
    let stat = |pid: String| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|it| it.ok()?.file_name().into_string().ok())
        .filter(|it| it.bytes().all(|b| b.is_ascii_digit()))
        .filter(|pid| {
            let stat = stat(pid.clone());
            let mut rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
            rest.next() == Some("Z") && rest.next() == Some(&own)
        })
        .count()
}

#[tokio::test]
async fn exit_status_0_is_success_and_another_is_not() {
    let result = both(sh("echo fine"), AMPLE).await;
    succeeded(&result);
    assert_eq!(result.snippet.as_deref(), Some("fine\n"));
    let result = both(sh("echo out; echo err >&2; exit 3"), AMPLE).await;
    failed(&result, Reason::ExitCode, &["exit status 3", "out\nerr"]);
    failed(&both(sh("kill -9 $$"), AMPLE).await, Reason::Signal, &["signal 9"]);
}

#[tokio::test]
async fn the_command_is_an_argument_vector_and_no_shell_line() {
    let result = exec(&["echo", "$HOME;", "a  b"], &here()).run(AMPLE).await;
    assert_eq!(result.snippet.as_deref(), Some("$HOME; a  b\n"));
}

#[tokio::test]
async fn environment_and_folder_are_those_of_the_replica_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut subject = here();
    subject.env.insert("PORT".into(), "20001".into());
    subject.working_dir = Some(folder.path().into());
    let result = exec(&["sh", "-c", "echo $PORT; pwd; env"], &subject).run(AMPLE).await;
    let output = result.snippet.unwrap();
    assert!(
        output.starts_with(&format!("20001\n{}\n", folder.path().canonicalize().unwrap().display())),
        "{output}"
    );
    assert!(!output.contains("CARGO"), "{output}");
}

#[tokio::test]
async fn what_can_not_be_started_says_why() {
    let result = exec(&["/no/such/program"], &here()).run(AMPLE).await;
    failed(&result, Reason::NotExecutable, &["/no/such/program", "No such file"]);
    failed(&exec(&["/etc/passwd"], &here()).run(AMPLE).await, Reason::NotExecutable, &["denied"]);
    let subject = Subject { working_dir: Some("/no/such/folder".into()), ..here() };
    failed(&exec(&["true"], &subject).run(AMPLE).await, Reason::NotExecutable, &["/no/such/folder"]);
}

#[tokio::test]
async fn output_is_kept_to_ten_kibibytes_and_never_blocks_the_command() {
    let result = sh("head -c 1000000 /dev/zero | tr '\\0' x; exit 1").run(AMPLE).await;
    failed(&result, Reason::ExitCode, &["exit status 1"]);
    assert_eq!(result.snippet.unwrap().len(), 10 * 1024);
}

#[tokio::test]
async fn at_the_timeout_children_and_grandchildren_die_and_no_zombie_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut subject = here();
    subject.working_dir = Some(folder.path().into());
    let script = "trap '' TERM; echo begun; \
        sh -c 'echo $$ > child; sleep 1000' & \
        setsid sh -c 'echo $$ > stray; (sleep 1000; true)' & \
        (setsid setsid sh -c 'echo $$ > orphan; sleep 1000' &) ; \
        wait";
    let began = Instant::now();
    let checker = exec(&["sh", "-c", script], &subject);
    let result = checker.run(Duration::from_secs(2)).await;
    failed(&result, Reason::Timeout, &["sh did not end within 2s", "begun"]);
    assert!(began.elapsed() < AMPLE);
    for name in ["child", "stray", "orphan"] {
        let pid = std::fs::read_to_string(folder.path().join(name)).expect(name);
        until(&format!("{name} is gone"), || !alive(&pid));
    }
    until("no zombie", || zombies() == 0);
}

#[tokio::test]
async fn a_child_that_holds_the_output_open_does_not_hold_up_the_check() {
    let began = Instant::now();
    succeeded(&sh("sleep 1000 & exit 0").run(AMPLE).await);
    assert!(began.elapsed() < AMPLE);
}

#[tokio::test]
async fn endless_output_ends_at_the_timeout() {
    failed(&sh("yes").run(SOON).await, Reason::Timeout, &["y"]);
}

#[tokio::test]
async fn a_check_that_is_dropped_leaves_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut subject = here();
    subject.working_dir = Some(folder.path().into());
    let checker = exec(&["sh", "-c", "echo $$ > pid.new; mv pid.new pid; sleep 1000"], &subject);
    let pid_file = folder.path().join("pid");
    let began = async {
        while !Path::new(&pid_file).exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        result = checker.run(AMPLE) => panic!("{result:?}"),
        () = began => {}
    }
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let began = Instant::now();
    while alive(&pid) || zombies() > 0 {
        assert!(began.elapsed() < AMPLE, "it lives on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
