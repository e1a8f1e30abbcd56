//! `hale responder`: takes alerts, and runs programs on those that deserve it (R1–R18).
//!
//! Order of start: files and settings, lock of the data directory, addresses, and only then the responders: what an
//! earlier one left running is ended before anything is taken up.

mod args;
mod settings;
pub(crate) mod together;

use std::{net::SocketAddr, sync::Arc};

use hale_agent::{
    health as health_server,
    metrics::{exposition, register_process},
};
use hale_api::{Client, ClientTls};
use hale_model::{cluster::Role, event::NewEvent};
use hale_responder::{driver::Tell, metrics::Metrics};
use hale_server::{Limits, Listeners, TokenSet};
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::args::ResponderArgs;
use self::{
    settings::Told,
    together::{Responders, Shared},
};
use crate::{
    failure::Failure,
    files, telemetry,
    up::{lock::DataDir, signals::Signals},
};

/// Where health is served.
const HEALTH_PORT: u16 = 8080;
/// Where metrics are served.
const METRICS_PORT: u16 = 9090;

/// Runs until it is told to end.
pub(crate) fn run(args: &ResponderArgs) -> Result<(), Failure> {
    let told = settings::told(args, |name| std::env::var(name).ok())?;
    let declared = files::read(&args.files)?;
    if declared.responders.is_empty() {
        return Err(Failure::InvalidFile(
            "error: no responder is declared in these files; a document with kind: Responder declares one"
                .to_owned(),
        ));
    }
    let responders = declared.responders.iter().map(|it| told.over(it)).collect();
    let telemetry = telemetry::init(&args.telemetry, "hale-responder", "info")?;
    let dir = DataDir::take(&args.data_dir.path()).map_err(Failure::failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, 4)))
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        telemetry.connect()?;
        let ended = serve(args, &told, responders, &dir).await;
        telemetry.close().await;
        ended
    });
    runtime.shutdown_background();
    ended
}

async fn serve(
    args: &ResponderArgs,
    told: &Told,
    responders: Vec<Arc<hale_model::spec::Responder>>,
    dir: &DataDir,
) -> Result<(), Failure> {
    let mut signals = Signals::of_service()?;
    let health = args.ports.health_listen.with(args.ports.health_port, told.health_port, HEALTH_PORT);
    let metrics = args.ports.metrics_listen.with(args.ports.metrics_port, told.metrics_port, METRICS_PORT);
    let health = listen(health, "health", "--health-port").await?;
    let metrics = listen(metrics, "metrics", "--metrics-port").await?;
    let mut registry = Registry::default();
    let counted = Metrics::register(&mut registry);
    register_process(&mut registry);
    let shared = Shared {
        dir: dir.path.clone(),
        settings: told.settings,
        metrics: counted,
        tell: Arc::new(Logged),
        own_hale: own_hale(args)?,
        no_root: args.no_root,
        allow_users: &args.allow_user,
    };
    let (token, socket) = door(dir)?;
    let responders = Arc::new(Responders::start(responders, shared).await?);
    let end = CancellationToken::new();
    let tokens = TokenSet::new().with("cli", &token, Role::Admin);
    let router = hale_server::runs_router(Arc::clone(&responders) as _, tokens);
    let listeners = Listeners { socket: Some(socket), ..Listeners::default() };
    let api = tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()));
    tracing::info!(health = %health.1, metrics = %metrics.1, "the responder runs");
    let answers = answers(&responders, registry);
    let ports = [health.0, metrics.0].map(|it| tokio::spawn(health_server::serve(it, answers.clone())));
    let signal = signals.next().await;
    let ending = responders.shut_down(signal);
    tokio::pin!(ending);
    loop {
        tokio::select! {
            () = &mut ending => break,
            _ = signals.next() => responders.hurry(),
        }
    }
    end.cancel();
    ports.iter().for_each(JoinHandle::abort);
    if let Err(error) = api.await {
        tracing::error!(%error, "the API ended badly");
    }
    Ok(())
}

/// Where the runs are told, for `hale runs` on this machine, and the token for it.
fn door(dir: &DataDir) -> Result<(String, UnixListener), Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::failed(format!("can't make {what} in {}: {error}", dir.path.display()))
    };
    let token = hale_server::cli_token(&dir.path).map_err(|error| failed("a token", error))?;
    let socket = hale_server::bind_socket(&dir.path).map_err(|error| failed("the socket", error))?;
    Ok((token, socket))
}

/// R14: alive until it is told to end; ready while a source is connected and no breaker is open.
fn answers(responders: &Arc<Responders>, registry: Registry) -> health_server::Answers {
    let (alive, ready) = (Arc::clone(responders), Arc::clone(responders));
    health_server::Answers {
        well: "OK",
        alive: Arc::new(move || alive.alive()),
        ready: Arc::new(move || ready.ready()),
        metrics: Arc::new(move |accept| {
            exposition::encode(&registry, accept).map_err(|error| error.to_string())
        }),
        blackbox: None,
    }
}

/// The hale that sources without a URL listen to.
fn own_hale(args: &ResponderArgs) -> Result<Option<Client>, Failure> {
    let Some(url) = &args.server else { return Ok(None) };
    let Some(file) = &args.token_file else {
        return Err(Failure::Usage(format!("--server {url} wants a token: give --token-file")));
    };
    let token = std::fs::read_to_string(file)
        .map_err(|error| Failure::failed(format!("can't read {}: {error}", file.display())))?;
    let tls = ClientTls { ca_file: args.ca_file.clone(), ..ClientTls::default() };
    Ok(Some(Client::remote_with(url, &token, &tls)?))
}

async fn listen(on: SocketAddr, what: &str, flag: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("can't listen on {on} for {what}: {error}; {flag} names another port"))
    };
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Alone, there is no record of events: they are lines of the log.
struct Logged;

impl Tell for Logged {
    fn tell(&self, event: NewEvent) {
        let kind = event.data.kind();
        tracing::info!(event = kind, subject = event.subject, "{}", event.data.message());
    }
}
