//! The closed loop (R10): what is mended is a success only when the health signal says so.

use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::{
    harness::Bench,
    process::{hale, keep_lines, kill, wait_for},
};

/// A `hale up` with a workload that is ready while a file is there, and a responder that listens to its events.
struct Up {
    child: std::process::Child,
    bench: Bench,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Up {
    fn start(program: &str) -> Self {
        let bench = Bench::new();
        fs::write(bench.path("well"), "").unwrap();
        let mend = bench.script("mend.sh", program);
        let page = bench.script("page.sh", "echo \"$HALE_NAME $HALE_STEP\" >> $DIR/paged");
        let yaml = format!(
            r#"
kind: Workload
name: web
process: {{command: ["sleep", "100000"]}}
readinessProbe: {{exec: {{command: ["test", "-e", "{well}"]}}, periodSeconds: 0.1, failureThreshold: 2}}
---
kind: Responder
name: loop
sources: [{{name: here, kind: hale}}]
rules:
- name: mend
  match: {{faultTypes: ["replica.*"]}}
  run: {{command: ["{mend}"]}}
  successWhen: {{recoveredWithin: 3s}}
  escalate: [{{command: ["{page}"]}}]
"#,
            well = bench.path("well").display(),
            mend = mend.display(),
            page = page.display()
        );
        fs::write(bench.path("app.yaml"), yaml).unwrap();
        let mut child = hale()
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .args([bench.path("data"), bench.path("app.yaml")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        keep_lines(child.stdout.take().unwrap(), Arc::clone(&lines));
        keep_lines(child.stderr.take().unwrap(), Arc::clone(&lines));
        let up = Self { child, bench, lines };
        up.wait("web-0 is ready", || {
            let status = up.json(&["status", "-o", "json"])?;
            (status["workloads"][0]["ready"] == 1).then_some(status)
        });
        // What happens before it listens is nothing to it.
        up.wait("the responder listens", || {
            let text = fs::read_to_string(up.bench.path("data/cli.token")).ok()?;
            let figures = up.figures(text.trim())?;
            figures
                .lines()
                .any(|it| it == "hale_responder_sse_connections_active{cluster=\"here\"} 1")
                .then_some(Value::Null)
        });
        up
    }

    fn figures(&self, token: &str) -> Option<String> {
        use std::io::{Read, Write};
        let lines = self.lines.lock().unwrap();
        let line = lines.iter().find(|it| it.contains("listening on http://"))?.clone();
        drop(lines);
        let at = line.split("http://").nth(1)?.split_whitespace().next()?;
        let mut stream = std::net::TcpStream::connect(at).ok()?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    fn output(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    fn json(&self, args: &[&str]) -> Option<Value> {
        let output = hale()
            .args(args)
            .arg("--data-dir")
            .arg(self.bench.path("data"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    fn runs(&self) -> Vec<Value> {
        let runs = self.json(&["runs", "-o", "json"]).unwrap_or_default();
        runs.as_array().cloned().unwrap_or_default()
    }

    fn events(&self) -> Vec<String> {
        let output = hale()
            .args(["events", "-o", "json", "--data-dir"])
            .arg(self.bench.path("data"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).ok()?["type"].as_str()?.to_owned()))
            .collect()
    }

    fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        wait_for(|| look().ok_or(None))
            .unwrap_or_else(|_| panic!("not seen: {what}; runs: {:#?}\n{}", self.runs(), self.output()))
    }

    fn wait_run(&self, step: u64, state: &str) -> Value {
        self.wait(&format!("step {step} is {state}"), || {
            self.runs().into_iter().find(|it| it["step"] == step && it["state"] == state)
        })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        kill("TERM", self.child.id());
        kill("TERM", self.child.id());
        drop(self.child.wait());
    }
}

#[test]
fn a_program_that_mends_the_workload_has_succeeded_once_the_replica_is_ready() {
    let up = Up::start("echo $HALE_NAME >> $DIR/ran\ntouch $DIR/well");
    fs::remove_file(up.bench.path("well")).unwrap();
    let run = up.wait_run(0, "succeeded");
    assert_eq!((&run["exit_code"], &run["cluster"]), (&Value::from(0), &Value::from("here")), "{run:#}");
    assert_eq!(run["resource"]["name"], "web-0");
    assert_eq!(up.bench.lines("ran"), ["web-0"], "it ran once");
    assert!(up.bench.lines("paged").is_empty());
    let status = up.json(&["status", "-o", "json"]).unwrap();
    assert_eq!(status["workloads"][0]["ready"], 1, "{status:#}");
    let events = up.events();
    for kind in ["dev.hale.run.started", "dev.hale.run.succeeded"] {
        assert_eq!(events.iter().filter(|it| *it == kind).count(), 1, "{kind} in {events:#?}");
    }
}

#[test]
fn a_program_that_claims_success_and_has_mended_nothing_is_ineffective_and_escalated() {
    let up = Up::start("echo $HALE_NAME >> $DIR/ran\nexit 0");
    fs::remove_file(up.bench.path("well")).unwrap();
    let run = up.wait_run(0, "ineffective");
    assert_eq!(run["exit_code"], 0, "{run:#}");
    let next = up.wait_run(1, "ineffective");
    assert_eq!(next["escalates"], run["id"]);
    assert_eq!(up.bench.lines("paged"), ["web-0 1"]);
    let events = up.events();
    for kind in ["dev.hale.run.failed", "dev.hale.run.escalated"] {
        assert!(events.iter().any(|it| it == kind), "{kind} in {events:#?}");
    }
}
