//! `grpc`: the health service `grpc.health.v1.Health/Check` (H8). SERVING is success.
//!
//! The two messages have one field each, so their bytes are written and read by hand.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hale_health::Reason;
use hale_model::spec::Grpc;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::{
    CompileError, Subject,
    net::{self, Stage, Trace},
    result::{CheckResult, Fault},
    seen::GrpcSeen,
    subject::Place,
    tls::{Alpn, Stream, Trust},
};

/// The most of an answer that is read; a health answer has two bytes.
const MAX_ANSWER: usize = 10 * 1024;

/// A compiled `grpc`.
#[derive(Debug)]
pub(crate) struct GrpcCheck {
    place: Place,
    service: String,
    /// The framed request message.
    message: Bytes,
    trust: Option<Trust>,
}

impl GrpcCheck {
    pub(crate) fn compile(spec: &Grpc, subject: &Subject) -> Result<Self, CompileError> {
        let place = subject.place(spec.host.as_deref(), &spec.port)?;
        let trust = if spec.tls {
            let own = subject.is_own(spec.host.as_deref());
            Some(Trust::new(
                spec.ca_file.clone(),
                spec.tls_server_name.as_deref(),
                spec.tls_insecure_skip_verify,
                own,
                Alpn::H2,
            )?)
        } else {
            None
        };
        Ok(Self { place, service: spec.service.clone(), message: request_message(&spec.service)?, trust })
    }

    pub(crate) async fn run(&self, mut trace: Trace, timeout: Duration) -> CheckResult {
        let mut result = match tokio::time::timeout(timeout, self.ask(timeout, &mut trace)).await {
            Ok(Ok(())) => CheckResult::success(trace.finish()),
            Ok(Err(fault)) => CheckResult::failure(fault, trace.finish()),
            Err(_) => CheckResult::failure(trace.timed_out(&self.place, timeout), trace.finish()),
        };
        result.traceparent = trace.parent.take().map(String::into_boxed_str);
        result.with_seen(&mut trace)
    }

    async fn ask(&self, timeout: Duration, trace: &mut Trace) -> Result<(), Fault> {
        let stream = net::connect(&self.place, trace).await?;
        let stream = match &self.trust {
            Some(trust) => trust.handshake(stream, &self.place, trace).await?,
            None => Stream::Plain(stream),
        };
        trace.stage = Stage::FirstByte;
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // Dropping the sender ends the connection, and with it this task; dropping this future aborts it.
        let _connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
        let answer =
            sender.send_request(self.request(timeout, trace)?).await.map_err(|error| self.broken(&error))?;
        trace.timings.first_byte = Some(trace.began.elapsed());
        trace.stage = Stage::Answer;
        self.read(answer, trace).await
    }

    fn request(&self, timeout: Duration, trace: &Trace) -> Result<Request<Full<Bytes>>, Fault> {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        let mut request = Request::post(format!("{scheme}://{}/grpc.health.v1.Health/Check", self.place))
            .version(http::Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("hale-probe/", env!("CARGO_PKG_VERSION")))
            .header("grpc-timeout", format!("{}m", timeout.as_millis().clamp(1, 99_999_999)));
        if let Some(parent) = &trace.parent {
            request = request.header("traceparent", parent);
        }
        request
            .body(Full::new(self.message.clone()))
            .map_err(|error| Fault::prober(format!("could not form a request for {}: {error}", self.place)))
    }

    async fn read(&self, answer: Response<Incoming>, trace: &mut Trace) -> Result<(), Fault> {
        let (head, mut body) = answer.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(self.protocol(format!("HTTP status {}: not a gRPC server", head.status.as_u16())));
        }
        let mut status = grpc_status(&head.headers);
        let mut message = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Some(data) = frame.data_ref() {
                message.extend_from_slice(data);
                if message.len() > MAX_ANSWER {
                    return Err(self.protocol(format!("an answer of more than {MAX_ANSWER} bytes")));
                }
            } else if let Some(trailers) = frame.trailers_ref() {
                status = status.or_else(|| grpc_status(trailers));
            }
        }
        if let Some((seen, (code, _))) = trace.seen.as_deref_mut().zip(status.as_ref()) {
            let serving = answer_status(&message).filter(|_| *code == 0);
            seen.grpc = Some(GrpcSeen { status: *code, serving });
        }
        match status {
            Some((0, _)) => self.serving(&message),
            Some((code, text)) => Err(self.refused(code, &text)),
            None => Err(self.protocol("the answer has no grpc-status: not a gRPC server".into())),
        }
    }

    fn serving(&self, framed: &[u8]) -> Result<(), Fault> {
        let status = answer_status(framed).ok_or_else(|| self.protocol("the answer is malformed".into()))?;
        let word = match status {
            1 => return Ok(()),
            0 => "UNKNOWN",
            2 => "NOT_SERVING",
            3 => return Err(self.unknown_service()),
            _ => "a status that is not on the list",
        };
        Err(Fault::new(Reason::NotServing, format!("{} answered {word}{}", self.place, self.named())))
    }

    fn refused(&self, code: u32, text: &str) -> Fault {
        let reason = match code {
            5 => return self.unknown_service(),
            4 => Reason::Timeout,
            14 => Reason::NotServing,
            _ => Reason::Protocol,
        };
        let hint = if code == 12 { " (the server has no health service)" } else { "" };
        Fault::new(reason, format!("{} answered gRPC status {code}{hint} {text}", self.place))
    }

    fn unknown_service(&self) -> Fault {
        Fault::new(
            Reason::UnknownService,
            format!("{} does not know the service{}", self.place, self.named()),
        )
    }

    fn named(&self) -> String {
        if self.service.is_empty() { String::new() } else { format!(" {:?}", self.service) }
    }

    fn protocol(&self, detail: String) -> Fault {
        Fault::new(Reason::Protocol, format!("{}: {detail}", self.place))
    }

    /// What a failed exchange means: the kernel's word where there is one.
    fn broken(&self, error: &hyper::Error) -> Fault {
        let mut source = std::error::Error::source(error);
        let mut said = error.to_string();
        while let Some(inner) = source {
            if let Some(io) = inner.downcast_ref::<std::io::Error>()
                && net::reason(io) != Reason::ProberError
            {
                return net::fault(io, "talk to", &self.place);
            }
            said = inner.to_string();
            source = inner.source();
        }
        if error.is_closed() || error.is_canceled() || error.is_incomplete_message() {
            let detail = format!("{} closed the connection without an answer", self.place);
            return Fault::new(Reason::ConnectionReset, detail);
        }
        self.protocol(format!("not a gRPC answer: {said}"))
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let text = headers.get("grpc-message").and_then(|it| it.to_str().ok()).unwrap_or_default();
    Some((code, text.to_owned()))
}

/// `HealthCheckRequest { string service = 1; }`, behind the five bytes of a gRPC frame.
fn request_message(service: &str) -> Result<Bytes, CompileError> {
    let too_long = || CompileError::Service(service.chars().take(64).collect());
    if service.len() > 4096 {
        return Err(too_long());
    }
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).map_err(|_| too_long())? | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).map_err(|_| too_long())?);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).map_err(|_| too_long())?.to_be_bytes());
    framed.extend_from_slice(&message);
    Ok(framed.into())
}

/// `HealthCheckResponse { ServingStatus status = 1; }`: absent is 0. Fields that are not known are passed over.
fn answer_status(framed: &[u8]) -> Option<u64> {
    let (flag, rest) = framed.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    if *flag != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let mut status = 0;
    let mut rest = message;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => {
                let value = varint(&mut rest)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_protobuf_of_its_one_field() {
        assert_eq!(&request_message("").unwrap()[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request_message("ab").unwrap()[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request_message(&"x".repeat(300)).unwrap();
        assert_eq!(&long[..8], [0, 0, 0, 0x01, 0x2f, 0x0a, 0xac, 0x02]);
    }

    #[test]
    fn the_status_is_found_among_fields_that_are_not_known() {
        assert_eq!(answer_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(answer_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(answer_status(&[0, 0, 0, 0, 7, 0x12, 1, b'x', 8, 2, 0x18, 9]), Some(2));
        for bad in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 0],
            &[0, 0, 0, 0, 9],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 1, 7],
        ] {
            assert_eq!(answer_status(bad), None, "{bad:?}");
        }
    }
}
