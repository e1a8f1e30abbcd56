//! One HTTP check over tokio: TLS, names, redirects, kept connections, all of it.
//!
//! The engine makes plain checks of an address on its own sockets and comes here for the rest.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use hale_health::{Reason, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Answer, Destination, HttpCheck, Judgement, MAX_REDIRECTS, Redirect, response::Parser};
use crate::{
    net::{self, Stage, Trace},
    result::{CheckResult, Fault},
    seen::HttpSeen,
    subject::Place,
    tls,
};

/// A connection kept for the next check.
#[derive(Debug)]
pub(crate) struct Kept(tls::Stream);

/// Whether a connection is kept after the exchange, and whether it was before.
#[derive(Debug, Clone, Copy)]
struct Reuse {
    keep: bool,
    kept: bool,
}

/// An answer that was received.
struct Received {
    parser: Parser,
    bytes: Vec<u8>,
}

impl HttpCheck {
    /// Makes the check.
    pub(crate) async fn run(&self, trace: Trace, timeout: Duration) -> CheckResult {
        let origin = self.origin();
        self.run_from(origin, 0, trace, timeout).await
    }

    /// Goes on with a check that was redirected `hops` times already.
    pub(crate) async fn run_from(
        &self,
        to: Destination,
        hops: u8,
        mut trace: Trace,
        timeout: Duration,
    ) -> CheckResult {
        let mut status = None;
        let left = timeout.saturating_sub(trace.began.elapsed());
        let done = tokio::time::timeout(left, self.follow(to, hops, &mut trace, &mut status)).await;
        let mut result = match done {
            Ok(Ok((verdict, snippet, warning))) => {
                CheckResult { verdict, snippet, warning, ..CheckResult::success(trace.finish()) }
            }
            Ok(Err(fault)) => CheckResult::failure(fault, trace.finish()),
            Err(_) => CheckResult::failure(trace.timed_out(&self.place, timeout), trace.finish()),
        };
        result.http_status = status;
        result.traceparent = trace.parent.take().map(String::into_boxed_str);
        result.with_seen(&mut trace)
    }

    async fn follow(
        &self,
        mut to: Destination,
        mut hops: u8,
        trace: &mut Trace,
        status: &mut Option<u16>,
    ) -> Result<(Verdict, Option<Box<str>>, Option<Box<str>>), Fault> {
        loop {
            let received = self.ask(&to, hops, trace).await?;
            let Some(head) = received.parser.head() else {
                return Err(Fault::prober("an answer without a head was taken for complete"));
            };
            *status = Some(head.status);
            if let Some(seen) = trace.seen.as_deref_mut() {
                seen.http = Some(HttpSeen {
                    minor: head.minor,
                    redirects: hops,
                    content_length: head.content_length(),
                    body_read: received.parser.body(&received.bytes).len(),
                    tls: to.tls,
                });
            }
            let answer = Answer {
                status: head.status,
                location: head.location.as_deref(),
                body: received.parser.body(&received.bytes),
            };
            match self.expect.judge(answer, || to.clone()) {
                Judgement::Decided { verdict, snippet, warning } => return Ok((verdict, snippet, warning)),
                Judgement::Follow(_) if hops >= MAX_REDIRECTS => return Err(too_many_redirects()),
                Judgement::Follow(Redirect::SameHost(next)) => to = next,
                Judgement::Follow(Redirect::OtherHost(_)) => return Ok((Verdict::Success, None, None)),
            }
            hops += 1;
        }
    }

    /// One request. A kept connection that turns out to be stale is replaced by a fresh one, once.
    async fn ask(&self, to: &Destination, hops: u8, trace: &mut Trace) -> Result<Received, Fault> {
        let other = match &trace.parent {
            Some(parent) => self.with_header(to, hops, &format!("traceparent: {parent}\r\n")),
            None if hops > 0 => self.request_for(to),
            None => Vec::new(),
        };
        let request = if other.is_empty() { &self.request[..] } else { &other[..] };
        if hops == 0
            && let Some(kept) = self.take_kept()
        {
            match self.exchange(kept.0, request, trace, Reuse { keep: true, kept: true }).await {
                Ok(received) => return Ok(received),
                Err((fault, true)) => drop(fault),
                Err((fault, false)) => return Err(fault),
            }
        }
        let place = Place { host: self.place.host.clone(), port: to.port };
        let stream = net::connect(&place, trace).await?;
        let stream = self.secure(stream, to, &place, trace).await?;
        self.exchange(stream, request, trace, Reuse { keep: hops == 0, kept: false })
            .await
            .map_err(|(fault, _)| fault)
    }

    /// The request for a destination, with one header more.
    fn with_header(&self, to: &Destination, hops: u8, line: &str) -> Vec<u8> {
        let mut request = if hops > 0 { self.request_for(to) } else { self.request.to_vec() };
        // After the first two lines, which are those of the request and the host.
        let lines = request.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let at = lines.take(2).last().unwrap_or(0);
        request.splice(at..at, line.bytes());
        request
    }

    async fn secure(
        &self,
        stream: TcpStream,
        to: &Destination,
        place: &Place,
        trace: &mut Trace,
    ) -> Result<tls::Stream, Fault> {
        if !to.tls {
            return Ok(tls::Stream::Plain(stream));
        }
        match &self.trust {
            Some(trust) => trust.handshake(stream, place, trace).await,
            // Redirected from HTTP to HTTPS on the same host: the usual rule of H7.
            None => tls::Trust::usual(self.own, tls::Alpn::Http1).handshake(stream, place, trace).await,
        }
    }

    /// Sends a request and reads the answer. The flag of an error: the connection was stale, nothing had come.
    async fn exchange(
        &self,
        mut stream: tls::Stream,
        request: &[u8],
        trace: &mut Trace,
        reuse: Reuse,
    ) -> Result<Received, (Fault, bool)> {
        trace.stage = Stage::FirstByte;
        let Reuse { keep, kept: kept_before } = reuse;
        let lost = |error: std::io::Error, nothing_came: bool| {
            let fault = tls::lost(&error, &self.place);
            let stale = kept_before && nothing_came && fault.reason == Reason::ConnectionReset;
            (fault, stale)
        };
        stream.write_all(request).await.map_err(|error| lost(error, true))?;
        stream.flush().await.map_err(|error| lost(error, true))?;
        let mut received = Received { parser: Parser::default(), bytes: Vec::with_capacity(2048) };
        loop {
            let count = match stream.read_buf(&mut received.bytes).await {
                Ok(count) => count,
                // Many servers end TLS without a close_notify: that is an end too.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(lost(error, received.bytes.is_empty())),
            };
            if count > 0 && trace.stage == Stage::FirstByte {
                trace.stage = Stage::Answer;
                trace.timings.first_byte = Some(trace.began.elapsed());
            }
            let step = received.parser.advance(&received.bytes, count == 0);
            let nothing_came = received.bytes.is_empty();
            match step.map_err(|fault| (self.located(fault), kept_before && nothing_came))? {
                Some(complete) => {
                    if complete.reusable && keep && self.keep_alive {
                        self.keep(stream);
                    }
                    return Ok(received);
                }
                None => trim(&mut received.bytes),
            }
        }
    }

    fn located(&self, fault: Fault) -> Fault {
        Fault { detail: format!("{}: {}", self.place, fault.detail), ..fault }
    }

    fn take_kept(&self) -> Option<Box<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, stream: tls::Stream) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(Kept(stream)));
    }
}

/// Room for the next read, without letting the buffer double.
fn trim(bytes: &mut Vec<u8>) {
    if bytes.capacity() - bytes.len() < 1024 {
        bytes.reserve_exact(4096);
    }
}

/// More redirects on the same host than are followed.
pub(crate) fn too_many_redirects() -> Fault {
    Fault::new(Reason::TooManyRedirects, format!("more than {MAX_REDIRECTS} redirects on the same host"))
}

impl Trace {
    /// Goes on with a check that began earlier and was answered by a redirect.
    pub(crate) fn resume(began: Instant) -> Self {
        Self { began, stage: Stage::Connect, ..Self::new() }
    }
}
