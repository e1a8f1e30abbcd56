//! `hale gateway`: takes requests to ready endpoints, as a server elsewhere tells of them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hale_agent::metrics::exposition;
use hale_gateway::{
    Catalog, Gateways, Metrics, Options,
    follow::{FollowOptions, Follower},
    health::Health,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{cli::GatewayArgs, failure::Failure, telemetry, up::signals::Signals};

/// How long requests have to finish when the gateway is told to end; a second signal hurries.
const LAST_REQUESTS: Duration = Duration::from_secs(30);

/// Serves until it is interrupted.
pub(crate) fn run(args: &GatewayArgs) -> Result<(), Failure> {
    let telemetry = telemetry::init(&args.telemetry, "hale-gateway", "info")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("can't start the async runtime: {error}")))?;
    runtime.block_on(async {
        telemetry.connect()?;
        let ended = serve(args).await;
        telemetry.close().await;
        ended
    })
}

async fn serve(args: &GatewayArgs) -> Result<(), Failure> {
    let mut signals = Signals::of_service()?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry).with_server(&mut registry);
    let (catalog, end) = (Catalog::default(), CancellationToken::new());
    let gateways = Gateways::start(catalog.offers(), Options::default(), &metrics);
    let options = FollowOptions {
        servers: args.server.clone(),
        token_file: args.token_file.clone(),
        ca_file: args.ca_file.clone(),
        name: args.name.clone().unwrap_or_else(host_name),
        services: args.service.clone(),
    };
    let follower = Follower::new(options, catalog, gateways.clone(), &metrics, end.clone())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(on) = args.health_listen {
        let (listener, address) = listen(on).await?;
        tracing::info!(%address, "health and metrics are served");
        let health = Health {
            gateways: gateways.clone(),
            connection: follower.connection(),
            metrics: Arc::new(move |accept| {
                exposition::encode(&registry, accept).map_err(|error| error.to_string())
            }),
        };
        tokio::spawn(health.serve(listener, end.clone()));
    }
    let following = tokio::spawn(follower.run());
    let signal = signals.next().await;
    tracing::info!(signal, "ending");
    // The connection is kept to the last, so that the server hears what has drained.
    tokio::select! {
        () = gateways.shutdown(LAST_REQUESTS) => {}
        _ = signals.next() => {}
    }
    end.cancel();
    following.await.map_err(|error| Failure::failed(format!("following the server ended badly: {error}")))
}

async fn listen(on: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("can't listen on {on} for health: {error}; `--health-listen` says where"))
    };
    let listener = TcpListener::bind(on).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// What this machine calls itself.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
