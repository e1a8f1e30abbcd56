//! What the demo service answers.

use std::{convert::Infallible, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};

use super::Demo;

const HELP: &str = "/             who answers\n\
    /healthz      200 while alive (/break/live, /mend/live)\n\
    /readyz       200 while ready (/break/ready, /mend/ready)\n\
    /slow?ms=500  answers late\n\
    /hang         answers nothing any more\n\
    /exit?code=1  ends the process\n";

/// The longest that `/slow` waits.
const SLOWEST: u64 = 600_000;

/// Counts a request as being answered until it is dropped.
struct InFlight<'d>(&'d Demo);

impl<'d> InFlight<'d> {
    fn begin(demo: &'d Demo) -> Self {
        demo.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(demo)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn answer(
    demo: &Demo,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _counted = InFlight::begin(demo);
    if demo.hung.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD and POST are understood\n"));
    }
    let number = |name: &str| -> Option<u64> {
        let query = request.uri().query().unwrap_or("");
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    Ok(match request.uri().path() {
        "/" => text(StatusCode::OK, &format!("{} (pid {})\n", demo.name, std::process::id())),
        "/help" => text(StatusCode::OK, HELP),
        "/healthz" if demo.live.load(Ordering::Relaxed) => text(StatusCode::OK, "alive\n"),
        "/healthz" => text(StatusCode::INTERNAL_SERVER_ERROR, "broken\n"),
        "/readyz" if demo.ready.load(Ordering::Relaxed) => text(StatusCode::OK, "ready\n"),
        "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms").unwrap_or(1000).min(SLOWEST))).await;
            text(StatusCode::OK, &format!("{} (pid {}), slowly\n", demo.name, std::process::id()))
        }
        "/break/live" => switch(demo, "live", false),
        "/mend/live" => switch(demo, "live", true),
        "/break/ready" => switch(demo, "ready", false),
        "/mend/ready" => switch(demo, "ready", true),
        "/hang" => {
            demo.say("hanging: nothing is answered any more");
            demo.hung.store(true, Ordering::Relaxed);
            text(StatusCode::OK, "hanging\n")
        }
        "/exit" => {
            let code = i32::try_from(number("code").unwrap_or(0)).unwrap_or(1);
            demo.say(&format!("exiting with {code}, as asked"));
            std::process::exit(code)
        }
        _ => text(StatusCode::NOT_FOUND, HELP),
    })
}

fn switch(demo: &Demo, which: &str, to: bool) -> Response<Full<Bytes>> {
    let flag = if which == "live" { &demo.live } else { &demo.ready };
    flag.store(to, Ordering::Relaxed);
    let what = format!("{which} is {} now", if to { "mended" } else { "broken" });
    demo.say(&what);
    text(StatusCode::OK, &format!("{} (pid {}): {what}\n", demo.name, std::process::id()))
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
