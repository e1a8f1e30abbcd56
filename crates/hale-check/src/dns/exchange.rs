//! One question and its answer, over UDP or TCP (RFC 1035, RFC 7766).
//!
//! A datagram may be lost on the way: the question is sent again, to each server in turn, until the check's own timeout.
//! Whatever does not answer the question (another id, another name) is passed over, as it may be forged or late; what
//! is no DNS at all is told at once.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use hale_health::Reason;
use hickory_proto::{
    op::{Edns, Message, MessageType, Query},
    rr::{Name, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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

/// Asks until one of the servers answers. Bounded by the caller's timeout, of which each try gets a part.
pub(crate) async fn ask(
    servers: &[SocketAddr],
    question: &Question,
    trace: &mut Trace,
    timeout: Duration,
) -> Result<Answered, Fault> {
    let message = question.message();
    let bytes = message
        .to_vec()
        .map_err(|error| Fault::prober(format!("could not form the question {question}: {error}")))?;
    let tries = u32::try_from(servers.len()).unwrap_or(1).max(3);
    let each = (timeout / tries).clamp(Duration::from_millis(20), Duration::from_secs(2));
    let mut faults = 0;
    for (nth, server) in servers.iter().cycle().enumerate() {
        let one = One { server: *server, question, message: &message, bytes: &bytes };
        let tried = if question.tcp {
            // TCP sends again by itself: a server gets all the time that the others leave.
            let share = timeout / u32::try_from(servers.len()).unwrap_or(1).max(1);
            tokio::time::timeout(share, one.over_tcp(trace)).await
        } else {
            tokio::time::timeout(each, one.over_udp(trace)).await
        };
        match tried {
            Ok(Ok(message)) => return Ok(Answered { message, server: *server }),
            // Another server may do better; where none of them does, that is the answer.
            Ok(Err(fault)) => {
                faults += 1;
                if faults == servers.len() {
                    return Err(fault);
                }
            }
            Err(_) => {}
        }
        if (nth + 1) % servers.len() == 0 {
            faults = 0;
        }
    }
    Err(Fault::prober("there is no name server to ask"))
}

struct One<'a> {
    server: SocketAddr,
    question: &'a Question,
    message: &'a Message,
    bytes: &'a [u8],
}

impl One<'_> {
    async fn over_udp(&self, trace: &mut Trace) -> Result<Message, Fault> {
        let any: SocketAddr = match self.server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let lost = |error: std::io::Error| net::fault(&error, "ask", &self.server);
        let socket = UdpSocket::bind(any).await.map_err(lost)?;
        // Connected, the kernel passes nobody else's datagrams on, and tells that nothing listens there.
        socket.connect(self.server).await.map_err(lost)?;
        socket.send(self.bytes).await.map_err(lost)?;
        let mut buffer = vec![0; usize::from(MAX_DATAGRAM).max(4096)];
        loop {
            let count = socket.recv(&mut buffer).await.map_err(lost)?;
            let answer = self.read(&buffer[..count])?;
            if !self.question.is_answered_by(self.message, &answer) {
                continue;
            }
            if answer.metadata.truncation {
                return self.over_tcp(trace).await;
            }
            return Ok(answer);
        }
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
