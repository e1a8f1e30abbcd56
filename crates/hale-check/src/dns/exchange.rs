//! One question and its answer, over UDP or TCP (RFC 1035, RFC 7766).
//!
//! A datagram may be lost on the way: the question is sent again, to each server in turn, until the check's own timeout.
//! Whatever does not answer the question (another id, another name) is passed over, as it may be forged or late; what
//! is no DNS at all is told at once.

use std::{
    fmt,
    future::poll_fn,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    task::Poll,
    time::{Duration, Instant},
};

use hale_health::Reason;
use hickory_proto::{
    op::{Edns, Message, MessageType, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::{TcpSocket, UdpSocket},
};

use crate::{
    net::{self, Trace},
    result::Fault,
};

/// What the server may send in one datagram: what goes over any link in one piece (the DNS flag day of 2020).
const MAX_DATAGRAM: u16 = 1232;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
    /// Whether the server is to ask others.
    pub(crate) recursion: bool,
    /// Whether it is asked over TCP at once.
    pub(crate) tcp: bool,
}

/// An answer, and whose it is.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) message: Message,
    pub(crate) server: SocketAddr,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.to_ascii();
        let name = name.strip_suffix('.').filter(|it| !it.is_empty()).unwrap_or(&name);
        write!(f, "{} {name}", self.kind)
    }
}

impl Question {
    /// A message that asks it, under a random id.
    fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = self.recursion;
        message.add_query(Query::query(self.name.clone(), self.kind));
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        message.set_edns(edns);
        message
    }

    /// Whether a message answers the one that was sent.
    fn is_answered_by(&self, sent: &Message, message: &Message) -> bool {
        let same = |query: &Query| query.query_type() == self.kind && *query.name() == self.name;
        message.metadata.message_type == MessageType::Response
            && message.metadata.id == sent.metadata.id
            // A server that did not understand the question may leave it out.
            && (message.queries.is_empty() || message.queries.iter().all(same))
    }
}

/// Asks until one of the servers answers. Bounded by the caller's timeout.
pub(crate) async fn ask(
    servers: &[SocketAddr],
    question: &Question,
    trace: &mut Trace,
    timeout: Duration,
) -> Result<Answered, Fault> {
    if servers.is_empty() {
        return Err(Fault::prober("there is no name server to ask"));
    }
    let message = question.message();
    let bytes = message
        .to_vec()
        .map_err(|error| Fault::prober(format!("could not form the question {question}: {error}")))?;
    let one = |server: &SocketAddr| One { server: *server, question, message: &message, bytes: &bytes };
    let asked: Vec<One<'_>> = servers.iter().map(one).collect();
    if question.tcp {
        return over_tcp(&asked, trace, timeout).await;
    }
    let mut round =
        Round { sockets: servers.iter().map(|_| None).collect(), failed: vec![None; servers.len()] };
    let tries = u32::try_from(servers.len()).unwrap_or(1).max(3);
    let each = (timeout / tries).clamp(Duration::from_millis(20), Duration::from_secs(2));
    for nth in (0..servers.len()).cycle() {
        let (at, came) = match round.try_one(&asked, nth, each).await {
            Ok(Some(came)) => came,
            Ok(None) => continue,
            Err(fault) => return Err(fault),
        };
        let one = &asked[at];
        if !came.metadata.truncation {
            return Ok(Answered { message: came, server: one.server });
        }
        // Fetching the whole answer may take what is left; with others to ask, a part of that.
        let left = timeout.saturating_sub(trace.began.elapsed()) / u32::try_from(servers.len()).unwrap_or(1);
        match tokio::time::timeout(left, one.over_tcp(trace)).await {
            Ok(Ok(message)) => return Ok(Answered { message, server: one.server }),
            Ok(Err(fault)) => round.fails(at, fault)?,
            Err(_) => {}
        }
    }
    Err(Fault::prober("there is no name server to ask"))
}

/// TCP sends again by itself: a server gets all the time that the others leave.
async fn over_tcp(asked: &[One<'_>], trace: &mut Trace, timeout: Duration) -> Result<Answered, Fault> {
    let share = timeout / u32::try_from(asked.len()).unwrap_or(1).max(1);
    loop {
        let mut faults = 0;
        for one in asked {
            match tokio::time::timeout(share, one.over_tcp(trace)).await {
                Ok(Ok(message)) => return Ok(Answered { message, server: one.server }),
                // Another server may do better; where none of them does, that is the answer.
                Ok(Err(fault)) => {
                    faults += 1;
                    if faults == asked.len() {
                        return Err(fault);
                    }
                }
                Err(_) => {}
            }
        }
    }
}

/// The servers that are asked over UDP. An answer counts whenever it comes: a try that ends means that the question is
/// sent again, not that nobody listens any more.
struct Round {
    /// One for each server that was asked.
    sockets: Vec<Option<UdpSocket>>,
    /// What went wrong with each, since it was asked last.
    failed: Vec<Option<Fault>>,
}

impl Round {
    /// Asks one of them, and waits for an answer of any until the next is to be asked.
    async fn try_one(
        &mut self,
        asked: &[One<'_>],
        nth: usize,
        each: Duration,
    ) -> Result<Option<(usize, Message)>, Fault> {
        let until = tokio::time::Instant::now() + each;
        self.failed[nth] = None;
        if let Err(fault) = self.send(&asked[nth], nth).await {
            self.fails(nth, fault)?;
            return Ok(None);
        }
        let mut buffer = vec![0; usize::from(MAX_DATAGRAM).max(4096)];
        while let Ok((at, count)) = tokio::time::timeout_at(until, self.next(&mut buffer)).await {
            let one = &asked[at];
            let answer = match count {
                Ok(count) => one.read(&buffer[..count]),
                Err(error) => Err(one.lost(&error)),
            };
            match answer {
                Ok(answer) if one.question.is_answered_by(one.message, &answer) => {
                    return Ok(Some((at, answer)));
                }
                Ok(_) => {}
                Err(fault) => {
                    self.sockets[at] = None;
                    self.fails(at, fault)?;
                    if at == nth {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Another server may do better; where none of them does, that is the answer.
    fn fails(&mut self, at: usize, fault: Fault) -> Result<(), Fault> {
        self.failed[at] = Some(fault.clone());
        if self.failed.iter().all(Option::is_some) { Err(fault) } else { Ok(()) }
    }

    async fn send(&mut self, one: &One<'_>, nth: usize) -> Result<(), Fault> {
        let socket = match self.sockets[nth].take() {
            Some(socket) => socket,
            None => one.socket().await?,
        };
        let sent = socket.send(one.bytes).await;
        self.sockets[nth] = Some(socket);
        sent.map(drop).map_err(|error| one.lost(&error))
    }

    /// The next datagram, or error, of any of them.
    async fn next(&self, buffer: &mut [u8]) -> (usize, std::io::Result<usize>) {
        poll_fn(|context| {
            for (at, socket) in self.sockets.iter().enumerate() {
                let Some(socket) = socket else { continue };
                let mut read = ReadBuf::new(buffer);
                if let Poll::Ready(received) = socket.poll_recv(context, &mut read) {
                    let count = read.filled().len();
                    return Poll::Ready((at, received.map(|()| count)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

struct One<'a> {
    server: SocketAddr,
    question: &'a Question,
    message: &'a Message,
    bytes: &'a [u8],
}

impl One<'_> {
    fn lost(&self, error: &std::io::Error) -> Fault {
        net::fault(error, "ask", &self.server)
    }

    async fn socket(&self) -> Result<UdpSocket, Fault> {
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await.map_err(|error| self.lost(&error))?;
        // Connected, the kernel passes nobody else's datagrams on, and tells that nothing listens there.
        socket.connect(self.server).await.map_err(|error| self.lost(&error))?;
        Ok(socket)
    }

    async fn over_tcp(&self, trace: &mut Trace) -> Result<Message, Fault> {
        let lost = |error: std::io::Error| net::fault(&error, "ask over TCP", &self.server);
        let socket = match self.server {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(lost)?;
        socket.set_zero_linger().map_err(lost)?;
        let began = Instant::now();
        let mut stream = socket.connect(self.server).await.map_err(lost)?;
        trace.timings.connect = Some(began.elapsed());
        let length =
            u16::try_from(self.bytes.len()).map_err(|_| Fault::prober("the question is too long"))?;
        let framed = [&length.to_be_bytes()[..], self.bytes].concat();
        stream.write_all(&framed).await.map_err(lost)?;
        loop {
            let length = stream.read_u16().await.map_err(|error| self.ended(&error))?;
            let mut bytes = vec![0; usize::from(length)];
            stream.read_exact(&mut bytes).await.map_err(|error| self.ended(&error))?;
            let answer = self.read(&bytes)?;
            if self.question.is_answered_by(self.message, &answer) {
                return Ok(answer);
            }
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<Message, Fault> {
        Message::from_vec(bytes).map_err(|error| {
            let began = crate::result::text(&bytes[..bytes.len().min(40)], 60);
            let detail = format!("{}: not a DNS answer ({error}): it begins {began:?}", self.server);
            Fault::new(Reason::Protocol, detail)
        })
    }

    fn ended(&self, error: &std::io::Error) -> Fault {
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            let detail = format!("{} closed the connection without a whole answer", self.server);
            return Fault::new(Reason::ConnectionReset, detail);
        }
        net::fault(error, "ask over TCP", &self.server)
    }
}
