//! Traffic: clients that ask without a pause and count what went wrong.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::process::wait_until;

/// Clients that ask without a pause, each over one kept connection, and count what went wrong.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(port: u16, clients: usize, method: &'static str) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..clients)
            .map(|_| {
                let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
                thread::spawn(move || ask_until(port, method, &stop, &asked))
            })
            .collect();
        Self { stop, asked, clients }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were asked.
    pub(crate) fn wait_more(&self, more: u64) {
        let from = self.asked();
        wait_until("more requests", || self.asked() >= from + more);
    }

    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), failures)
    }
}

fn ask_until(port: u16, method: &str, stop: &AtomicBool, asked: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) && failures.len() < 100 {
        let mut stream = connection.take().unwrap_or_else(|| connect(port));
        match ask(&mut stream, method) {
            Ok(200) => connection = Some(stream),
            Ok(status) => failures.push(format!("status {status}")),
            Err(error) => failures.push(error.to_string()),
        }
        asked.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

/// A connection to a port of this machine.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// One request; its status. The answer is read by its length, so that the connection can be kept.
pub(crate) fn ask(stream: &mut TcpStream, method: &str) -> std::io::Result<u16> {
    let body = if method == "POST" { "Content-Length: 2\r\n\r\nhi" } else { "\r\n" };
    stream.write_all(format!("{method} / HTTP/1.1\r\nHost: web\r\n{body}").as_bytes())?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::Error::other("closed before the whole answer"));
        }
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).and_then(|l| l.lines().next()).map(str::trim);
        if rest.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(0) {
            return head
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .ok_or_else(|| std::io::Error::other("no status"));
        }
    }
}

/// Asks a replica itself.
pub(crate) fn post(port: u16, path: &str) -> u16 {
    post_to("127.0.0.1", port, path)
}

/// Asks a replica itself, wherever it is.
pub(crate) fn post_to(host: &str, port: u16, path: &str) -> u16 {
    let mut stream = TcpStream::connect((host, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What a service answers on a path.
pub(crate) fn body_of(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned()))
}
