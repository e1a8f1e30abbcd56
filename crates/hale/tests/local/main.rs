//! Commands that need no running hale, as they are typed: what is printed where, and the exit status.

mod assess;
mod check;
mod demo;
mod import;
mod probe;
mod schema;
mod usage;

use std::path::PathBuf;

use assert_cmd::Command;

/// The command line under test, with nothing of our own environment that would change it.
fn hale() -> Command {
    let mut command = Command::cargo_bin("hale").expect("the binary was built");
    for name in ["HALE_DATA_DIR", "HALE_SERVER", "HALE_TOKEN", "PORT", "HOST", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

fn examples() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let entries = std::fs::read_dir(dir).expect("there are examples");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
    files.sort();
    assert!(files.len() >= 7, "{files:?}");
    files
}

/// What a command did: exit status, standard output, standard error.
struct Done {
    code: i32,
    out: String,
    err: String,
}

fn run(command: &mut Command) -> Done {
    let output = command.timeout(std::time::Duration::from_secs(60)).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints text");
    Done { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
