//! What is known of a check before it is made, and made of its answer after.

use std::{net::SocketAddr, time::Duration};

use hale_health::Verdict;

use super::{sockets::Conn, state::Nanos};
use crate::{
    CheckResult, Checker, Timings,
    checker::Kind,
    http::{Answer, Destination, HttpCheck, Judgement, Redirect},
    resolve,
    result::Fault,
    subject::Host,
};

/// Where a check goes that needs no more than a socket. `None`: it needs more.
pub(super) fn address(checker: &Checker) -> Option<SocketAddr> {
    let place = match &checker.kind {
        // A request that carries a trace is another one each time: it is made by a task.
        Kind::Http(check) if check.is_ready() && !hale_model::trace::is_on() => &check.place,
        Kind::Tcp(check) => &check.place,
        _ => return None,
    };
    let ip = match &place.host {
        Host::Ip(ip) => *ip,
        Host::Name(name) => *resolve::known(name)?.first()?,
        Host::Missing => return None,
    };
    Some(SocketAddr::new(ip, place.port))
}

/// The result of an answer; `Err`: where it redirects to.
pub(super) fn judge(
    check: &HttpCheck,
    conn: &Conn,
    bytes: &[u8],
    timings: Timings,
) -> Result<CheckResult, Destination> {
    let Some(head) = conn.parser.head() else {
        let fault = Fault::prober("an answer without a head was taken for complete");
        return Ok(CheckResult::failure(fault, timings));
    };
    let body = conn.parser.body(bytes);
    let answer = Answer { status: head.status, location: head.location.as_deref(), body };
    let (verdict, snippet, warning) = match check.expect.judge(answer, || check.origin()) {
        Judgement::Decided { verdict, snippet, warning } => (verdict, snippet, warning),
        Judgement::Follow(Redirect::SameHost(to)) => return Err(to),
        Judgement::Follow(Redirect::OtherHost(_)) => (Verdict::Success, None, None),
    };
    Ok(CheckResult {
        verdict,
        snippet,
        warning,
        http_status: Some(head.status),
        ..CheckResult::success(timings)
    })
}

pub(super) fn timings(conn: &Conn, began: Nanos, now: Nanos) -> Timings {
    let since = |from: Nanos, to: Nanos| Duration::from_nanos(to.saturating_sub(from));
    let shaken_at = conn.secure.as_deref().and_then(|it| it.shaken_at);
    Timings {
        dns: None,
        connect: conn.connected_at.filter(|_| !conn.reused).map(|at| since(conn.opened_at, at)),
        tls: match (conn.reused, conn.connected_at, shaken_at) {
            (false, Some(from), Some(to)) => Some(since(from, to)),
            _ => None,
        },
        first_byte: conn.first_byte_at.map(|at| since(began, at)),
        total: since(began, now),
    }
}
