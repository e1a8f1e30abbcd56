//! The REST API over a plain socket: for what is asked again and again, where a process per question would be slow.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Asks once, on a connection of its own.
pub(crate) fn ask(
    at: SocketAddr,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> std::io::Result<Answer> {
    let mut stream = open(at)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut reader = BufReader::new(stream);
    let (status, chunked) = head(&mut reader)?;
    let mut text = String::new();
    if chunked {
        while let Some(chunk) = chunk(&mut reader)? {
            text.push_str(&chunk);
        }
    } else {
        reader.read_to_string(&mut text)?;
    }
    Ok(Answer { status, body: text })
}

/// A connection that gives up on a server that says nothing.
pub(crate) fn open(at: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads the head of an answer: its status, and whether its body comes in chunks.
pub(crate) fn head(reader: &mut impl BufRead) -> std::io::Result<(u16, bool)> {
    let broken = || std::io::Error::other("no head of an answer");
    let (mut line, mut status, mut chunked) = (String::new(), None, false);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            return Ok((status.ok_or_else(broken)?, chunked));
        }
        match status {
            None => status = text.split(' ').nth(1).and_then(|word| word.parse().ok()),
            Some(_) => chunked |= text == "transfer-encoding: chunked",
        }
    }
}

/// The next chunk; `None` after the last.
pub(crate) fn chunk(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::Error::other("the stream was cut off"));
    }
    let size = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; size + 2];
    reader.read_exact(&mut bytes)?;
    bytes.truncate(size);
    Ok((size > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}
