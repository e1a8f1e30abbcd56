//! Starts `hale up` in a directory of its own, asks it through its own command line, and ends it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::keep_lines;
pub(crate) use crate::process::{alive, free_port, hale, kill, pid_of, processes_with, wait_for, wait_until};

/// A `hale up` of this test's own.
pub(crate) struct Up {
    child: Child,
    dir: Arc<TempDir>,
    lines: Arc<Mutex<Vec<String>>>,
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub(crate) url: String,
}

impl Up {
    /// Writes `yaml` to a file and runs it, in a fresh directory.
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), yaml)
    }

    /// The same, with everything in its log, as JSON.
    pub(crate) fn start_logging(yaml: &str) -> Self {
        let env = [("HALE_LOG", "debug"), ("HALE_LOG_FORMAT", "json")];
        Self::start_with(Arc::new(tempfile::tempdir().unwrap()), yaml, &env)
    }

    /// The same with these variables.
    pub(crate) fn start_tracing(yaml: &str, env: &[(&str, &str)]) -> Self {
        Self::start_with(Arc::new(tempfile::tempdir().unwrap()), yaml, env)
    }

    /// The same in a directory that has been used before.
    pub(crate) fn start_in(dir: Arc<TempDir>, yaml: &str) -> Self {
        Self::start_with(dir, yaml, &[])
    }

    /// All of it.
    pub(crate) fn start_with(dir: Arc<TempDir>, yaml: &str, env: &[(&str, &str)]) -> Self {
        let file = dir.path().join("app.yaml");
        fs::write(&file, yaml).unwrap();
        let mut child = hale()
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .args([&data_dir(&dir), &file])
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        keep_lines(child.stdout.take().unwrap(), Arc::clone(&lines));
        keep_lines(child.stderr.take().unwrap(), Arc::clone(&lines));
        let mut up = Self { child, dir, lines, url: String::new() };
        let line = up.wait_line("listening on http://");
        up.url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
        up
    }

    pub(crate) fn dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Waits for a line that holds `text`, and returns it.
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        let found = wait_for(|| {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            match self.child.try_wait().unwrap() {
                Some(status) => Err(Some(format!("it has ended: {status}"))),
                None => Err(None),
            }
        });
        found.unwrap_or_else(|why| panic!("no line with {text:?} ({why:?}) in:\n{}", self.output()))
    }

    /// Runs a command beside it and returns what came of it.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        hale().args(args).arg("--data-dir").arg(data_dir(&self.dir)).stdin(Stdio::null()).output().unwrap()
    }

    /// The same for a command that must work; its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert!(
            output.status.success(),
            "hale {args:?}: {}\n{}\nup printed:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.output()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "-o", "json"])).unwrap()
    }

    /// One replica's part of the status.
    pub(crate) fn replica(&self, name: &str) -> Value {
        let status = self.status();
        let replicas =
            status["workloads"].as_array().unwrap().iter().flat_map(|w| w["replicas"].as_array().unwrap());
        replicas
            .into_iter()
            .find(|r| r["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {status:#}"))
            .clone()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let text = self.ok(&["events", "-o", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn events_of(&self, kind: &str, subject: &str) -> Vec<Value> {
        self.events()
            .into_iter()
            .filter(|event| event["type"] == format!("dev.hale.{kind}") && event["subject"] == subject)
            .collect()
    }

    /// Waits until the status is as wanted, and returns it.
    pub(crate) fn wait_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, || self.status(), wanted)
    }

    /// Waits until a replica is as wanted, and returns it.
    pub(crate) fn wait_replica(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait(what, || self.replica(name), wanted)
    }

    /// Waits until so many events of a kind about a subject are recorded, and returns them.
    pub(crate) fn wait_events(&self, kind: &str, subject: &str, count: usize) -> Vec<Value> {
        let look = || Value::Array(self.events_of(kind, subject));
        let seen = self.wait(&format!("{count} {kind} of {subject}"), look, |seen| {
            seen.as_array().unwrap().len() >= count
        });
        seen.as_array().unwrap().clone()
    }

    fn wait(&self, what: &str, look: impl Fn() -> Value, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        wait_for(|| {
            last = look();
            if wanted(&last) { Ok(last.clone()) } else { Err(None) }
        })
        .unwrap_or_else(|_| panic!("not seen: {what}; last seen:\n{last:#}\nup printed:\n{}", self.output()))
    }

    /// Sends it a signal and waits for its end.
    pub(crate) fn end(mut self, signal: &str) -> (ExitStatus, String) {
        kill(signal, self.pid());
        let status = wait_for(|| self.child.try_wait().unwrap().ok_or(None))
            .unwrap_or_else(|_| panic!("did not end on {signal}:\n{}", self.output()));
        (status, self.output())
    }
}

impl Drop for Up {
    /// A failed test must leave nothing either: hale is ended, and its keeper then ends the replicas.
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill("TERM", self.child.id());
            if wait_for(|| self.child.try_wait().unwrap().ok_or(None)).is_err() {
                drop(self.child.kill());
                drop(self.child.wait());
            }
        }
    }
}

pub(crate) fn data_dir(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}
