//! The agent's connection to the keeper: one task that owns it, and what it does when it breaks.

mod connection;
mod missed;
mod outside;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hale_health::{Exit, Time};
use hale_keeper::{
    KeeperError, Launched, end_leftovers, launch,
    protocol::{
        Answer, Deadline, Empty, End, Event, ExitRecord, InstanceState, Key, Message, Op, Outsider, Running,
        SpawnFailure, Start, Stop, Welcome,
    },
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::sleep,
};

use self::connection::Connection;
pub use self::outside::KeptOutside;
use super::{Live, Table, id_of, key_of, spawn_error};
use crate::runtime::{InstanceId, RuntimeEvent, SpawnError};

/// Starts that may wait to be sent; who comes later waits.
const ORDERS: usize = 256;
/// Events that may wait for the driver; beyond it reports of the processes themselves are dropped (a later one says
/// the same), exits never: there are no more of those than instances.
const WAITING_EVENTS: usize = 4096;
/// The longest wait between attempts to get a keeper again.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Tells that the keeper knows.
type Told = oneshot::Sender<Result<(), SpawnError>>;

/// What the task is asked.
#[derive(Debug)]
enum Order {
    Start(Box<Start>, oneshot::Sender<Result<Running, SpawnError>>),
    List(oneshot::Sender<Vec<InstanceState>>),
    Forget(InstanceId),
    Outside(Vec<Outsider>, bool, Told),
    End(Duration, oneshot::Sender<()>),
}

/// Stops that were asked for and are not sent yet: one per instance, the shortest grace of all.
#[derive(Debug, Default)]
struct Stops {
    wanted: Mutex<HashMap<InstanceId, (i32, Duration)>>,
    /// When instances are to be stopped by the keeper itself; the last word of each.
    deadlines: Mutex<HashMap<InstanceId, (Option<Time>, Duration)>>,
    news: Notify,
}

/// A handle to the task.
#[derive(Debug)]
pub(super) struct Client {
    orders: mpsc::Sender<Order>,
    stops: Arc<Stops>,
    welcome: Arc<Mutex<Welcome>>,
    connected: Arc<AtomicBool>,
}

impl Client {
    pub(super) async fn connect(
        keeper: Launched,
        table: Arc<Table>,
        tell: mpsc::Sender<RuntimeEvent>,
    ) -> Result<Self, KeeperError> {
        let (connection, welcome) = Connection::open(&keeper).await?;
        let (orders, take) = mpsc::channel(ORDERS);
        let (stops, welcome) = (Arc::new(Stops::default()), Arc::new(Mutex::new(welcome)));
        let connected = Arc::new(AtomicBool::new(true));
        let task = Task {
            keeper: Some(keeper),
            connection,
            orders: take,
            stops: Arc::clone(&stops),
            welcome: Arc::clone(&welcome),
            connected: Arc::clone(&connected),
            table,
            tell,
            untold: VecDeque::new(),
            dropped: 0,
            starts: HashMap::new(),
            lists: HashMap::new(),
            outside: HashMap::new(),
            told_outside: HashMap::new(),
            missed: None,
            end: None,
            next_id: 1,
        };
        tokio::spawn(task.run());
        Ok(Self { orders, stops, welcome, connected })
    }

    pub(super) async fn start(&self, start: Start) -> Result<Running, SpawnError> {
        let (answer, wait) = oneshot::channel();
        let lost = |_| unavailable("the connection to the keeper has ended");
        self.orders.send(Order::Start(Box::new(start), answer)).await.map_err(|_| lost(()))?;
        wait.await.map_err(|_| lost(()))?
    }

    pub(super) fn stop(&self, id: InstanceId, signal: i32, grace: Duration) {
        let mut wanted = self.stops.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = wanted.entry(id).or_insert((signal, grace));
        entry.1 = entry.1.min(grace);
        drop(wanted);
        self.stops.news.notify_one();
    }

    pub(super) fn stop_at(&self, id: InstanceId, at: Option<Time>, grace: Duration) {
        self.stops.deadlines.lock().unwrap_or_else(PoisonError::into_inner).insert(id, (at, grace));
        self.stops.news.notify_one();
    }

    /// All that the keeper runs or remembers; nothing when it can't be asked.
    pub(super) async fn list(&self) -> Vec<InstanceState> {
        let (answer, wait) = oneshot::channel();
        match self.orders.send(Order::List(answer)).await {
            Ok(()) => wait.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Lets the keeper forget a record. One that can't be sent now stays until the keeper has too many.
    pub(super) fn forget(&self, id: InstanceId) {
        let _ = self.orders.try_send(Order::Forget(id));
    }

    /// Returns when the keeper has ended.
    pub(super) async fn end(&self, grace: Duration) {
        let (answer, wait) = oneshot::channel();
        if self.orders.send(Order::End(grace, answer)).await.is_ok() {
            let _ = wait.await;
        }
    }

    /// Whether the keeper can be asked.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed) && !self.orders.is_closed()
    }

    pub(super) fn describe(&self) -> String {
        let welcome = self.welcome.lock().unwrap_or_else(PoisonError::into_inner);
        format!("keeper {} (release {}), cgroups: {}", welcome.pid, welcome.release, welcome.cgroups)
    }
}

/// Owns the connection.
struct Task {
    keeper: Option<Launched>,
    connection: Connection,
    orders: mpsc::Receiver<Order>,
    stops: Arc<Stops>,
    welcome: Arc<Mutex<Welcome>>,
    connected: Arc<AtomicBool>,
    table: Arc<Table>,
    tell: mpsc::Sender<RuntimeEvent>,
    untold: VecDeque<RuntimeEvent>,
    dropped: u64,
    starts: HashMap<u64, oneshot::Sender<Result<Running, SpawnError>>>,
    lists: HashMap<u64, oneshot::Sender<Vec<InstanceState>>>,
    /// What is not the keeper's and it is to end when nobody else does: told to each anew.
    outside: HashMap<Key, Outsider>,
    told_outside: HashMap<u64, Told>,
    /// The question what happened while there was no connection.
    missed: Option<u64>,
    end: Option<oneshot::Sender<()>>,
    next_id: u64,
}

/// What came first.
enum Next {
    Order(Option<Order>),
    Message(io::Result<Option<Message>>),
    Stops,
    Told(bool),
}

impl Task {
    async fn run(mut self) {
        loop {
            let next = tokio::select! {
                biased;
                permit = self.tell.reserve(), if !self.untold.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.untold.pop_front() {
                            permit.send(event);
                        }
                        Next::Told(true)
                    }
                    Err(_) => Next::Told(false),
                },
                message = self.connection.next() => Next::Message(message),
                () = self.stops.news.notified() => Next::Stops,
                order = self.orders.recv() => Next::Order(order),
            };
            let sent = match next {
                Next::Told(true) => Ok(()),
                // Nobody hears any more.
                Next::Told(false) => {
                    self.untold.clear();
                    Ok(())
                }
                Next::Order(None) => return,
                Next::Order(Some(order)) => self.carry_out(order).await,
                Next::Stops => self.send_stops().await,
                Next::Message(Ok(Some(message))) => self.take(message).await,
                Next::Message(Ok(None)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Next::Message(Err(error)) => Err(error),
            };
            if let Err(error) = sent
                && !self.recover(&error).await
            {
                return;
            }
        }
    }

    async fn carry_out(&mut self, order: Order) -> io::Result<()> {
        self.next_id += 1;
        match order {
            Order::Start(start, answer) => {
                self.starts.insert(self.next_id, answer);
                self.connection.send(self.next_id, Op::Start(start)).await
            }
            Order::List(answer) => {
                self.lists.insert(self.next_id, answer);
                self.connection.send(self.next_id, Op::List(Empty {})).await
            }
            Order::Forget(id) => {
                let key = key_of(&id);
                self.outside.remove(&key);
                self.connection.send(self.next_id, Op::Forget(key)).await
            }
            Order::Outside(runs, whole, told) => self.enter_outside(runs, whole, Some(told)).await,
            Order::End(grace, answer) => {
                self.end = Some(answer);
                self.connection.send(self.next_id, Op::End(End { grace_ms: millis(grace) })).await
            }
        }
    }

    async fn send_stops(&mut self) -> io::Result<()> {
        // A start that was ordered before is sent before: else the keeper would not know what to stop.
        while let Ok(order) = self.orders.try_recv() {
            self.carry_out(order).await?;
        }
        let wanted = std::mem::take(&mut *self.stops.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, (signal, grace)) in wanted {
            self.next_id += 1;
            if let Some(live) = self.table.lock().get_mut(&id) {
                live.stop_sent = Some((signal, grace));
            }
            let stop = Stop { key: key_of(&id), signal, grace_ms: millis(grace) };
            self.connection.send(self.next_id, Op::Stop(stop)).await?;
        }
        self.send_deadlines().await
    }

    /// Those of one moment in one message: thousands are put off with each beat.
    async fn send_deadlines(&mut self) -> io::Result<()> {
        let all = std::mem::take(&mut *self.stops.deadlines.lock().unwrap_or_else(PoisonError::into_inner));
        let mut together: BTreeMap<(Option<u64>, u64), Vec<Key>> = BTreeMap::new();
        for (id, (at, grace)) in all {
            let at = at.map(Time::as_nanos);
            together.entry((at, millis(grace))).or_default().push(key_of(&id));
        }
        for ((at, grace_ms), keys) in together {
            self.note_deadline(&keys, at.map(|at| (at, grace_ms)));
            self.next_id += 1;
            self.connection.send(self.next_id, Op::Deadline(Deadline { keys, at, grace_ms })).await?;
        }
        Ok(())
    }

    async fn take(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Reply { id, answer } => {
                if self.missed.take_if(|missed| *missed == id).is_some() {
                    if let Answer::Instances(all) = answer {
                        return self.take_missed(all).await;
                    }
                } else if let Some(waiting) = self.starts.remove(&id) {
                    let _ = waiting.send(result_of(answer));
                } else if let Some(told) = self.told_outside.remove(&id) {
                    let _ = told.send(outside::result_of(answer));
                } else if let (Some(waiting), Answer::Instances(all)) = (self.lists.remove(&id), &answer) {
                    let _ = waiting.send(all.clone());
                } else if let Answer::Error(error) = answer {
                    tracing::warn!(code = error.code, "the keeper refused: {}", error.detail);
                }
                Ok(())
            }
            Message::Event(event) => self.take_event(event).await,
        }
    }

    async fn take_event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Exited { key, exit } => self.push(exited(id_of(key), &exit)),
            Event::StopFailed { key, detail } => {
                self.push(RuntimeEvent::StopFailed { id: id_of(key), detail })
            }
            Event::Notify { key, name, value, at } => {
                let at = Time::from_nanos(at);
                self.push(RuntimeEvent::Notify { id: id_of(key), name, value, at });
            }
            Event::Gone { key } => {
                let id = id_of(key.clone());
                self.table.lock().remove(&id);
                self.push(RuntimeEvent::Gone { id });
                self.next_id += 1;
                self.connection.send(self.next_id, Op::Forget(key)).await?;
            }
        }
        Ok(())
    }

    fn push(&mut self, event: RuntimeEvent) {
        if matches!(event, RuntimeEvent::Notify { .. }) && self.untold.len() >= WAITING_EVENTS {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                tracing::warn!(
                    dropped = self.dropped,
                    "reports of processes were dropped: the driver is behind"
                );
            }
            return;
        }
        self.untold.push_back(event);
    }

    /// The keeper is lost: ends what it ran, starts another, tells all instances as ended. False when there is
    /// nothing more to do.
    async fn recover(&mut self, error: &io::Error) -> bool {
        for (_, waiting) in self.starts.drain() {
            let _ = waiting.send(Err(unavailable("the keeper was lost during the start")));
        }
        for (_, told) in self.told_outside.drain() {
            let _ = told.send(Err(unavailable("the keeper was lost")));
        }
        self.lists.clear();
        if let Some(ended) = self.end.take() {
            if let Some(mut keeper) = self.keeper.take() {
                let _ = tokio::task::spawn_blocking(move || keeper.wait()).await;
            }
            let _ = ended.send(());
            return false;
        }
        self.connected.store(false, Ordering::Relaxed);
        if self.connect_again().await {
            self.connected.store(true, Ordering::Relaxed);
            return true;
        }
        tracing::error!(%error, "the keeper was lost; its replicas are ended and a new one is started");
        let mut again = Duration::from_millis(100);
        loop {
            match self.new_keeper().await {
                Ok(()) => break,
                Err(error) => tracing::error!(%error, "can't get a new keeper; trying again"),
            }
            // Nobody waits in vain meanwhile.
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Start(_, answer) => drop(answer.send(Err(unavailable("there is no keeper now")))),
                    Order::Outside(_, _, told) => drop(told.send(Err(unavailable("there is no keeper now")))),
                    Order::List(_) => {}
                    Order::Forget(id) => drop(self.outside.remove(&key_of(&id))),
                    Order::End(_, answer) => {
                        let _ = answer.send(());
                        return false;
                    }
                }
            }
            if self.orders.is_closed() {
                return false;
            }
            sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
        self.connected.store(true, Ordering::Relaxed);
        let lost: Vec<InstanceId> = self.table.lock().drain().map(|(id, _)| id).collect();
        let at = now();
        for id in lost {
            self.push(RuntimeEvent::Exited { id: id.clone(), exit: Exit::default(), at });
            self.push(RuntimeEvent::Gone { id });
        }
        true
    }

    async fn new_keeper(&mut self) -> Result<(), KeeperError> {
        let Some(old) = &mut self.keeper else {
            return Err(KeeperError::NotStarted("the last attempt did not end".to_owned()));
        };
        old.has_ended();
        let options = old.options.clone();
        let started = tokio::task::spawn_blocking(move || {
            end_leftovers(&options.keeper.dir)?;
            launch(options)
        });
        let keeper = started.await.map_err(|error| KeeperError::NotStarted(error.to_string()))??;
        let (connection, welcome) = Connection::open(&keeper).await?;
        self.connection = connection;
        *self.welcome.lock().unwrap_or_else(PoisonError::into_inner) = welcome;
        self.keeper = Some(keeper);
        self.tell_outside_again()
            .await
            .map_err(|source| KeeperError::System { what: "tell the keeper of containers", source })
    }
}

fn exited(id: InstanceId, exit: &ExitRecord) -> RuntimeEvent {
    let at = Time::from_nanos(exit.at);
    RuntimeEvent::Exited { id, exit: exit_of(exit), at }
}

pub(super) const fn exit_of(exit: &ExitRecord) -> Exit {
    Exit { code: exit.code, signal: exit.signal, oom: exit.oom }
}

fn result_of(answer: Answer) -> Result<Running, SpawnError> {
    match answer {
        Answer::Started(running) => Ok(running),
        Answer::Failed(failure) | Answer::Error(failure) => Err(error_of(failure)),
        other => Err(spawn_error("internal", format!("the keeper answered a start with {other:?}"))),
    }
}

fn error_of(failure: SpawnFailure) -> SpawnError {
    const CODES: [&str; 5] = ["not_found", "not_executable", "no_such_directory", "not_allowed", "limits"];
    let code = CODES.into_iter().find(|code| *code == failure.code).unwrap_or("internal");
    spawn_error(code, failure.detail)
}

fn unavailable(detail: &str) -> SpawnError {
    spawn_error("runtime_unavailable", detail)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The driver's scale: `CLOCK_BOOTTIME`.
fn now() -> Time {
    Time::from_nanos(hale_keeper::clock::boot_nanos())
}
