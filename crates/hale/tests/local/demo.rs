//! `hale demo-web`, and `hale probe` against it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{hale, run};

/// A running demo service; ended with the test.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
    address: String,
}

impl Demo {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(environment: &[(&str, &std::ffi::OsStr)]) -> Self {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("hale"))
            .args(["demo-web", "--port", "0"])
            .env_remove("NOTIFY_SOCKET")
            .env("HALE_REPLICA", "web-7")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("it says where it listens");
        let address = line.trim().rsplit("http://").next().unwrap_or_default().to_owned();
        Self { child, out, address }
    }

    fn open(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n").expect("it reads");
        stream
    }

    /// Status and body.
    fn get(&self, path: &str) -> (u16, String) {
        answer(self.open(path))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it lives");
    }

    fn ended(mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < until, "it did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    let status = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    (status, text.split("\r\n\r\n").nth(1).unwrap_or("").to_owned())
}

#[test]
fn it_says_who_answers_and_each_switch_breaks_and_mends_one_thing() {
    let demo = Demo::start();
    let pid = demo.child.id();
    assert_eq!(demo.get("/"), (200, format!("web-7 (pid {pid})\n")));
    assert_eq!((demo.get("/healthz").0, demo.get("/readyz").0), (200, 200));
    demo.get("/break/ready");
    assert_eq!((demo.get("/healthz").0, demo.get("/readyz").0), (200, 503));
    demo.get("/break/live");
    demo.get("/mend/ready");
    assert_eq!((demo.get("/healthz").0, demo.get("/readyz").0), (500, 200));
    demo.get("/mend/live");
    assert_eq!((demo.get("/healthz").0, demo.get("/nothing").0), (200, 404));
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_ends_with_0() {
    let mut demo = Demo::start();
    let slow = demo.open("/slow?ms=400");
    // The request is in flight once another, sent later, was answered.
    demo.get("/");
    demo.signal(Signal::TERM);
    let mut said = String::new();
    demo.out.read_line(&mut said).expect("it says that it stops");
    assert!(said.starts_with("stopping"), "{said}");
    assert!(TcpStream::connect(&demo.address).is_err() || answer_or_none(&demo.address).is_none());
    assert_eq!(answer(slow).0, 200);
    assert_eq!(demo.ended().code(), Some(0));
}

fn answer_or_none(address: &str) -> Option<u8> {
    let mut byte = [0];
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n").ok()?;
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}

#[test]
fn it_ends_with_the_status_that_is_asked_for() {
    let demo = Demo::start();
    let asked = demo.open("/exit?code=7");
    assert_eq!(demo.ended().code(), Some(7));
    drop(asked);
}

#[test]
fn one_that_hangs_accepts_and_never_answers() {
    let demo = Demo::start();
    assert_eq!(demo.get("/hang").0, 200);
    let done =
        run(hale().args(["probe", "--timeout", "200ms"]).arg(format!("http://{}/healthz", demo.address)));
    assert_eq!(done.code, 1);
    assert!(done.out.starts_with("failed  timeout"), "{}", done.out);
    let done = run(hale().arg("probe").arg(&demo.address));
    assert_eq!(done.code, 0, "its port is open: {}", done.out);
}

#[test]
fn a_probe_tells_each_check_with_its_timings() {
    let demo = Demo::start();
    let url = format!("http://{}/healthz", demo.address);
    let done = run(hale().args(["probe", &url, "--count", "3", "--interval", "1ms"]));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[..3].iter().all(|line| line.starts_with("ok  status 200") && line.contains("connect")),
        "{lines:?}"
    );
    assert!(lines[3].starts_with("3 checks, 0 failed  min ") && lines[3].contains("p95"), "{lines:?}");

    let done = run(hale().args(["probe", &url, "-o", "json"]));
    let value: serde_json::Value = serde_json::from_str(&done.out).expect("one object");
    assert_eq!((&value["ok"], &value["http_status"]), (&true.into(), &200.into()));
    assert!(value["total_ms"].as_f64().is_some_and(|it| it > 0.0), "{value}");

    demo.get("/break/live");
    let done = run(hale().args(["probe", &url, "-o", "json"]));
    let value: serde_json::Value = serde_json::from_str(&done.out).expect("one object");
    assert_eq!((done.code, &value["reason"]), (1, &"status_mismatch".into()));
    assert!(done.err.contains("1 of 1 checks failed"), "{}", done.err);
    let done = run(hale().args(["probe", &url, "--expected-status", "500"]));
    assert_eq!(done.code, 0);
}

#[test]
fn a_probe_of_a_closed_port_is_refused() {
    let free =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it has one");
    let done = run(hale().args(["probe", &free.to_string()]));
    assert_eq!(done.code, 1);
    assert!(done.out.starts_with("failed  connection_refused"), "{}", done.out);
    let done = run(hale().args(["probe", &format!("grpc://{free}/shop.Orders")]));
    assert_eq!(done.code, 1);
    assert!(done.out.contains("connection_refused"), "{}", done.out);
}

#[test]
fn it_reports_over_its_notify_socket_while_it_is_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    let demo = Demo::start_with(&[("NOTIFY_SOCKET", path.as_os_str()), ("WATCHDOG_USEC", "20000".as_ref())]);
    let told = || {
        let mut bytes = [0; 200];
        let length = socket.recv(&mut bytes).expect("it reports");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert_eq!(told(), "READY=1\nSTATUS=serving");
    assert_eq!((told(), told()), ("WATCHDOG=1".to_owned(), "WATCHDOG=1".to_owned()));
    demo.get("/break/live");
    // What was on its way is read; then nothing comes, until it is mended.
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
    while socket.recv(&mut [0; 200]).is_ok() {}
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
    demo.get("/mend/live");
    assert_eq!(told(), "WATCHDOG=1");
    demo.signal(Signal::TERM);
    let last = std::iter::repeat_with(told).find(|it| it != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(demo.ended().code(), Some(0));
}
