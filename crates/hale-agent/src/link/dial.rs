//! How a server is reached: over TCP and TLS with a token, or however the program that embeds an agent likes.

use std::{path::PathBuf, time::Duration};

use hale_supervisor::runtime::BoxFuture;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// How long a connection may take to come up.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long all of it may take: TLS, too, against a server that says nothing.
const DIAL_WITHIN: Duration = Duration::from_secs(10);

/// How often a quiet connection is asked whether it lives, and how long the answer may take. Beats do so too; this
/// finds a peer that vanished between them.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(5);

/// A connection to a server, and what to show there.
#[derive(Debug, Clone)]
pub struct Dialed {
    /// The connection.
    pub channel: Channel,
    /// The token, where one is asked for.
    pub token: Option<String>,
}

/// Why a server could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DialError(pub String);

/// Reaches servers.
pub trait Connector: Send + Sync + 'static {
    /// The servers there are, the preferred first.
    fn servers(&self) -> Vec<String>;

    /// Connects to one of them, or to one that a server has named. Files (token, certificates) are read anew each time.
    fn connect<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Dialed, DialError>>;
}

/// Servers by their URLs.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    /// `https://host:port`, or `http://…` where the way is trusted.
    pub servers: Vec<String>,
    /// The file that holds the token.
    pub token_file: Option<PathBuf>,
    /// Certificates that the server's is believed by, PEM; those of the system when absent.
    pub ca_file: Option<PathBuf>,
}

impl Remote {
    async fn dial(&self, server: &str) -> Result<Dialed, DialError> {
        let encrypted = server.starts_with("https://");
        if !encrypted && self.servers.iter().all(|it| it.starts_with("https://")) {
            return Err(DialError(format!("{server}: not encrypted, while all servers that are known are")));
        }
        let wrong = |error: &dyn std::error::Error| DialError(format!("{server}: {}", chain(error)));
        let token = match &self.token_file {
            Some(file) => Some(read(file).await?.trim().to_owned()),
            None => None,
        };
        let mut endpoint = Endpoint::from_shared(server.to_owned())
            .map_err(|error| wrong(&error))?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(true);
        if encrypted {
            let tls = match &self.ca_file {
                Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file).await?)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
        }
        let channel = endpoint.connect().await.map_err(|error| wrong(&error))?;
        Ok(Dialed { channel, token })
    }
}

impl Connector for Remote {
    fn servers(&self) -> Vec<String> {
        self.servers.clone()
    }

    fn connect<'a>(&'a self, server: &'a str) -> BoxFuture<'a, Result<Dialed, DialError>> {
        Box::pin(self.dial(server))
    }
}

/// Connects, or gives up when that takes too long, however the connector goes about it.
pub(super) async fn within(connector: &dyn Connector, server: &str) -> Result<Dialed, DialError> {
    let dialed = tokio::time::timeout(DIAL_WITHIN, connector.connect(server)).await;
    dialed.unwrap_or_else(|_| {
        Err(DialError(format!(
            "{server}: no connection within {} s: is that a server?",
            DIAL_WITHIN.as_secs()
        )))
    })
}

async fn read(file: &std::path::Path) -> Result<String, DialError> {
    let read = tokio::fs::read_to_string(file).await;
    read.map_err(|error| DialError(format!("can't read {}: {error}", file.display())))
}

/// An error with what is behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Hangs;

    impl Connector for Hangs {
        fn servers(&self) -> Vec<String> {
            vec!["https://hale:7450".to_owned()]
        }

        fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Dialed, DialError>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_finishes_its_handshake_is_given_up() {
        let error = within(&Hangs, "https://hale:7450").await.unwrap_err();
        assert!(error.to_string().contains("no connection within 10 s"), "{error}");
    }
}
