//! Starts `hale responder` in a directory of its own, sends it alerts, asks it, and ends it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{hale, keep_lines, kill, wait_for};

/// A directory with programs and files.
#[derive(Clone)]
pub(crate) struct Bench {
    dir: Arc<TempDir>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: Arc::new(tempfile::tempdir().unwrap()) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A shell script that can be run; `$DIR` in it is this directory.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let text = format!("#!/bin/sh\nDIR='{}'\n{text}\n", self.dir.path().display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The lines of a file that programs write to; none where there is none yet.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A responder of one webhook source per cluster. `rules` and `limits` are YAML flow text.
pub(crate) fn declared(clusters: &[&str], rules: &str, limits: &str) -> String {
    let sources: Vec<String> = clusters
        .iter()
        .map(|name| {
            format!("{{name: {name}, kind: webhook, listen: \"127.0.0.1:0\", labels: {{env: test}}}}")
        })
        .collect();
    format!(
        "kind: Responder\nname: triage\nsources: [{}]\nrules: [{rules}]\nlimits: {{{limits}}}\n",
        sources.join(", ")
    )
}

/// A `hale responder` of this test's own.
pub(crate) struct Responder {
    child: Child,
    pub(crate) bench: Bench,
    lines: Arc<Mutex<Vec<String>>>,
    pub(crate) health: SocketAddr,
    pub(crate) metrics: SocketAddr,
    hooks: BTreeMap<String, SocketAddr>,
}

impl Responder {
    pub(crate) fn start(bench: &Bench, yaml: &str, args: &[&str]) -> Self {
        let file = bench.path("responder.yaml");
        fs::write(&file, yaml).unwrap();
        let mut child = hale()
            .arg("responder")
            .arg(&file)
            .arg("--data-dir")
            .arg(bench.path("data"))
            .args(["--health-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(args)
            .env("HALE_LOG_FORMAT", "json")
            .env("HALE_LOG", "debug")
            .env("SECRET_OF_PARENT", "hidden")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        keep_lines(child.stdout.take().unwrap(), Arc::clone(&lines));
        keep_lines(child.stderr.take().unwrap(), Arc::clone(&lines));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut this = Self {
            child,
            bench: bench.clone(),
            lines,
            health: nowhere,
            metrics: nowhere,
            hooks: BTreeMap::new(),
        };
        let line = this.wait_log("the responder runs", |it| it["message"] == "the responder runs");
        this.health = line["health"].as_str().unwrap().parse().unwrap();
        this.metrics = line["metrics"].as_str().unwrap().parse().unwrap();
        for name in sources(yaml) {
            let line = this.wait_log(&format!("{name} listens"), |it| {
                it["message"] == "a webhook source listens" && it["source"] == name.as_str()
            });
            this.hooks.insert(name, line["address"].as_str().unwrap().parse().unwrap());
        }
        this
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has said.
    pub(crate) fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The lines of its log that are as wanted, flat: the fields beside the message.
    pub(crate) fn logged(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(|line| flat(line)).filter(|line| wanted(line)).collect()
    }

    pub(crate) fn wait_log(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(|| {
            if let Some(line) = self.logged(&wanted).into_iter().next() {
                return Ok(line);
            }
            match self.child.try_wait().unwrap() {
                Some(status) => Err(Some(format!("it has ended: {status}"))),
                None => Err(None),
            }
        });
        found.unwrap_or_else(|why| panic!("no line {what:?} ({why:?}) in:\n{}", self.output()))
    }

    /// Sends an alert to a cluster's webhook; the status of the answer.
    pub(crate) fn post(&self, cluster: &str, body: &Value) -> u16 {
        let (status, _) = ask(self.hooks[cluster], "POST", "/", &body.to_string()).unwrap_or_default();
        status
    }

    /// Sends an alert on a pod that must be taken.
    pub(crate) fn alert(&self, cluster: &str, name: &str) {
        let status = self.post(cluster, &alert(name));
        assert!((200..300).contains(&status), "{status} for {name}:\n{}", self.output());
    }

    /// The answer of the health port.
    pub(crate) fn healthy(&self, path: &str) -> (u16, String) {
        ask(self.health, "GET", path, "").unwrap_or_default()
    }

    /// One figure, by its name and labels as they are written; 0 where there is none.
    pub(crate) fn figure(&self, series: &str) -> f64 {
        self.find_figure(series).unwrap_or_else(|| panic!("no series {series} in:\n{}", self.figures()))
    }

    pub(crate) fn find_figure(&self, series: &str) -> Option<f64> {
        let text = self.figures();
        let line = text.lines().find(|it| it.strip_prefix(series).is_some_and(|it| it.starts_with(' ')))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    pub(crate) fn figures(&self) -> String {
        ask(self.metrics, "GET", "/metrics", "").unwrap_or_default().1
    }

    /// Runs a command beside it.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        hale()
            .args(args)
            .arg("--data-dir")
            .arg(self.bench.path("data"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// All runs, the oldest first.
    pub(crate) fn runs(&self) -> Vec<Value> {
        let output = self.cli(&["runs", "--limit", "1000", "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut runs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        runs.reverse();
        runs
    }

    /// The newest run on this resource.
    pub(crate) fn run_on(&self, name: &str) -> Option<Value> {
        self.runs().into_iter().rev().find(|it| it["resource"]["name"] == name)
    }

    /// Waits until the newest run on a resource stands so.
    pub(crate) fn wait_run(&self, name: &str, state: &str) -> Value {
        let mut last = Value::Null;
        wait_for(|| {
            last = self.run_on(name).unwrap_or_default();
            if last["state"] == state { Ok(last.clone()) } else { Err(None) }
        })
        .unwrap_or_else(|_| panic!("{name} is not {state}:\n{last:#}\n{}", self.output()))
    }

    /// Waits until something is true, and tells all it has said if it never is.
    pub(crate) fn wait(&self, what: &str, mut is: impl FnMut() -> bool) {
        wait_for(|| if is() { Ok(()) } else { Err(None) })
            .unwrap_or_else(|_| panic!("not seen: {what}\n{}", self.output()));
    }

    /// Kills it where it stands.
    pub(crate) fn kill(mut self) {
        kill("KILL", self.pid());
        self.child.wait().unwrap();
    }

    /// Waits for the end of one that somebody else has killed.
    pub(crate) fn gone(mut self) {
        self.child.wait().unwrap();
    }

    /// Sends it a signal and waits for its end.
    pub(crate) fn end(mut self, signal: &str) -> (ExitStatus, Vec<Value>) {
        kill(signal, self.pid());
        self.ended()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> (ExitStatus, Vec<Value>) {
        let status = wait_for(|| self.child.try_wait().unwrap().ok_or(None))
            .unwrap_or_else(|_| panic!("did not end:\n{}", self.output()));
        (status, self.logged(|_| true))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // The second one hurries.
            kill("TERM", self.child.id());
            kill("TERM", self.child.id());
            if wait_for(|| self.child.try_wait().unwrap().ok_or(None)).is_err() {
                drop(self.child.kill());
                drop(self.child.wait());
            }
        }
    }
}

/// An alert on a pod, in the plain form.
pub(crate) fn alert(name: &str) -> Value {
    json!({
        "severity": "error",
        "faultType": "CrashLoop",
        "resource": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": name},
        "message": format!("{name} crashes again and again"),
        "timestamp": "2026-01-01T00:00:00Z"
    })
}

/// Alerts in Alertmanager's form, as one message.
pub(crate) fn group(names: impl Iterator<Item = String>) -> Value {
    let alerts: Vec<Value> = names
        .map(|name| {
            json!({
                "status": "firing",
                "labels": {"alertname": "CrashLoop", "severity": "critical", "namespace": "shop", "pod": name},
                "annotations": {"summary": "it crashes"},
                "startsAt": "2026-01-01T00:00:00Z",
                "fingerprint": name
            })
        })
        .collect();
    json!({"version": "4", "status": "firing", "receiver": "hale", "alerts": alerts})
}

/// A request on a connection of its own: the status and the body of the answer.
pub(crate) fn ask(at: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(at).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split_whitespace().nth(1)?.parse().ok()?, body.to_owned()))
}

fn sources(yaml: &str) -> Vec<String> {
    let names = yaml.match_indices("{name: ").filter_map(|(at, found)| {
        let rest = &yaml[at + found.len()..];
        let (name, after) = rest.split_once(',')?;
        after.trim_start().starts_with("kind: webhook").then(|| name.to_owned())
    });
    names.collect()
}

/// A line of the log with its fields beside the message.
fn flat(line: &str) -> Option<Value> {
    let mut value: Value = serde_json::from_str(line).ok()?;
    if let Some(Value::Object(fields)) = value.as_object_mut()?.remove("fields") {
        value.as_object_mut()?.extend(fields);
    }
    Some(value)
}
