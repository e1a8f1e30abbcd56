//! Servers that misbehave on purpose, and short ways to say what is asked.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use hale_check::{CheckResult, Checker, Subject};
use hale_health::{Reason, Verdict};
use hale_model::spec::{Check, HttpGet, PortRef, TcpSocket};

pub(crate) const SOON: Duration = Duration::from_millis(800);
pub(crate) const AMPLE: Duration = Duration::from_secs(30);

/// A server on a port of its own that treats every connection as it was told. Ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `treat` is given each connection and how many came before it.
    pub(crate) fn new(treat: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), treat)
    }

    pub(crate) fn at(ip: IpAddr, treat: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a loopback port");
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, end, treat) = (Arc::clone(&accepted), Arc::clone(&stop), Arc::new(treat));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let before = count.fetch_add(1, Ordering::SeqCst);
                let treat = Arc::clone(&treat);
                std::thread::spawn(move || treat(stream, before));
            }
        });
        Self { address, accepted, stop, thread: Some(thread) }
    }

    /// Answers the first request of every connection with these bytes, then closes.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |mut stream, _| {
            if request(&mut stream).is_some() {
                let _ = stream.write_all(&answer);
            }
        })
    }

    /// How many connections came.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one request; `None` when the client is gone.
pub(crate) fn request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&read).into_owned())
}

/// Blocks until the client is gone.
pub(crate) fn hang(stream: &mut TcpStream) {
    let mut waste = [0; 1024];
    while matches!(stream.read(&mut waste), Ok(count) if count > 0) {}
}

/// A plain answer.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An `httpGet` of `/healthz` on the subject's own address.
pub(crate) fn get(address: SocketAddr) -> HttpGet {
    HttpGet {
        tls: false,
        host: None,
        port: PortRef::Number(address.port()),
        path: "/healthz".into(),
        headers: Vec::new(),
        expected_status: vec![(200, 399)],
        expected_body: None,
        expected_json: Vec::new(),
        ca_file: None,
        tls_server_name: None,
        tls_insecure_skip_verify: None,
        keep_alive: false,
    }
}

/// A replica at this address.
pub(crate) fn at(address: SocketAddr) -> Subject {
    Subject { address: Some(address.ip()), ..Subject::default() }
}

pub(crate) fn http(spec: HttpGet, address: SocketAddr) -> Checker {
    Checker::compile(&Check::HttpGet(spec), &at(address)).expect("a good check")
}

pub(crate) fn tcp(address: SocketAddr) -> Checker {
    let spec = TcpSocket { host: None, port: PortRef::Number(address.port()) };
    Checker::compile(&Check::TcpSocket(spec), &at(address)).expect("a good check")
}

/// Makes a check both ways, alone and by the engine; they must agree. Returns what was found alone.
pub(crate) async fn both(checker: Checker, timeout: Duration) -> CheckResult {
    let checker = Arc::new(checker);
    let alone = checker.run(timeout).await;
    let engine = crate::engine::once(Arc::clone(&checker), timeout).await;
    assert_eq!(alone.reason(), engine.reason(), "alone {alone:?}, by the engine {engine:?}");
    // Whether a peer that goes away is seen to close or to reset is a matter of who comes first.
    if alone.reason() != Some(Reason::ConnectionReset) {
        assert_eq!(detail(&alone), detail(&engine));
    }
    assert_eq!(alone.http_status, engine.http_status);
    assert_eq!(alone.snippet, engine.snippet);
    assert_eq!(alone.warning, engine.warning);
    assert_eq!(
        alone.timings.first_byte.is_some(),
        engine.timings.first_byte.is_some(),
        "{alone:?} {engine:?}"
    );
    alone
}

/// The detail of a failure; empty for a success.
pub(crate) fn detail(result: &CheckResult) -> String {
    match &result.verdict {
        Verdict::Success => String::new(),
        Verdict::Failure { detail, .. } => detail.clone(),
    }
}

/// Asserts a failure of this kind whose detail holds all of these.
#[track_caller]
pub(crate) fn failed(result: &CheckResult, reason: Reason, says: &[&str]) {
    assert_eq!(result.reason(), Some(reason), "{result:?}");
    let detail = detail(result);
    for part in says {
        assert!(detail.contains(part), "{part:?} is not in {detail:?}");
    }
    assert!(detail.len() <= 1024);
}

#[track_caller]
pub(crate) fn succeeded(result: &CheckResult) {
    assert!(result.verdict.is_success(), "{result:?}");
}

/// Waits for something with a bound.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < AMPLE, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
