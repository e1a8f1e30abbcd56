//! `hale server`: the coordinator (S1–S15), alone or one of several on a PostgreSQL database.
//!
//! Order of start: lock of the data directory, database, cluster, token of an admin, and only then does it listen.

mod args;
mod copies;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use hale_agent::metrics::exposition;
use hale_model::cluster::Role;
use hale_server::{Cluster, Limits, Listeners, Metrics, Parts, Registry, Tls, TlsFiles, TokenSet, cluster};
use hale_store::Store;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) use self::args::ServeArgs;
use self::args::ServerCommand;
use crate::{
    failure::Failure,
    telemetry,
    up::{lock::DataDir, signals::Signals},
};

/// How long the store may take to write what is left.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// The most connections at once: each agent has one.
const CONNECTIONS: usize = 32_768;

/// The secret of a token that somebody chose has at least so many digits.
const SHORTEST_TOKEN: usize = 32;

/// The file in the data directory that stored secrets are encrypted with (S25).
const KEY_FILE: &str = "secret.key";

/// Serves until it is interrupted, or does what else was asked for.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    match &args.command {
        Some(ServerCommand::Backup(args)) => return copies::backup(args),
        Some(ServerCommand::Restore(args)) => return copies::restore(args),
        None => {}
    }
    hale_server::may_listen(args.listen, args.tls_cert.is_some(), args.insecure_http)
        .map_err(Failure::Usage)?;
    let telemetry = telemetry::init(&args.telemetry, "hale-server", "info")?;
    let dir = DataDir::take(&args.data_dir.path()).map_err(Failure::failed)?;
    // Each agent has a connection; the limit before is nobody's here.
    let _before = hale_keeper::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        telemetry.connect()?;
        let ended = serve(args, &dir).await;
        telemetry.close().await;
        ended
    });
    runtime.shutdown_background();
    ended
}

async fn serve(args: &ServeArgs, dir: &DataDir) -> Result<(), Failure> {
    let mut signals = Signals::of_service()?;
    let server = Server::start(args, dir).await?;
    let signal = signals.next().await;
    tracing::info!(signal, "ending");
    tokio::select! {
        () = server.stop() => {}
        _ = signals.next() => tracing::warn!("ending at once"),
    }
    Ok(())
}

/// A server that runs.
struct Server {
    cluster: Cluster,
    store: Store,
    end: CancellationToken,
    serving: JoinHandle<()>,
}

/// Reads certificates anew when they change.
fn follow_certificates(tls: Option<Tls>, end: CancellationToken) {
    let Some(tls) = tls else { return };
    tokio::spawn(async move {
        if let Err(error) = tls.follow(end).await {
            tracing::error!(%error, "changes of certificates are not heard of");
        }
    });
}

/// The tokens that no database needs to know: the command line's, and a given administrator's. Without one, the first
/// administrator's is made.
async fn tokens(args: &ServeArgs, dir: &DataDir, store: &Store) -> Result<TokenSet, Failure> {
    let token = hale_server::cli_token(&dir.path)
        .map_err(|error| Failure::failed(format!("can't make a token in {}: {error}", dir.path.display())))?;
    let tokens = TokenSet::new().with("cli", &token, Role::Admin);
    match &args.admin_token_file {
        Some(file) => Ok(tokens.with("admin", &given_admin(file)?, Role::Admin)),
        None => {
            first_admin(&dir.path, store).await?;
            Ok(tokens)
        }
    }
}

impl Server {
    async fn start(args: &ServeArgs, dir: &DataDir) -> Result<Self, Failure> {
        let tls = tls(args)?;
        let (tcp, address) = listen(args.listen).await?;
        let metrics_tcp = match args.metrics_listen {
            Some(on) => Some(listen(on).await?.0),
            None => None,
        };
        let socket = hale_server::bind_socket(&dir.path).map_err(|error| {
            Failure::failed(format!("can't make the socket in {}: {error}", dir.path.display()))
        })?;
        let store = open(args, dir).await?;
        let tokens = tokens(args, dir, &store).await?;
        let registry = Arc::new(Registry::new());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = args.advertise_url.clone().unwrap_or_else(|| format!("{scheme}://{address}"));
        let options = cluster::Options { heartbeat: args.heartbeat_interval, lease: args.lease, url };
        let cluster = Cluster::start(store.clone(), tokens.clone(), Arc::clone(&registry), options)
            .await
            .map_err(|error| Failure::failed(format!("can't join the cluster: {error}")))?;
        let end = CancellationToken::new();
        let mut registered = prometheus_client::registry::Registry::default();
        let counted = hale_server::metrics::start(&mut registered, &cluster, &store, end.clone());
        let key = args.secret_key_file.clone().unwrap_or_else(|| dir.join(KEY_FILE));
        let webhooks = hale_server::webhooks::start(&cluster, store.clone(), &key, counted, end.clone())
            .map_err(Failure::failed)?;
        let kube = kube_options(args);
        let kube = hale_server::kube::start(&cluster, store.clone(), kube, &mut registered, end.clone());
        let metrics: Metrics = Arc::new(move |accept| {
            exposition::encode(&registered, accept).map_err(|error| error.to_string())
        });
        let router = hale_server::router(Parts {
            control: Arc::new(cluster.clone()),
            cluster: Some(cluster.clone()),
            store: store.clone(),
            registry,
            metrics: Arc::clone(&metrics),
            probing: None,
            tokens,
            webhooks: Some(webhooks),
            runs: None,
            kube: Some(kube),
            loopback: address.ip().is_loopback(),
            end: end.clone(),
        });
        let router = hale_server::with_grpc(router, cluster.grpc().await);
        follow_certificates(tls.clone(), end.clone());
        if let Some(tcp) = metrics_tcp {
            let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
            let router = hale_server::metrics_alone(metrics);
            tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()));
        }
        let limits = Limits { connections: CONNECTIONS, ..Limits::default() };
        let listeners = Listeners { tcp: Some(tcp), tls, socket: Some(socket) };
        let serving = tokio::spawn(hale_server::serve(router, listeners, limits, end.clone()));
        tracing::info!(address = %format!("{scheme}://{address}"), "listening");
        Ok(Self { cluster, store, end, serving })
    }

    /// Agents first, so that they go elsewhere; then requests that are left; then the database.
    async fn stop(self) {
        self.cluster.stop().await;
        self.end.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the API ended badly");
        }
        if tokio::time::timeout(LAST_WRITES, self.store.close()).await.is_err() {
            tracing::error!("what was left could not be written in time");
        }
    }
}

fn kube_options(args: &ServeArgs) -> hale_server::kube::Options {
    hale_server::kube::Options {
        retention: args.diagnostics.retention,
        cleanup_interval: args.diagnostics.cleanup_interval,
        lease: args.lease,
        ..hale_server::kube::Options::default()
    }
}

fn tls(args: &ServeArgs) -> Result<Option<Tls>, Failure> {
    let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) else { return Ok(None) };
    let files = TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: args.ca_file.clone() };
    Tls::load(files).map(Some).map_err(Failure::failed)
}

async fn listen(on: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("can't listen on {on}: {error}"));
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn open(args: &ServeArgs, dir: &DataDir) -> Result<Store, Failure> {
    let options = hale_store::Options { event_age: args.event_retention, ..hale_store::Options::default() };
    match &args.database_url {
        Some(url) => Store::connect(url, options)
            .await
            .map_err(|error| Failure::failed(format!("can't use the database: {error}"))),
        None => {
            let database = dir.join("hale.db");
            Store::open(&database, options)
                .await
                .map_err(|error| Failure::failed(format!("can't open {}: {error}", database.display())))
        }
    }
}

/// The admin's token that somebody put in a file. One that could be guessed is refused.
fn given_admin(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("can't read {}: {error}", file.display())))?;
    let token = text.trim();
    let parts: Vec<&str> = token.split('_').collect();
    let hex = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_hexdigit());
    let formed =
        matches!(parts[..], ["hale", short, long] if hex(short) && hex(long) && long.len() >= SHORTEST_TOKEN);
    if !formed {
        return Err(Failure::failed(format!(
            "{} does not hold a token: expected hale_NAME_SECRET, both hexadecimal, the secret of at least \
             {SHORTEST_TOKEN} digits: echo hale_$(openssl rand -hex 4)_$(openssl rand -hex 32)",
            file.display()
        )));
    }
    Ok(token.to_owned())
}

/// The first start leaves an admin's token in the data directory (C3).
async fn first_admin(dir: &Path, store: &Store) -> Result<(), Failure> {
    use hale_store::cluster::{Change, Guard, Record, Write};

    let failed =
        |error: &dyn std::fmt::Display| Failure::failed(format!("can't make an admin's token: {error}"));
    let Some((token, record)) = hale_server::admin_token(dir).map_err(|error| failed(&error))? else {
        return Ok(());
    };
    let record = Record::Token(record);
    let write = Write { guards: vec![Guard::Absent(record.key())], changes: vec![Change::Put(record)] };
    store.write(write).await.map_err(|error| failed(&error))?;
    let path = dir.join(hale_server::ADMIN_FILE);
    hale_server::keep_token(&path, &token).map_err(|error| failed(&error))?;
    tracing::info!(path = %path.display(), "an admin's token was made");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_file_is_taken_unless_it_could_be_guessed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let long = format!("hale_00ab12cd_{}", "0123456789abcdef".repeat(4));
        std::fs::write(&file, format!("{long}\n")).unwrap();
        assert_eq!(given_admin(&file).unwrap(), long);
        for wrong in [
            "",
            "hale_00ab12cd_abcdef",
            "secret-of-forty-characters-or-even-more-than",
            &format!("{long} {long}"),
        ] {
            std::fs::write(&file, wrong).unwrap();
            assert!(given_admin(&file).is_err(), "{wrong:?}");
        }
        assert!(given_admin(&dir.path().join("missing")).is_err());
    }
}
