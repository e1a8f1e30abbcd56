//! `hale kube-agent`: watches a cluster, sees to its deployment objects, and tells a server (K1–K4, K9–K11).

mod settings;

use std::{sync::Arc, time::Duration};

use hale_agent::{health as health_server, metrics::exposition};
use hale_kube::{
    agent::{Agent, Metrics, ServerOptions, State},
    cluster::Cluster,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::settings::some_time;
use crate::{cli::KubeAgentArgs, failure::Failure, telemetry, up::signals::Signals};

/// The core comes round five times a second; without a turn for so long, it is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Runs until it is told to end.
pub(crate) fn run(args: &KubeAgentArgs) -> Result<(), Failure> {
    for server in &args.server {
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(Failure::Usage(format!(
                "--server {server}: expected a URL such as https://hale:7450"
            )));
        }
    }
    let options = settings::options(args)?;
    let telemetry = telemetry::init(&args.telemetry, "hale-kube-agent", "info")?;
    // Most of it waits; parsing lists and judging is what takes time, and that is one task each.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the async runtime: {error}")))?;
    let ended = runtime.block_on(async {
        telemetry.connect()?;
        let ended = serve(args, options).await;
        telemetry.close().await;
        ended
    });
    runtime.shutdown_background();
    ended
}

async fn serve(args: &KubeAgentArgs, options: hale_kube::agent::Options) -> Result<(), Failure> {
    let mut signals = Signals::of_service()?;
    let cluster = Cluster::find(args.context.as_deref()).await.map_err(|error| {
        Failure::failed(format!(
            "no cluster to watch: {error}; set KUBECONFIG, or run where a service account is mounted"
        ))
    })?;
    tracing::info!(
        cluster = cluster.name(), namespaces = ?options.namespaces, health = options.health,
        diagnostics = options.diagnostics, interval = ?options.interval, "watching"
    );
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let servers = ServerOptions {
        urls: args.server.clone(),
        token_file: args.token_file.clone(),
        tls: args.tls.client(),
    };
    let agent = Agent::new(cluster, servers, options, metrics);
    let end = CancellationToken::new();
    let (listener, address) = listen(args).await?;
    tracing::info!(%address, "health and metrics are served");
    let health = tokio::spawn(health_server::serve(listener, answers(agent.state(), registry)));
    let mut running = tokio::spawn(agent.run(end.clone()));
    let ended = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "ending");
            end.cancel();
            // What it does is to be done again by the next one at any time: nothing is waited for.
            tokio::select! {
                ended = &mut running => ended,
                _ = signals.next() => Ok(Ok(())),
            }
        }
        ended = &mut running => ended,
    };
    health.abort();
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(Failure::failed(why)),
        Err(error) => Err(Failure::failed(format!("the agent ended badly: {error}"))),
    }
}

async fn listen(args: &KubeAgentArgs) -> Result<(TcpListener, std::net::SocketAddr), Failure> {
    let on = args.health_listen;
    let failed = |error: std::io::Error| {
        Failure::failed(format!("can't listen on {on} for health: {error}; `--health-listen` says where"))
    };
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Alive while its core comes round; ready when it has seen the cluster once. An absent server does not make it unready.
fn answers(state: watch::Receiver<State>, registry: Registry) -> health_server::Answers {
    let alive = state.clone();
    health_server::Answers {
        well: "ok",
        alive: Arc::new(move || {
            let silent = alive.borrow().turned.elapsed();
            if silent < STUCK { Ok(()) } else { Err(format!("the core has not come round for {silent:?}")) }
        }),
        ready: Arc::new(move || {
            let state = state.borrow();
            if state.ready { Ok(()) } else { Err("the cluster has not been listed yet".to_owned()) }
        }),
        metrics: Arc::new(move |accept| {
            exposition::encode(&registry, accept).map_err(|error| error.to_string())
        }),
        blackbox: None,
    }
}
