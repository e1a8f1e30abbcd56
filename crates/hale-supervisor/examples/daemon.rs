//! A made-up daemon that watches three parts of itself: its uplink, its cache and its listener.
//!
//! Run it with `cargo run -p hale-supervisor --example daemon`. After two seconds the uplink loses its connection, is
//! found failing, and is restarted; the example then prints how everything is and ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_health::{ProbeKind, ProbeTiming, RestartPolicy};
use hale_model::spec::{Check, PortRef, TcpSocket};
use hale_supervisor::monitor::{Change, Component, Monitor};

/// What the daemon talks to the world by.
#[derive(Default)]
struct Uplink {
    connected: AtomicBool,
    connections: AtomicU64,
}

impl Uplink {
    async fn connect(&self) -> std::io::Result<()> {
        // A real one would dial here. Whatever takes longer than the restart timeout is cut off.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn ping(&self) -> Result<(), &'static str> {
        if self.connected.load(Ordering::Relaxed) { Ok(()) } else { Err("no answer to a ping") }
    }
}

/// Asked four times a second; three failures in a row are one too many.
fn four_times_a_second(kind: ProbeKind) -> ProbeTiming {
    ProbeTiming {
        period: Duration::from_millis(250),
        timeout: Duration::from_millis(200),
        ..ProbeTiming::default_for(kind)
    }
}

/// Its checks and its restart are async closures over the daemon's own state.
fn uplink(uplink: &Arc<Uplink>) -> Component {
    let (asked, restarted) = (Arc::clone(uplink), Arc::clone(uplink));
    Component::new("uplink")
        .timing(ProbeKind::Liveness, four_times_a_second(ProbeKind::Liveness))
        .liveness(move || {
            let uplink = Arc::clone(&asked);
            async move { uplink.ping().await }
        })
        .on_restart(move || {
            let uplink = Arc::clone(&restarted);
            async move { uplink.connect().await }
        })
        .restart_timeout(Duration::from_secs(10))
}

/// It is ready once it is warm, and is never restarted: readiness only tells.
fn cache(warm: &Arc<AtomicBool>) -> Component {
    let warm = Arc::clone(warm);
    Component::new("cache").timing(ProbeKind::Readiness, four_times_a_second(ProbeKind::Readiness)).readiness(
        move || {
            let warm = warm.load(Ordering::Relaxed);
            async move { if warm { Ok(()) } else { Err("still cold") } }
        },
    )
}

/// It is asked by one of hale's own checks, needs the uplink, and is given up after three restarts in ten minutes.
fn listener(port: u16) -> Component {
    let check = Check::TcpSocket(TcpSocket { host: None, port: PortRef::Number(port) });
    Component::new("listener")
        .timing(ProbeKind::Liveness, four_times_a_second(ProbeKind::Liveness))
        .check(ProbeKind::Liveness, check)
        .depends_on(["uplink"])
        .policy(RestartPolicy { max_restarts: 3, ..RestartPolicy::default() })
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (line, warm) = (Arc::new(Uplink::default()), Arc::new(AtomicBool::new(false)));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    line.connect().await?;

    let monitor = Monitor::new();
    monitor.add(uplink(&line))?;
    monitor.add(cache(&warm))?;
    monitor.add(listener(socket.local_addr()?.port()))?;

    let mut changes = monitor.changes();
    monitor.start_all().await?;
    warm.store(true, Ordering::Relaxed);

    let breaks = Arc::clone(&line);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        breaks.connected.store(false, Ordering::Relaxed);
    });
    while let Some(change) = changes.next().await {
        println!("{change:?}");
        if matches!(change, Change::Restarted { .. }) {
            break;
        }
    }

    // Now, rather than at the next period.
    for checked in monitor.check_now("uplink").await? {
        println!("uplink, {}: {:?}", checked.probe, checked.failure);
    }
    for component in monitor.summary().await.components {
        println!(
            "{}: {} ({}), up {:?}, {} restarts, last error {:?}",
            component.name,
            component.status,
            component.phase,
            component.uptime,
            component.restarts,
            component.last_error
        );
    }
    println!("connected {} times", line.connections.load(Ordering::Relaxed));
    monitor.shutdown().await;
    Ok(())
}
