//! The way of a request: judged, sent to an endpoint, sent to another where that is safe, answered (S17).
//!
//! | what failed | was anything sent? | sent again? |
//! | --- | --- | --- |
//! | no connection | no | to another endpoint, any method, within the budget |
//! | a kept connection was closed already | no | on a fresh connection, any method |
//! | a connection broke before the response | perhaps | idempotent requests, within the budget |
//! | no response in time | yes | no: 504 |
//! | the response broke off | yes | no: the client sees it break off |

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Options,
    answer::{Refusal, Wants},
    attempt::{self, How, Tried},
    body::{Connection, Outgoing, Progress, Upload, UploadFault},
    clock,
    headers::{self, Head},
    instance::{Instance, Sender},
    metrics::{InFlight, RetryReason, ServiceMetrics},
    server::Place,
    table::{Lease, Nobody, Table, Try},
};

/// A request goes to no more endpoints than this, whatever the budget.
const MOST_TRIES: usize = 5;

/// Everything that a request of one service needs.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) service: String,
    pub(crate) table: Arc<Table>,
    pub(crate) options: Options,
    pub(crate) metrics: Arc<ServiceMetrics>,
    /// WebSocket connections, which outlive their request.
    pub(crate) tunnels: TaskTracker,
    /// Ends them.
    pub(crate) end: CancellationToken,
}

/// The body of a request, between tries.
#[derive(Debug)]
enum Payload {
    /// None, or kept: as often as needed.
    Whole(Option<Bytes>),
    /// Passed on as it comes: once, unless it is given back untouched.
    Once(Option<Upload>, Arc<Progress>),
}

/// The head of a response, and the connection its body comes over.
struct Answered {
    response: Response<Incoming>,
    sender: Sender,
    lease: Lease,
}

/// One request on its way.
struct Journey<'a> {
    proxy: &'a Proxy,
    head: Head,
    payload: Payload,
    tried: Vec<Arc<Instance>>,
    fresh: bool,
}

impl Proxy {
    /// Answers a request: an endpoint does, or the gateway says why none could.
    pub(crate) async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        client: IpAddr,
        place: Arc<Place>,
    ) -> Response<Outgoing> {
        let counted = self.metrics.request();
        let wants = Wants::of(request.headers());
        let upgrade = hyper::upgrade::on(&mut request);
        let response = match self.forward(request, client).await {
            Ok(answered) => self.deliver(answered, (upgrade, place), counted),
            Err(refusal) => {
                if matches!(refusal, Refusal::NoEndpoint(_)) {
                    self.metrics.no_endpoint.inc();
                }
                tracing::debug!(service = %self.service, ?refusal, "request refused");
                refusal.into_response(&self.service, wants, counted)
            }
        };
        self.metrics.answered(response.status());
        response
    }

    async fn forward(&self, request: Request<Incoming>, client: IpAddr) -> Result<Answered, Refusal> {
        let (parts, incoming) = request.into_parts();
        let head = headers::for_endpoint(parts, client)?;
        if let (false, Err(Nobody::Ready { since })) =
            (incoming.is_end_stream(), self.table.anybody(clock::now()))
        {
            // Before the body is read: a client that waits for `100 Continue` then need not send it.
            return Err(Refusal::NoEndpoint(since));
        }
        let payload = self.payload(&head, incoming).await?;
        Journey { proxy: self, head, payload, tried: Vec::new(), fresh: false }.go().await
    }

    /// Takes the body of an idempotent request in, if it is small, so that it can be sent again.
    async fn payload(&self, head: &Head, incoming: Incoming) -> Result<Payload, Refusal> {
        if incoming.is_end_stream() {
            return Ok(Payload::Whole(None));
        }
        let size = incoming.size_hint().exact();
        if size.is_some_and(|size| size > self.options.max_body_bytes) {
            return Err(Refusal::Upload(UploadFault::TooLarge));
        }
        if head.is_idempotent() && size.is_some_and(|size| size <= self.options.max_replay_bytes) {
            let all =
                Limited::new(incoming, usize::try_from(self.options.max_replay_bytes).unwrap_or(usize::MAX));
            let all = tokio::time::timeout(self.options.stall_timeout, all.collect()).await;
            let all = all.map_err(|_| Refusal::Upload(UploadFault::Stalled))?;
            return Ok(Payload::Whole(Some(
                all.map_err(|_| Refusal::Upload(UploadFault::Broken))?.to_bytes(),
            )));
        }
        let progress = Arc::new(Progress::default());
        let (limit, stall) = (self.options.max_body_bytes, self.options.stall_timeout);
        Ok(Payload::Once(Some(Upload::stream(incoming, limit, stall, Arc::clone(&progress))), progress))
    }

    /// Hands an endpoint's answer to the client.
    fn deliver(
        &self,
        answered: Answered,
        (upgrade, place): (OnUpgrade, Arc<Place>),
        counted: InFlight,
    ) -> Response<Outgoing> {
        let Answered { mut response, sender, lease } = answered;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let endpoint = hyper::upgrade::on(&mut response);
            self.tunnels.spawn(tunnel(upgrade, endpoint, self.end.clone(), (lease, place)));
            let (mut parts, _) = response.into_parts();
            headers::for_client(&mut parts);
            return Response::from_parts(parts, Outgoing::none(counted));
        }
        let connection = Connection { sender, lease, idle_most: self.options.idle_per_endpoint };
        let (mut parts, incoming) = response.into_parts();
        headers::for_client(&mut parts);
        let body = Outgoing::stream(incoming, connection, self.options.stall_timeout, counted);
        Response::from_parts(parts, body)
    }

    /// Notes what an endpoint's answer, or the want of one, says of it.
    fn note(&self, instance: &Arc<Instance>, well: bool) {
        if well {
            instance.succeeded();
        } else if let Some(length) = self.table.failed(instance, clock::now()) {
            self.metrics.ejections.inc();
            let (service, replica, seconds) = (&self.service, &instance.run.replica, length.as_secs());
            tracing::warn!(%service, %replica, seconds, "endpoint passed over: request after request failed there");
        }
    }
}

impl Journey<'_> {
    /// From endpoint to endpoint, until one answers or going on is not safe.
    async fn go(mut self) -> Result<Answered, Refusal> {
        let (mut which, mut last) = (Try::First, None);
        for _ in 0..MOST_TRIES {
            let lease = match self.proxy.table.pick(clock::now(), &self.tried, which) {
                Ok(lease) => lease,
                Err(Nobody::Ready { since }) => return Err(Refusal::NoEndpoint(since)),
                Err(Nobody::Left | Nobody::Budget) => break,
            };
            if let Some((reason, _)) = last.take() {
                self.proxy.metrics.retried(reason);
                let (service, replica) = (&self.proxy.service, &lease.instance().run.replica);
                tracing::debug!(%service, %replica, reason = reason.as_str(), "sending a request again");
            }
            let how = How { options: &self.proxy.options, repeatable: self.repeatable(), fresh: self.fresh };
            let (request, progress) = (self.request(), self.payload.progress());
            let (reason, refusal) =
                match attempt::send(lease.instance(), request, progress.as_deref(), how).await {
                    Tried::Answered(response, sender) => return self.answered(response, sender, lease),
                    failed => self.judge(lease.instance(), failed),
                };
            let Some(reason) = reason else { return Err(refusal) };
            which = if reason == RetryReason::Stale { Try::Anew } else { Try::Retry };
            last = Some((reason, refusal));
        }
        Err(last.map_or(Refusal::NoEndpoint(None), |(_, refusal)| refusal))
    }

    fn answered(
        &self,
        response: Response<Incoming>,
        sender: Sender,
        lease: Lease,
    ) -> Result<Answered, Refusal> {
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS && !self.head.upgrade {
            self.proxy.note(lease.instance(), false);
            return Err(Refusal::Broken("it switched protocols unasked".into()));
        }
        let failure = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT]
            .contains(&status);
        self.proxy.note(lease.instance(), !failure);
        Ok(Answered { response, sender, lease })
    }

    /// What a try that failed means: why it may be sent again, if it may, and what to answer otherwise.
    fn judge(&mut self, instance: &Arc<Instance>, failed: Tried) -> (Option<RetryReason>, Refusal) {
        match failed {
            Tried::NoConnection(request, error) => {
                self.payload.give_back(request.into_body());
                self.avoid(instance);
                let why = format!("{}: {error}", instance.run.replica);
                (Some(RetryReason::Connect), Refusal::Unreachable(why))
            }
            Tried::Stale(request) => {
                self.payload.give_back(request.into_body());
                self.fresh = true;
                (Some(RetryReason::Stale), Refusal::Unreachable("the connection was closed".into()))
            }
            Tried::Broke { why, kept } => {
                if let Some(fault) = self.payload.progress().and_then(|progress| progress.fault()) {
                    return (None, Refusal::Upload(fault));
                }
                // A kept connection may simply have come to its end: that says nothing of the endpoint.
                self.fresh = true;
                if !kept {
                    self.avoid(instance);
                }
                (self.repeatable().then_some(RetryReason::Reset), Refusal::Broken(why))
            }
            Tried::TimedOut | Tried::Answered(..) => {
                self.proxy.note(instance, false);
                (None, Refusal::NoAnswer)
            }
        }
    }

    /// The endpoint is at fault: the next try goes elsewhere.
    fn avoid(&mut self, instance: &Arc<Instance>) {
        self.proxy.note(instance, false);
        self.tried.push(Arc::clone(instance));
    }

    const fn repeatable(&self) -> bool {
        self.head.is_idempotent() && matches!(self.payload, Payload::Whole(_))
    }

    /// The request as the next endpoint gets it.
    fn request(&mut self) -> Request<Upload> {
        let mut request = Request::new(self.payload.take());
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        request
    }
}

impl Payload {
    fn take(&mut self) -> Upload {
        match self {
            Self::Whole(bytes) => Upload::Whole(bytes.clone()),
            Self::Once(upload, _) => upload.take().unwrap_or(Upload::Whole(None)),
        }
    }

    fn give_back(&mut self, body: Upload) {
        if let Self::Once(upload, _) = self {
            *upload = Some(body);
        }
    }

    fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Whole(_) => None,
            Self::Once(_, progress) => Some(Arc::clone(progress)),
        }
    }
}

/// Passes bytes both ways between a client and an endpoint that agreed on WebSocket, until one of them ends.
async fn tunnel(client: OnUpgrade, endpoint: OnUpgrade, end: CancellationToken, held: (Lease, Arc<Place>)) {
    let pass = async {
        let (Ok(client), Ok(endpoint)) = tokio::join!(client, endpoint) else { return };
        let (mut client, mut endpoint) = (TokioIo::new(client), TokioIo::new(endpoint));
        // One side that goes away is the usual end of it.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut endpoint).await;
    };
    tokio::select! {
        () = pass => {}
        () = end.cancelled() => {}
    }
    drop(held);
}
