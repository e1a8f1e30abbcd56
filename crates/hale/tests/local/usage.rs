//! How the command line fails, and how it ends when nobody listens.

use std::{io::Read, process::Stdio};

use crate::{hale, run};

#[test]
fn wrong_usage_is_exit_2_with_a_word_on_what_is_right() {
    for (args, says) in [
        (&["chek"][..], "check"),
        (&["check"], "<FILE>"),
        (&["plan", "x", "-o", "xml"], "json"),
        (&["probe", "127.0.0.1"], "host:port"),
        (&["probe", "ftp://x/"], "http://"),
        (&["probe", "http://x/", "--expected-status", "2xx"], "200,204"),
        (&["completions", "tcsh"], "bash"),
    ] {
        let done = run(hale().args(args));
        assert_eq!((done.code, done.out.as_str()), (2, ""), "{args:?}: {}", done.err);
        assert!(done.err.contains(says), "{args:?}: {}", done.err);
    }
}

#[test]
fn help_that_was_asked_for_is_data() {
    let done = run(hale().arg("--help"));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(done.out.contains("Exit status: 0 done, 1 failed, 2 wrong usage"), "{}", done.out);
    let done = run(hale().args(["demo-web", "--help"]));
    assert!(done.out.contains("[env: PORT=]") && done.out.contains("[default: 127.0.0.1]"), "{}", done.out);
}

#[test]
fn the_version_is_one_line() {
    let done = run(hale().arg("version"));
    assert_eq!((done.code, done.out), (0, format!("hale {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let done = run(hale().args(["completions", shell]));
        assert!(done.code == 0 && done.out.contains("demo-web"), "{shell}");
    }
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let program = assert_cmd::cargo::cargo_bin("hale");
    let mut child = std::process::Command::new(program)
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let status = child.wait().expect("it ends");
    let mut said = String::new();
    child.stderr.take().expect("it was piped").read_to_string(&mut said).expect("text");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}
