//! One request on one connection: over the unix socket of a data directory, or TCP.
//!
//! A connection per request keeps the client free of state; asking is rare, and what is long (a stream) has its own
//! anyway.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use crate::{ClientError, SOCKET_FILE};

/// The longest path that fits a unix socket's address, with its end.
const MAX_SOCKET_PATH: usize = 107;

const CONNECT: Duration = Duration::from_secs(5);

/// Where hale answers.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// The socket in this data directory.
    Local(PathBuf),
    /// Over TCP.
    Tcp {
        /// `host:port`, as it stands in the URL.
        authority: String,
        /// How TLS is spoken; readable HTTP without.
        tls: Option<Arc<ClientConfig>>,
    },
}

impl Transport {
    /// What the other side is called, in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Local(dir) => dir.join(SOCKET_FILE).display().to_string(),
            Self::Tcp { authority, tls: None } => format!("http://{authority}"),
            Self::Tcp { authority, tls: Some(_) } => format!("https://{authority}"),
        }
    }

    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Local(_) => "localhost",
            Self::Tcp { authority, .. } => authority,
        }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> ClientError {
        let hint = match self {
            Self::Local(_) => "is hale running with this data directory?",
            Self::Tcp { tls: None, .. } => "is hale running there?",
            Self::Tcp { .. } => {
                "is hale running there, with TLS and a certificate that --ca-file or the system trusts?"
            }
        };
        ClientError::Unreachable(format!("nothing answers at {}: {why}; {hint}", self.name()))
    }

    /// Sends a request and waits for the head of the answer, at most `limit` from here on.
    pub(crate) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let host = self.host().parse().map_err(|_| self.unreachable("not a host name"))?;
        request.headers_mut().insert(header::HOST, host);
        let connected = timeout(CONNECT, async {
            match self {
                Self::Local(dir) => connect_local(dir).await.map(Stream::Unix),
                Self::Tcp { authority, tls: None } => TcpStream::connect(authority).await.map(Stream::Tcp),
                Self::Tcp { authority, tls: Some(tls) } => {
                    let stream = crate::tls::connect(authority, Arc::clone(tls)).await;
                    stream.map(|it| Stream::Tls(Box::new(it)))
                }
            }
        });
        let stream = match connected.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(error)),
            Err(_) => return Err(self.unreachable(format_args!("no connection within {CONNECT:?}"))),
        };
        let answer = timeout(limit, async {
            match stream {
                Stream::Unix(stream) => exchange(stream, request).await,
                Stream::Tcp(stream) => exchange(stream, request).await,
                Stream::Tls(stream) => exchange(*stream, request).await,
            }
        });
        match answer.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.unreachable(error)),
            Err(_) => Err(ClientError::Timeout(format!("{} gave no answer within {limit:?}", self.name()))),
        }
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body, or when that is dropped; its errors come out at the body too.
    tokio::spawn(connection);
    sender.send_request(request).await
}

async fn connect_local(dir: &Path) -> io::Result<UnixStream> {
    let socket = SocketPath::new(dir)?;
    UnixStream::connect(socket.path()).await
}

/// The path of the socket in a data directory, short enough for a socket address however long the directory's is.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Keeps `/proc/self/fd/N` meaning the directory.
    _dir: Option<OwnedFd>,
}

impl SocketPath {
    /// The path of [`SOCKET_FILE`] in `dir`; by way of `/proc/self/fd` where it is longer than a socket address allows.
    ///
    /// # Errors
    /// When a long path's directory can't be opened.
    pub fn new(dir: &Path) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags};

        let path = dir.join(SOCKET_FILE);
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path, _dir: None });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }

    /// What to bind or connect to, while this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
