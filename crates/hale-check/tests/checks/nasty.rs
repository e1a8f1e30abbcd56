//! The other side at its worst, plain and over TLS, alone and by the engine: each way of misbehaving has its typed
//! reason, and none costs more than the check's timeout.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use hale_check::{Checker, Engine, EngineOptions, Finished, Registration, Start};
use hale_health::Reason;
use hale_model::spec::{BodyMatch, HttpGet};
use rstest::rstest;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::sync::mpsc;

use crate::{
    support::{AMPLE, SOON, Server, both, failed, get, hang, http, ok, succeeded},
    tls::Ca,
};

/// How much later than its timeout a check may end on a machine that is busy.
const GRACE: Duration = Duration::from_secs(8);

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A way of misbehaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nasty {
    /// Sends its answer a byte at a time.
    Drips,
    /// Sends headers for ever, quickly.
    FloodsHeaders,
    /// Sends headers for ever, slowly: never too many, never the last.
    DripsHeaders,
    /// Sends interim answers for ever.
    Continues,
    /// Sends a body for ever.
    FloodsBody,
    /// Sends a body for ever, in chunks that hold next to nothing.
    ChunksOfNothing,
    /// Sends trailers for ever.
    FloodsTrailers,
    /// Speaks, but not HTTP.
    Garbage,
    /// Ends in the middle of the answer.
    EndsEarly,
    /// Takes the request and says nothing.
    Silent,
    /// Redirects to itself.
    Loops,
}

impl Nasty {
    const ALL: [Self; 11] = [
        Self::Drips,
        Self::FloodsHeaders,
        Self::DripsHeaders,
        Self::Continues,
        Self::FloodsBody,
        Self::ChunksOfNothing,
        Self::FloodsTrailers,
        Self::Garbage,
        Self::EndsEarly,
        Self::Silent,
        Self::Loops,
    ];

    /// What a check that wants a body finds.
    fn reason(self) -> Reason {
        match self {
            Self::Drips | Self::DripsHeaders | Self::Silent => Reason::Timeout,
            Self::FloodsHeaders
            | Self::Continues
            | Self::Garbage
            | Self::ChunksOfNothing
            | Self::FloodsTrailers => Reason::Protocol,
            Self::FloodsBody => Reason::BodyMismatch,
            Self::EndsEarly => Reason::ConnectionReset,
            Self::Loops => Reason::TooManyRedirects,
        }
    }

    /// Long enough for all but those that never end.
    fn timeout(self) -> Duration {
        if self.reason() == Reason::Timeout { SOON } else { AMPLE }
    }

    fn serve(self, stream: &mut dyn Wire) {
        if !asked(stream) {
            return;
        }
        let (quickly, slowly) = (Duration::ZERO, Duration::from_millis(20));
        match self {
            Self::Drips => {
                for byte in ok(&"x".repeat(9_000)).bytes() {
                    if !send(stream, &[byte]) {
                        return;
                    }
                    std::thread::sleep(slowly);
                }
            }
            Self::FloodsHeaders => again(stream, "HTTP/1.1 200 OK\r\n", b"A: b\r\n", quickly),
            Self::DripsHeaders => again(stream, "HTTP/1.1 200 OK\r\n", b"A: b\r\n", slowly),
            Self::Continues => again(stream, "", b"HTTP/1.1 100 Continue\r\n\r\n", quickly),
            Self::FloodsBody => again(stream, "HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096], quickly),
            Self::ChunksOfNothing => {
                let chunk = format!("1;{}\r\nx\r\n", "e".repeat(900));
                again(stream, CHUNKED, chunk.repeat(4).as_bytes(), quickly);
            }
            Self::FloodsTrailers => again(stream, &format!("{CHUNKED}0\r\n"), b"A: b\r\n", quickly),
            Self::Garbage => {
                send(stream, &[0x16, 3, 3, 0, 2, 2, 40]);
            }
            Self::EndsEarly => {
                send(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
            }
            Self::Silent => while stream.read(&mut [0; 64]).is_ok_and(|it| it > 0) {},
            Self::Loops => {
                send(stream, b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
            }
        }
    }

    fn plain(self) -> Server {
        Server::new(move |mut stream: TcpStream, _| self.serve(&mut stream))
    }

    fn over_tls(self, config: &Arc<ServerConfig>) -> Server {
        let config = Arc::clone(config);
        Server::new(move |stream, _| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            self.serve(&mut StreamOwned::new(connection, stream));
        })
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Sends all of it; whether somebody is there to take it.
fn send(stream: &mut dyn Wire, bytes: &[u8]) -> bool {
    stream.write_all(bytes).and_then(|()| stream.flush()).is_ok()
}

/// Sends a beginning, and then the same until nobody takes it any more.
fn again(stream: &mut dyn Wire, beginning: &str, bytes: &[u8], every: Duration) {
    let mut there = send(stream, beginning.as_bytes());
    while there {
        there = send(stream, bytes);
        std::thread::sleep(every);
    }
}

fn asked(stream: &mut dyn Wire) -> bool {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Wants something of the body, so that it must be read.
fn demanding(server: &Server, tls: bool) -> Checker {
    let expected_body = Some(BodyMatch::Contains("something else".into()));
    http(HttpGet { tls, expected_body, ..get(server.address) }, server.address)
}

#[rstest]
#[tokio::test]
async fn each_way_to_misbehave_has_its_reason_and_ends_in_time(
    #[values(false, true)] tls: bool,
    #[values(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)] nth: usize,
) {
    let nasty = Nasty::ALL[nth];
    let config = Arc::new(Ca::new().config("any.example", false));
    let server = if tls { nasty.over_tls(&config) } else { nasty.plain() };
    let began = Instant::now();
    let result = both(demanding(&server, tls), nasty.timeout()).await;
    failed(&result, nasty.reason(), &[]);
    assert!(result.timings.total < SOON + GRACE, "{nasty:?}: {:?}", result.timings.total);
    assert!(began.elapsed() < 2 * (SOON + GRACE), "{nasty:?}: {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_of_them_at_once_delay_no_good_one() {
    let config = Arc::new(Ca::new().config("any.example", false));
    let servers: Vec<(Server, bool)> = Nasty::ALL
        .iter()
        .flat_map(|nasty| [(nasty.plain(), false), (nasty.over_tls(&config), true)])
        .collect();
    let good = Server::new(|mut stream, _| {
        while asked(&mut stream) {
            let _ = stream.write_all(ok("something else").as_bytes());
        }
        hang(&mut stream);
    });
    let (deliver, mut results) = mpsc::channel::<Finished>(256);
    let options = EngineOptions::new(tokio::runtime::Handle::current());
    let engine = Engine::start(&options, deliver).unwrap();
    let register = |token: u64, checker: Checker, period: Duration| {
        let start = Start::Now;
        let nasty = Nasty::ALL.get(token as usize / 2);
        let timeout = nasty.map_or(AMPLE, |it| it.timeout());
        engine.register(Registration { token, checker: Arc::new(checker), period, timeout, start })
    };
    let mut probes: Vec<_> = (0_u64..)
        .zip(&servers)
        .map(|(token, (server, tls))| register(token, demanding(server, *tls), Duration::from_millis(50)))
        .collect();
    probes.push(register(1000, demanding(&good, false), Duration::from_millis(50)));
    let (mut of_good, mut of_nasty) = (0, vec![0; servers.len()]);
    while of_good < 20 || of_nasty.contains(&0) {
        let finished = tokio::time::timeout(AMPLE, results.recv()).await.expect("a result").unwrap();
        let timeout = Nasty::ALL.get(finished.token as usize / 2).map_or(AMPLE, |it| it.timeout());
        assert!(finished.result.timings.total < timeout + GRACE, "{finished:?}");
        if finished.token == 1000 {
            succeeded(&finished.result);
            of_good += 1;
        } else {
            let nth = finished.token as usize;
            failed(&finished.result, Nasty::ALL[nth / 2].reason(), &[]);
            of_nasty[nth] += 1;
        }
    }
    drop(probes);
}
