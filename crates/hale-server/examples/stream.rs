//! Both ends of the event stream, for the benchmark `events`: `serve ADDRESS DIR RATE` is the real store and API with
//! somebody who appends so many events a second; `read ADDRESS READERS SECONDS` follows them on so many connections
//! and says what came, how late.
#![expect(clippy::print_stdout, reason = "what it finds is read from its output")]

use std::{
    env,
    error::Error,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hale_api::outcomes::ProbeHistory;
use hale_model::{
    Status,
    cluster::Role,
    event::{EventData, Instance, NewEvent, ReplicaReady},
    status::Overview,
};
use hale_server::{
    Control, Limits, Listeners, Parts, Registry, TokenSet,
    control::{BoxFuture, LogStream, Order, OrderError},
};
use hale_store::{Options, Store};
use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Tokens that readers share: each may ask 200 times a second.
const TOKENS: usize = 50;

/// How often events are appended.
const TICK: Duration = Duration::from_millis(10);

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|it| it.parse::<f64>().ok());
    match (args.first().map(String::as_str), number(2), number(3)) {
        (Some("serve"), _, Some(rate)) => serve(args[1].parse()?, args[2].as_ref(), rate).await,
        (Some("read"), Some(readers), Some(seconds)) => {
            read(args[1].parse()?, readers as usize, Duration::from_secs_f64(seconds)).await
        }
        _ => Err("serve ADDRESS DIR RATE, or read ADDRESS READERS SECONDS".into()),
    }
}

fn token(at: usize) -> String {
    format!("hale_{:08x}_0123456789012345678901234567890123456789", at % TOKENS)
}

/// A node with nothing on it.
struct Nothing(watch::Sender<u64>);

impl Control for Nothing {
    fn overview(&self) -> BoxFuture<'_, Result<Overview, OrderError>> {
        Box::pin(async {
            let (at, status) = (Timestamp::now(), Status::Healthy);
            Ok(Overview { status, at, workloads: Vec::new(), targets: Vec::new(), nodes: Vec::new() })
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn progress_deadline(&self, _: &str) -> Duration {
        Duration::ZERO
    }

    fn order(&self, _: Order) -> BoxFuture<'_, Result<(), OrderError>> {
        Box::pin(async { Err(OrderError::NotFound("there is nothing here".into())) })
    }

    fn logs(&self, _: String, _: Option<u32>, _: bool) -> BoxFuture<'_, Result<LogStream, OrderError>> {
        Box::pin(async { Err(OrderError::NotFound("there is nothing here".into())) })
    }

    fn history<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<ProbeHistory>, OrderError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

async fn serve(address: SocketAddr, dir: &Path, rate: f64) -> Outcome {
    let store = Store::open(&dir.join("hale.db"), Options::default()).await?;
    let end = CancellationToken::new();
    let tokens =
        (0..TOKENS).fold(TokenSet::new(), |set, at| set.with(&format!("t{at}"), &token(at), Role::Viewer));
    let router = hale_server::router(Parts {
        control: Arc::new(Nothing(watch::Sender::new(0))),
        cluster: None,
        store: store.clone(),
        registry: Arc::new(Registry::new()),
        metrics: Arc::new(|_| Err("none".into())),
        probing: None,
        tokens,
        webhooks: None,
        runs: None,
        kube: None,
        loopback: true,
        end: end.clone(),
    });
    let limits = Limits { connections: 16_000, ..Limits::default() };
    let tcp = TcpListener::bind(address).await?;
    let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
    tokio::spawn(hale_server::serve(router, listeners, limits, end));
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut due, mut number) = (0.0, 0_u64);
    loop {
        tick.tick().await;
        due += rate * TICK.as_secs_f64();
        while due >= 1.0 {
            due -= 1.0;
            number += 1;
            store.append(event(number));
        }
    }
}

fn event(number: u64) -> NewEvent {
    let instance = Instance { workload: "web".into(), node: "n1".into(), ..Instance::default() };
    let reason = format!("readiness: 1/1, the {number}th");
    NewEvent {
        time: Timestamp::now(),
        source: "/nodes/n1".into(),
        subject: "web-0".into(),
        data: EventData::ReplicaReady(ReplicaReady { instance, reason, not_ready_seconds: None }),
    }
}

/// What readers saw.
#[derive(Default)]
struct Seen {
    connected: AtomicU64,
    events: AtomicU64,
    gaps: AtomicU64,
    broken: AtomicU64,
    /// How late events were, in buckets of a millisecond.
    late: Mutex<Vec<u64>>,
}

async fn read(address: SocketAddr, readers: usize, lasts: Duration) -> Outcome {
    let seen = Arc::new(Seen { late: Mutex::new(vec![0; 60_000]), ..Seen::default() });
    let measure = Arc::new(watch::Sender::new(false));
    let mut tasks = Vec::new();
    for at in 0..readers {
        let (seen, measure) = (Arc::clone(&seen), measure.subscribe());
        tasks.push(tokio::spawn(async move {
            if follow(address, at, &seen, measure).await.is_err() {
                seen.broken.fetch_add(1, Ordering::Relaxed);
            }
        }));
        // Connections are accepted one after the other.
        if at % 50 == 49 {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let begun = Instant::now();
    while seen.connected.load(Ordering::Relaxed) < readers as u64 {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err(format!("only {} are connected", seen.connected.load(Ordering::Relaxed)).into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    println!("connected {readers}");
    sleep(Duration::from_secs(2)).await;
    measure.send_replace(true);
    sleep(lasts).await;
    tasks.iter().for_each(|it| it.abort());
    let late = seen.late.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (events, gaps) = (seen.events.load(Ordering::Relaxed), seen.gaps.load(Ordering::Relaxed));
    let share = |of: f64| {
        let (mut count, wanted) = (0, (events as f64 * of) as u64);
        late.iter().position(|it| {
            count += it;
            count > wanted
        })
    };
    println!(
        "events {events} gaps {gaps} broken {} p50_ms {} p99_ms {} max_ms {}",
        seen.broken.load(Ordering::Relaxed),
        share(0.5).unwrap_or(0),
        share(0.99).unwrap_or(0),
        late.iter().rposition(|it| *it > 0).unwrap_or(0)
    );
    Ok(())
}

async fn follow(address: SocketAddr, at: usize, seen: &Seen, measure: watch::Receiver<bool>) -> Outcome {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\n\r\n",
        token(at)
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut rest, mut buffer, mut last) = (Vec::new(), vec![0; 4096], None);
    let mut connected = false;
    loop {
        let count = timeout(Duration::from_secs(40), stream.read(&mut buffer)).await??;
        if count == 0 {
            return Err("it was cut off".into());
        }
        rest.extend_from_slice(&buffer[..count]);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text: Vec<u8> = rest.drain(..whole).collect();
        for line in text.split(|byte| *byte == b'\n') {
            if !connected && line.starts_with(b"event: position") {
                connected = true;
                seen.connected.fetch_add(1, Ordering::Relaxed);
            } else if let Some(id) = line.strip_prefix(b"id: ") {
                let id: u64 = String::from_utf8_lossy(id).trim().parse()?;
                if last.replace(id).is_some_and(|last| last + 1 != id) {
                    seen.gaps.fetch_add(1, Ordering::Relaxed);
                }
            } else if line.starts_with(b"data: {") && *measure.borrow() {
                note(line, seen)?;
            }
        }
    }
}

/// Takes down how late an event is.
fn note(line: &[u8], seen: &Seen) -> Outcome {
    let line = std::str::from_utf8(line)?;
    let time = line.split("\"time\":\"").nth(1).and_then(|it| it.split('"').next()).ok_or("no time")?;
    let late = Timestamp::now().duration_since(time.parse::<Timestamp>()?).as_millis().max(0) as usize;
    let mut buckets = seen.late.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let at = late.min(buckets.len() - 1);
    buckets[at] += 1;
    seen.events.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
