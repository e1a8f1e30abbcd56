//! One request to a container engine over its Unix socket, as much of HTTP as that takes.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

/// How much of an answer is read: its status stands in the first line.
const FIRST_LINE_MAX: usize = 256;

/// Asks, and returns the status of the answer. All of it takes no longer than `limit`.
pub(super) fn ask(engine: &Path, method: &str, path: &str, limit: Duration) -> io::Result<u16> {
    let until = Instant::now() + limit;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // An engine that hangs takes no connection once so many wait.
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    connect(&socket, &SocketAddrUnix::new(engine)?)?;
    let mut stream = UnixStream::from(socket);
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: hale\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0; 1];
    while line.last() != Some(&b'\n') && line.len() < FIRST_LINE_MAX {
        let left = until.saturating_duration_since(Instant::now());
        // Zero would be no limit.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut byte) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => line.extend_from_slice(&byte),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    let line = String::from_utf8_lossy(&line);
    let status = line.strip_prefix("HTTP/1.").and_then(|it| it.split(' ').nth(1)?.parse().ok());
    status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("no answer of HTTP: {line}")))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// Answers one request so; what was asked.
    fn engine(answer: &'static str) -> (tempfile::TempDir, thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                asked.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (dir, served)
    }

    #[test]
    fn the_status_of_an_answer_is_told() {
        let (dir, served) = engine("HTTP/1.1 304 Not Modified\r\n\r\n");
        let limit = Duration::from_secs(20);
        assert_eq!(ask(&dir.path().join("sock"), "POST", "/containers/x/stop?t=2", limit).unwrap(), 304);
        assert!(served.join().unwrap().starts_with("POST /containers/x/stop?t=2 HTTP/1.1\r\n"));
        let (dir, served) = engine("SSH-2.0-nothing\r\n");
        let error = ask(&dir.path().join("sock"), "DELETE", "/", limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        served.join().unwrap();
        assert!(ask(&dir.path().join("none"), "DELETE", "/", limit).is_err());
    }

    #[test]
    fn an_engine_that_says_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let begun = Instant::now();
        assert!(ask(&path, "POST", "/", Duration::from_millis(200)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
