//! Containers: ended when the agent is dead, by their main process or by their engine (N19, S9).

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Instant,
};

use common::{Kept, PATIENCE, key, wait_for};
use hale_keeper::{
    clock, procfs,
    protocol::{Answer, Deadline, Op, Outsider, Outsiders, Text},
};

/// An engine that answers everything so, or nothing at all; and what it is asked.
fn engine(dir: &Path, answer: Option<&'static str>) -> (PathBuf, Receiver<String>) {
    let path = dir.join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // More than is asked in a test.
    let (tell, asked) = sync_channel(64);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream: UnixStream = stream.unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).unwrap();
            } else {
                kept.push(stream);
            }
            let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    (path, asked)
}

const DONE: Option<&str> = Some("HTTP/1.1 204 No Content\r\n\r\n");

/// The main process of a container: a process that nobody here is the parent of but the test.
struct Main(Child);

impl Main {
    fn start(script: &str) -> Self {
        Self(Command::new("/bin/sh").args(["-c", script]).spawn().unwrap())
    }

    fn identity(&self) -> Option<(u32, u64)> {
        let pid = self.0.id();
        Some((pid, procfs::process(i32::try_from(pid).unwrap()).unwrap().start_time))
    }

    fn ended(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for("the main process to end", || self.0.try_wait().unwrap());
        status.signal().unwrap_or(0)
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn outsider(name: &str, socket: &Path) -> Outsider {
    Outsider {
        key: key(name),
        socket: Text::from(socket),
        container: format!("{name}.1"),
        stop_signal: 15,
        process: None,
        borrowed: false,
        remove: false,
        deadline: None,
    }
}

fn enter(kept: &mut Kept, runs: Vec<Outsider>) {
    let answer = kept.ask(Op::Outside(Box::new(Outsiders { runs, whole: false })));
    assert!(matches!(answer, Answer::Done(_)), "{answer:?}");
}

fn ends_with_agent() -> Kept {
    Kept::new(|options| {
        options.end_with_agent = true;
        options.end_grace_ms = 300;
    })
}

#[test]
fn containers_end_with_an_agent_that_is_killed_and_are_removed() {
    let mut kept = ends_with_agent();
    let (socket, asked) = engine(&kept.path(""), DONE);
    let mut gentle = Main::start("exec sleep 1000");
    let mut stubborn = Main::start("trap '' TERM; while :; do sleep 0.05; done");
    let runs = vec![
        Outsider { process: gentle.identity(), remove: true, ..outsider("gentle", &socket) },
        Outsider { process: stubborn.identity(), remove: true, ..outsider("stubborn", &socket) },
        Outsider { remove: true, ..outsider("unseen", &socket) },
        Outsider { borrowed: true, ..outsider("borrowed", &socket) },
        Outsider { remove: true, ..outsider("over", &socket) },
    ];
    enter(&mut kept, runs);
    kept.ask(Op::Forget(key("over")));
    kept.link = None;
    kept.keeper.wait().unwrap();
    assert_eq!((gentle.ended(), stubborn.ended()), (15, 9));
    let mut asked: Vec<String> = asked.try_iter().collect();
    asked.sort();
    let wanted = [
        "DELETE /containers/gentle.1?force=1&v=1",
        "DELETE /containers/stubborn.1?force=1&v=1",
        "DELETE /containers/unseen.1?force=1&v=1",
        "POST /containers/unseen.1/stop?t=1",
    ];
    assert_eq!(asked, wanted);
}

#[test]
fn an_engine_that_hangs_keeps_no_container_alive_and_no_keeper() {
    let mut kept = ends_with_agent();
    let (socket, _asked) = engine(&kept.path(""), None);
    let mut main = Main::start("exec sleep 1000");
    enter(
        &mut kept,
        vec![
            Outsider { process: main.identity(), remove: true, ..outsider("web", &socket) },
            outsider("unseen", &socket),
            outsider("nowhere", Path::new("/nowhere/engine.sock")),
        ],
    );
    kept.link = None;
    assert_eq!(main.ended(), 15);
    let begun = Instant::now();
    kept.keeper.wait().unwrap();
    assert!(begun.elapsed() < PATIENCE, "it took {:?}", begun.elapsed());
}

#[test]
fn a_number_that_has_become_another_process_is_left_alone() {
    let mut kept = ends_with_agent();
    let (socket, asked) = engine(&kept.path(""), DONE);
    let mut main = Main::start("exec sleep 1000");
    let (pid, started) = main.identity().unwrap();
    enter(&mut kept, vec![Outsider { process: Some((pid, started + 1)), ..outsider("web", &socket) }]);
    kept.link = None;
    kept.keeper.wait().unwrap();
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["POST /containers/web.1/stop?t=1"]);
    assert!(main.0.try_wait().unwrap().is_none(), "it runs on");
}

#[test]
fn a_container_ends_at_its_deadline_without_an_agent_and_is_kept_for_the_next() {
    let mut kept = Kept::new(|_| {});
    let (socket, asked) = engine(&kept.path(""), DONE);
    let mut first = Main::start("exec sleep 1000");
    let mut spared = Main::start("exec sleep 1000");
    let soon = |millis: u64| clock::boot_nanos() + millis * 1_000_000;
    enter(
        &mut kept,
        vec![
            Outsider {
                process: first.identity(),
                remove: true,
                deadline: Some((soon(2000), 1000)),
                ..outsider("first", &socket)
            },
            Outsider {
                process: spared.identity(),
                deadline: Some((soon(2000), 1000)),
                ..outsider("spared", &socket)
            },
            Outsider { borrowed: true, process: spared.identity(), ..outsider("adopted", &socket) },
        ],
    );
    kept.ask(Op::Deadline(Deadline { keys: vec![key("spared")], at: None, grace_ms: 0 }));
    let at = Some(soon(2000));
    kept.ask(Op::Deadline(Deadline { keys: vec![key("adopted")], at, grace_ms: 1500 }));
    kept.link = None;
    assert_eq!(first.ended(), 15);
    let asked = asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(asked, "POST /containers/adopted.1/stop?t=2", "by its engine, which would start it again");
    assert!(spared.0.try_wait().unwrap().is_none());
    kept.connect();
}

#[test]
fn one_that_could_not_be_ended_at_its_deadline_is_tried_again() {
    let mut kept = Kept::new(|_| {});
    let (socket, asked) = engine(&kept.path(""), Some("HTTP/1.1 500 Internal Server Error\r\n\r\n"));
    enter(&mut kept, vec![Outsider { deadline: Some((clock::boot_nanos(), 0)), ..outsider("web", &socket) }]);
    for _ in 0..2 {
        assert_eq!(asked.recv_timeout(PATIENCE).unwrap(), "POST /containers/web.1/stop?t=0");
    }
    kept.ask(Op::Forget(key("web")));
}
