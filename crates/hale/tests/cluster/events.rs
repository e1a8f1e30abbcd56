//! A reader of the event stream that never gives up, as a careful consumer is: it resumes by the last id it saw, at
//! whichever server answers, and notes whatever should not have happened.

use std::{
    io::{BufReader, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::Value;

use crate::api;

/// What it has seen.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<(u64, Value)>,
    wrong: Vec<String>,
}

/// Reads until it is finished.
pub(crate) struct EventReader {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventReader {
    /// Reads from the beginning, from any of these servers.
    pub(crate) fn start(servers: Vec<SocketAddr>, token: String) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for server in servers.iter().cycle() {
                if until.load(Ordering::Relaxed) {
                    return;
                }
                // A server that is down or was killed: the next one, or the same one again.
                drop(read(*server, &token, &into, &until));
                thread::park_timeout(Duration::from_millis(50));
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// The events so far, in the order they came.
    pub(crate) fn events(&self) -> Vec<(u64, Value)> {
        self.seen.lock().unwrap().events.clone()
    }

    /// Those of a kind about a subject.
    pub(crate) fn of(&self, kind: &str, subject: &str) -> Vec<Value> {
        let kind = format!("dev.hale.{kind}");
        let about = |event: &Value| event["type"] == kind.as_str() && event["subject"] == subject;
        self.events().into_iter().map(|(_, event)| event).filter(about).collect()
    }

    /// What should not have happened: an id twice, or out of order.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.seen.lock().unwrap().wrong.clone()
    }
}

impl Drop for EventReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It looks at the flag with every piece of the stream; keep-alives are pieces too.
        drop(self.thread.take());
    }
}

fn read(at: SocketAddr, token: &str, seen: &Mutex<Seen>, stop: &AtomicBool) -> std::io::Result<()> {
    let last = seen.lock().unwrap().events.last().map_or(0, |(id, _)| *id);
    let mut stream = api::open(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\n\
         Accept: text/event-stream\r\nLast-Event-ID: {last}\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let (status, _) = api::head(&mut reader)?;
    if status != 200 {
        return Err(std::io::Error::other(format!("status {status}")));
    }
    let mut text = String::new();
    while let Some(chunk) = api::chunk(&mut reader)? {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        text.push_str(&chunk);
        while let Some(end) = text.find("\n\n") {
            let frame: String = text.drain(..end + 2).collect();
            take(&frame, seen);
        }
    }
    Ok(())
}

fn take(frame: &str, seen: &Mutex<Seen>) {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match field("event:") {
        // Where the stream begins.
        Some("position") => return,
        Some(kind @ "reset") => return seen.lock().unwrap().wrong.push(format!("not an event: {kind}")),
        _ => {}
    }
    let (Some(id), Some(data)) = (field("id:"), field("data:")) else { return };
    let mut seen = seen.lock().unwrap();
    let id: u64 = id.parse().unwrap();
    if let Some((last, _)) = seen.events.last()
        && id <= *last
    {
        let wrong = format!("{id} after {last}");
        seen.wrong.push(wrong);
    }
    seen.events.push((id, serde_json::from_str(data).unwrap()));
}
