//! Follows the endpoints that a server elsewhere tells of (S13, S24), and tells it what has drained here (H18).
//!
//! One stream to one of the servers at a time. When it ends, the next server is asked, with growing waits; until one
//! answers, the gateway goes on with what it was told last (S4). The first message of a stream is everything there is
//! and takes the place of what was known, at once: requests that are in flight are not touched.
//!
//! A server that is gone without a word is noticed by HTTP/2 pings within ten seconds; one that answers but never
//! says what there is, by the same bound.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
    time::Duration,
};

use hale_api::proto::{
    Applied, GatewayMessage, Quiet, RegistryMessage, Service, Snapshot, Subscribe,
    gateway_message::Message as ToServer, gateway_service_client::GatewayServiceClient,
    registry_message::Message as FromServer,
};
use hale_health::{Backoff, BackoffPolicy};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{Catalog, Gateways, Metrics, Run, quiet::Quiets, wire};

/// The longest wait for a connection, for an answer on it, and for the first thing it tells.
const PATIENCE: Duration = Duration::from_secs(10);

/// A ping at least so often, and the longest wait for its answer.
const PING: Duration = Duration::from_secs(5);

/// The largest message that is taken: a snapshot of some hundred thousand endpoints.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// The waits between connections. Short at first: another server may be there, and this is what draining waits for.
const RECONNECT: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(100),
    max: Duration::from_secs(5),
    multiplier: 2.0,
    jitter: 0.3,
};

/// Whom to follow, and as whom.
#[derive(Debug, Clone)]
pub struct FollowOptions {
    /// URLs of servers, at least one.
    pub servers: Vec<String>,
    /// A file with the token; it is read again for each connection.
    pub token_file: PathBuf,
    /// A file with the certificates that servers' are signed by, PEM; the system's when absent. Read again for each
    /// connection.
    pub ca_file: Option<PathBuf>,
    /// The gateway's name.
    pub name: String,
    /// Services by name; empty: all.
    pub services: Vec<String>,
}

/// Options that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// No server is named.
    #[error("no server is named")]
    NoServer,
    /// A server's URL makes no sense.
    #[error(
        "{url} is not the URL of a server ({why}); it is written as http://host:port or https://host:port"
    )]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// How the connection to a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The server that tells of changes; `None`: none does.
    pub server: Option<String>,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why there is none, when there is none.
    pub why: Option<String>,
    /// Whether a server ever told what there is, since this gateway started.
    pub informed: bool,
}

/// Why a session ended.
#[derive(Debug)]
enum Ended {
    /// We are to end.
    Told,
    /// It did not work.
    Failed(String),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        let hint = match status.code() {
            tonic::Code::Unauthenticated => {
                "; is the token file that of a gateway, and the token not revoked?"
            }
            tonic::Code::PermissionDenied => "; the token must be one of role gateway",
            _ => "",
        };
        Self::Failed(format!("{}: {}{hint}", status.code(), status.message()))
    }
}

/// Follows servers until it is dropped or told to end.
pub struct Follower {
    options: FollowOptions,
    catalog: Catalog,
    gateways: Gateways,
    metrics: Metrics,
    state: watch::Sender<Connection>,
    end: CancellationToken,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Follower {
    /// Fills `catalog`, which `gateways` serve from.
    ///
    /// # Errors
    /// No server, or one whose URL makes no sense.
    pub fn new(
        options: FollowOptions,
        catalog: Catalog,
        gateways: Gateways,
        metrics: &Metrics,
        end: CancellationToken,
    ) -> Result<Self, FollowError> {
        if options.servers.is_empty() {
            return Err(FollowError::NoServer);
        }
        for url in &options.servers {
            let wrong = |why: String| FollowError::Url { url: url.clone(), why };
            let uri: http::Uri =
                url.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
            if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
                return Err(wrong("scheme or host is missing".to_owned()));
            }
        }
        let state = watch::Sender::new(Connection {
            server: None,
            since: Timestamp::now(),
            why: Some("not connected yet".to_owned()),
            informed: false,
        });
        Ok(Self { options, catalog, gateways, metrics: metrics.clone(), state, end })
    }

    /// How the connection is, as it changes.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.state.subscribe()
    }

    /// Follows until the end.
    pub async fn run(mut self) {
        let seed = RandomState::new().build_hasher().finish();
        let mut chance = crate::balance::Chance::new(seed);
        let mut backoff = Backoff::new();
        // Gateways that were started together do not all ask the same server.
        let mut turn = chance.below(self.options.servers.len());
        loop {
            let server = self.options.servers[turn % self.options.servers.len()].clone();
            let ended = self.session(&server).await;
            self.metrics.server.connected.set(0);
            let Err(Ended::Failed(why)) = ended else { return };
            if self.state.borrow().server.is_some() {
                backoff.reset();
            }
            self.lost(&server, &why);
            turn += 1;
            let share = chance.below(1000) as f64 / 1000.0;
            tokio::select! {
                () = self.end.cancelled() => return,
                () = sleep(backoff.next(&RECONNECT, share)) => {}
            }
        }
    }

    /// One connection, until it ends.
    async fn session(&mut self, server: &str) -> Result<(), Ended> {
        let end = self.end.clone();
        let connected = tokio::select! {
            () = end.cancelled() => return Err(Ended::Told),
            connected = timeout(PATIENCE, self.connect(server)) => connected,
        };
        let late = || Ended::Failed(format!("no answer within {} s", PATIENCE.as_secs()));
        let (mut inbound, outbox) = connected.map_err(|_| late())??;
        let mut talk =
            Talk { applied: Applied::default(), tell: false, quiets: Quiets::new(self.gateways.clone()) };
        let first = tokio::select! {
            () = end.cancelled() => return Err(Ended::Told),
            first = timeout(PATIENCE, inbound.message()) => first.map_err(|_| late())??,
        };
        self.take(server, first, &mut talk)?;
        loop {
            tokio::select! {
                () = end.cancelled() => return Err(Ended::Told),
                message = inbound.message() => self.take(server, message?, &mut talk)?,
                run = talk.quiets.next() => talk.quiet(run),
                permit = outbox.reserve(), if talk.tell => match permit {
                    Ok(permit) => permit.send(talk.message()),
                    Err(_) => return Err(Ended::Failed("the server takes no more messages".to_owned())),
                },
            }
        }
    }

    async fn connect(
        &self,
        server: &str,
    ) -> Result<(Streaming<RegistryMessage>, mpsc::Sender<GatewayMessage>), Ended> {
        let channel = self.dial(server).await?;
        // What has not been sent yet is put together in `Talk`; this holds what the connection is about to take.
        let (outbox, outgoing) = mpsc::channel(2);
        let hello = Subscribe {
            name: self.options.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            services: self.options.services.clone(),
        };
        let hello = GatewayMessage { message: Some(ToServer::Subscribe(hello)) };
        // There is room: it is the first.
        let _ = outbox.try_send(hello);
        let mut request = Request::new(ReceiverStream::new(outgoing));
        request.metadata_mut().insert("authorization", self.token()?);
        let mut client = GatewayServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        Ok((client.connect(request).await?.into_inner(), outbox))
    }

    async fn dial(&self, server: &str) -> Result<Channel, Ended> {
        let failed = |error: tonic::transport::Error| Ended::Failed(chain(&error));
        let mut endpoint = Endpoint::from_shared(server.to_owned())
            .map_err(failed)?
            .connect_timeout(PATIENCE)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        if server.starts_with("https:") {
            let tls = match &self.options.ca_file {
                Some(file) => {
                    let pem = tokio::fs::read(file).await;
                    let pem = pem.map_err(|error| Ended::Failed(format!("{}: {error}", file.display())))?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
                None => ClientTlsConfig::new().with_enabled_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(failed)?;
        }
        endpoint.connect().await.map_err(failed)
    }

    fn token(&self) -> Result<MetadataValue<Ascii>, Ended> {
        let file = &self.options.token_file;
        let text = std::fs::read_to_string(file).map_err(|error| {
            Ended::Failed(format!("can't read the token file {}: {error}", file.display()))
        })?;
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", text.trim())
            .parse()
            .map_err(|_| Ended::Failed(format!("{} does not hold a token", file.display())))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Takes over what a server tells.
    fn take(&mut self, server: &str, message: Option<RegistryMessage>, talk: &mut Talk) -> Result<(), Ended> {
        let Some(message) = message else {
            return Err(Ended::Failed("the server ended the connection".to_owned()));
        };
        match message.message {
            Some(FromServer::Snapshot(Snapshot { services })) => {
                self.snapshot(services, talk);
                self.informed(server);
            }
            Some(FromServer::Service(service)) => {
                let told = self.read(service);
                talk.revision(told.set.revision);
                let set = told.set.clone();
                let (service, revision) = (set.service.as_str(), set.revision);
                let span = hale_api::model::trace_span!(next set.traceparent.as_deref(), "gateway", service, revision);
                span.in_scope(|| self.catalog.put(told));
                talk.quiets.note(&set);
            }
            Some(FromServer::Gone(name)) => {
                self.catalog.gone(&name);
                talk.quiets.gone(&name);
            }
            // What a newer server says beside is passed over.
            Some(FromServer::KeepAlive(_)) | None => {}
        }
        self.metrics.server.revision.set(i64::try_from(talk.applied.revision).unwrap_or(i64::MAX));
        Ok(())
    }

    fn snapshot(&mut self, services: Vec<Service>, talk: &mut Talk) {
        let told: Vec<_> = services.into_iter().map(|service| self.read(service)).collect();
        let sets: Vec<_> = told.iter().map(|it| it.set.clone()).collect();
        // In force first, noted then: nobody is waited for by what was known before.
        self.catalog.replace(told);
        talk.quiets.only(&sets.iter().map(|set| set.service.clone()).collect());
        for set in &sets {
            talk.revision(set.revision);
            talk.quiets.note(set);
        }
        talk.tell = true;
    }

    fn read(&self, service: Service) -> wire::Told {
        let told = wire::service(service);
        for wrong in &told.wrong {
            self.metrics.server.malformed.inc();
            tracing::warn!(service = %told.set.service, "the server told something that makes no sense: {wrong}");
        }
        told
    }

    fn informed(&self, server: &str) {
        self.metrics.server.connected.set(1);
        if self.state.borrow().server.as_deref() == Some(server) {
            return;
        }
        self.metrics.server.connections.inc();
        tracing::info!(server, "following endpoints");
        let (server, since) = (Some(server.to_owned()), Timestamp::now());
        self.state.send_replace(Connection { server, since, why: None, informed: true });
    }

    fn lost(&self, server: &str, why: &str) {
        self.metrics.server.failures.inc();
        let before = self.state.borrow().clone();
        let why = format!("{server}: {why}");
        if before.why.as_ref() == Some(&why) {
            tracing::debug!("{why}");
        } else {
            tracing::warn!(
                informed = before.informed,
                "no server tells of endpoints, going on with what is known: {why}"
            );
        }
        let since = if before.server.is_some() { Timestamp::now() } else { before.since };
        self.state.send_replace(Connection {
            server: None,
            since,
            why: Some(why),
            informed: before.informed,
        });
    }
}

/// What is to be told to the server of one connection. It grows with the runs that fall quiet while the server takes
/// nothing, each told once: no further than the endpoints there are.
struct Talk {
    applied: Applied,
    tell: bool,
    quiets: Quiets,
}

impl Talk {
    fn revision(&mut self, revision: u64) {
        self.applied.revision = self.applied.revision.max(revision);
        self.tell = true;
    }

    fn quiet(&mut self, run: Run) {
        let Run { replica, generation, incarnation } = run;
        self.applied.quiet.push(Quiet { replica, generation, incarnation });
        self.tell = true;
    }

    fn message(&mut self) -> GatewayMessage {
        self.tell = false;
        let quiet = std::mem::take(&mut self.applied.quiet);
        let applied = Applied { revision: self.applied.revision, quiet };
        GatewayMessage { message: Some(ToServer::Applied(applied)) }
    }
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
