//! Bodies on their way through, in both directions: streamed, bounded, and counted until their end.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{clock, instance::Sender, metrics::InFlight, stall::Stall, table::Lease};

/// What is wrong with the body of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum UploadFault {
    /// It is larger than allowed.
    TooLarge = 1,
    /// It stood still for too long.
    Stalled = 2,
    /// It broke off, or its framing is wrong.
    Broken = 3,
}

impl fmt::Display for UploadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request body is too large",
            Self::Stalled => "the request body stands still",
            Self::Broken => "the request body broke off or is malformed",
        })
    }
}

impl std::error::Error for UploadFault {}

/// What is known of a request body that is being sent, from outside the connection that sends it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    fault: AtomicU8,
    frames: AtomicU64,
}

impl Progress {
    /// What went wrong with it, if anything did.
    pub(crate) fn fault(&self) -> Option<UploadFault> {
        match self.fault.load(Ordering::Acquire) {
            1 => Some(UploadFault::TooLarge),
            2 => Some(UploadFault::Stalled),
            3 => Some(UploadFault::Broken),
            _ => None,
        }
    }

    /// Rises while it moves.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Acquire)
    }
}

/// The body of a request on its way to an endpoint.
#[derive(Debug)]
pub(crate) enum Upload {
    /// None, or one small enough to be kept for another try.
    Whole(Option<Bytes>),
    /// Passed on as it comes.
    Stream(Box<Stream>),
}

/// A request body that is passed on as it comes.
#[derive(Debug)]
pub(crate) struct Stream {
    incoming: Incoming,
    left: u64,
    stall: Stall,
    progress: Arc<Progress>,
}

impl Upload {
    /// Passes `incoming` on, at most `limit` bytes of it, and gives up when it stands still for `stall`.
    pub(crate) fn stream(incoming: Incoming, limit: u64, stall: Duration, progress: Arc<Progress>) -> Self {
        Self::Stream(Box::new(Stream { incoming, left: limit, stall: Stall::new(stall), progress }))
    }
}

impl Stream {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let fault = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Pending if self.stall.poll_stands(cx).is_pending() => return Poll::Pending,
            Poll::Pending => UploadFault::Stalled,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(_))) => UploadFault::Broken,
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                if bytes <= self.left {
                    self.left -= bytes;
                    self.stall.moved();
                    self.progress.frames.fetch_add(1, Ordering::AcqRel);
                    return Poll::Ready(Some(Ok(frame)));
                }
                UploadFault::TooLarge
            }
        };
        self.progress.fault.store(fault as u8, Ordering::Release);
        Poll::Ready(Some(Err(fault)))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(stream) => stream.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(stream) => stream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(stream) => stream.incoming.size_hint(),
        }
    }
}

/// The body of a response on its way to the client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    content: Content,
    /// Ends with the body, and so with the request.
    _counted: InFlight,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Stream(Box<Download>),
}

/// A response body that is passed on as it comes.
#[derive(Debug)]
pub(crate) struct Download {
    incoming: Incoming,
    connection: Option<Connection>,
    stall: Stall,
}

/// The connection a response comes over, and the count of its request. Kept for the next one at the end of the body;
/// dropped, and so closed, when the body is left before.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) sender: Sender,
    pub(crate) lease: Lease,
    pub(crate) idle_most: usize,
}

impl Connection {
    /// The request is over: keeps the connection.
    fn finish(self) {
        let Self { sender, lease, idle_most } = self;
        lease.instance().keep(sender, clock::now(), idle_most);
    }
}

impl Outgoing {
    /// An answer of the gateway's own.
    pub(crate) const fn whole(bytes: Bytes, counted: InFlight) -> Self {
        Self { content: Content::Whole(Some(bytes)), _counted: counted }
    }

    /// Nothing.
    pub(crate) const fn none(counted: InFlight) -> Self {
        Self { content: Content::Whole(None), _counted: counted }
    }

    /// What an endpoint answers.
    pub(crate) fn stream(
        incoming: Incoming,
        connection: Connection,
        stall: Duration,
        counted: InFlight,
    ) -> Self {
        if incoming.is_end_stream() {
            connection.finish();
            return Self { content: Content::Whole(None), _counted: counted };
        }
        let download = Download { incoming, connection: Some(connection), stall: Stall::new(stall) };
        Self { content: Content::Stream(Box::new(download)), _counted: counted }
    }
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadFault>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            ready!(self.stall.poll_stands(cx));
            return Poll::Ready(Some(Err(DownloadFault::Stalled)));
        }
        self.stall.moved();
        let polled = ready!(polled).map(|frame| frame.map_err(DownloadFault::Broken));
        // At the last frame, not when asked once more: the next request may come before that.
        let over = polled.is_none() || (matches!(polled, Some(Ok(_))) && self.incoming.is_end_stream());
        if over && let Some(connection) = self.connection.take() {
            connection.finish();
        }
        Poll::Ready(polled)
    }
}

/// Why a response body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadFault {
    /// The endpoint broke off.
    #[error("the endpoint broke off the response")]
    Broken(#[source] hyper::Error),
    /// The endpoint sends nothing.
    #[error("the endpoint stopped half way through the response")]
    Stalled,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = DownloadFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadFault>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Stream(download) => download.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Stream(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Stream(download) => download.incoming.size_hint(),
        }
    }
}
