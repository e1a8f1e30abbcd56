//! A web server of the test's own, whose answers are told to it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

/// A web server that answers each path as it is told to.
#[derive(Clone)]
pub(crate) struct Web {
    pub(crate) at: SocketAddr,
    answers: Arc<Mutex<HashMap<String, (u16, String)>>>,
}

impl Web {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub(crate) fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let web = Self { at: listener.local_addr().unwrap(), answers: Arc::default() };
        let answers = Arc::clone(&web.answers);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                thread::spawn(move || drop(answer(stream, &answers)));
            }
        });
        web
    }

    pub(crate) fn say(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }
}

fn answer(
    mut stream: std::net::TcpStream,
    answers: &Mutex<HashMap<String, (u16, String)>>,
) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let count = stream.read(&mut request)?;
    let text = String::from_utf8_lossy(&request[..count]);
    let path = text.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let (status, body) = answers.lock().unwrap().get(&path).cloned().unwrap_or((200, "ok".to_owned()));
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}
