//! `hale demo-web`: a small web service to try hale on, honest about itself, with switches to break it.

mod notify;
mod pages;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::notify::Notifier;
use crate::{cli::DemoWebArgs, failure::Failure, output};

/// More connections than this wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;

/// What the service is like at the moment.
struct Demo {
    /// Who answers: the replica's name where hale gave one.
    name: String,
    /// Whether `/healthz` answers 200.
    live: AtomicBool,
    /// Whether `/readyz` answers 200.
    ready: AtomicBool,
    /// Whether it has stopped answering anything.
    hung: AtomicBool,
    /// Requests being answered.
    in_flight: AtomicUsize,
}

impl Demo {
    /// Whether it would say of itself that it is alive.
    fn is_well(&self) -> bool {
        self.live.load(Ordering::Relaxed) && !self.hung.load(Ordering::Relaxed)
    }

    /// Says what happened on standard output, which is this service's log.
    fn say(&self, what: &str) {
        // A log that nobody reads any more is no reason to stop serving.
        let _ = writeln!(output::stdout(), "{what}");
    }
}

/// Serves until SIGTERM or SIGINT, then finishes the requests in flight.
pub(crate) fn run(args: &DemoWebArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(serve(SocketAddr::new(args.host, args.port)))
}

async fn serve(at: SocketAddr) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let listener = TcpListener::bind(at).await.map_err(|error| {
        Failure::failed(format!("can't listen on {at}: {error}; choose another with --port"))
    })?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let demo = Arc::new(Demo {
        name: std::env::var("HALE_REPLICA").unwrap_or_else(|_| "demo-web".to_owned()),
        live: AtomicBool::new(true),
        ready: AtomicBool::new(true),
        hung: AtomicBool::new(false),
        in_flight: AtomicUsize::new(0),
    });
    demo.say(&format!("{} (pid {}) listening on http://{address}", demo.name, std::process::id()));
    let mut notifier = Notifier::from_environment();
    notifier.say("READY=1\nSTATUS=serving");
    let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
    loop {
        tokio::select! {
            accepted = listener.accept(), if tasks.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => spawn(stream, &demo, &tasks, &stopping),
                // Out of file descriptors, most likely: they come back as connections end.
                Err(error) => {
                    demo.say(&format!("can't accept: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = notifier.due() => if demo.is_well() { notifier.say("WATCHDOG=1") },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    notifier.say("STOPPING=1");
    // What the kernel has accepted already is answered, too.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await {
        spawn(stream, &demo, &tasks, &stopping);
    }
    drop(listener);
    demo.say(&format!("stopping, {} in flight", demo.in_flight.load(Ordering::Relaxed)));
    stopping.cancel();
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        // A second signal: now.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    demo.say("stopped");
    Ok(())
}

fn spawn(stream: TcpStream, demo: &Arc<Demo>, tasks: &TaskTracker, stopping: &CancellationToken) {
    let (demo, stopping) = (Arc::clone(demo), stopping.clone());
    // Small answers must not wait for more to send; where that can't be set they only come a little later.
    let _ = stream.set_nodelay(true);
    tasks.spawn(async move {
        let service = service_fn(|request| pages::answer(&demo, request));
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // What goes wrong on one connection is the other side's affair.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    });
}
