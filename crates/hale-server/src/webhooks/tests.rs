//! Webhooks whole: the real store, real receivers, the loop under its lease.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use hale_api::webhooks::{ReplayRequest, WebhookRequest};
use hale_model::event::{Event, EventData, NewEvent, NodeStarted};
use hale_store::{Options, Store, cluster::Changes};
use jiff::Timestamp;
use rustls::RootCertStore;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Book, BookError, Deliveries, Secret, SecretKey, Sender, Timeouts};
use crate::{cluster::snapshot::Snapshot, metrics::ServerMetrics};

const LONG: Duration = Duration::from_secs(30);

/// What a receiver got.
#[derive(Debug, Clone, PartialEq)]
struct Got {
    id: String,
    at: i64,
    signature: String,
    body: String,
}

/// A receiver that answers with these statuses, then 200; 0 is no answer at all.
struct Receiver {
    url: String,
    got: watch::Receiver<Vec<Got>>,
}

impl Receiver {
    async fn start(answers: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (tell, got) = watch::channel(Vec::new());
        let (tell, answers) = (Arc::new(tell), Arc::new(Mutex::new(VecDeque::from(answers.to_vec()))));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&tell), Arc::clone(&answers)));
            }
        });
        Self { url, got }
    }

    /// Waits until so many have come, and tells them.
    async fn wait(&self, count: usize) -> Vec<Got> {
        let mut got = self.got.clone();
        match timeout(LONG, got.wait_for(|it| it.len() >= count)).await {
            Ok(got) => got.unwrap().clone(),
            Err(_) => panic!("only {:?} came", self.got.borrow()),
        }
    }

    async fn ids(&self, count: usize) -> Vec<u64> {
        let id = |got: &Got| serde_json::from_str::<Event>(&got.body).unwrap().id;
        self.wait(count).await.iter().map(id).collect()
    }
}

async fn answer(
    mut stream: tokio::net::TcpStream,
    tell: Arc<watch::Sender<Vec<Got>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
) {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut more).await else { return };
        bytes.extend_from_slice(&more[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let field = |name: &str| {
            let line = head.lines().find_map(|it| it.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_default().to_owned()
        };
        if body.len() < field("content-length").parse().unwrap() {
            continue;
        }
        bytes.clear();
        let got = Got {
            id: field("webhook-id"),
            at: field("webhook-timestamp").parse().unwrap(),
            signature: field("webhook-signature"),
            body: body.to_owned(),
        };
        let status = answers.lock().unwrap().pop_front().unwrap_or(200);
        tell.send_modify(|it| it.push(got));
        if status == 0 {
            std::future::pending::<()>().await;
        }
        let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A database and whoever works on it.
struct World {
    dir: TempDir,
    store: Store,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    key: Arc<SecretKey>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("hale.db"), Options::default()).await.unwrap();
        let key = Arc::new(SecretKey::open(&dir.path().join("secret.key"), false).unwrap());
        let snapshots = follow(store.clone()).await;
        Self { dir, store, snapshots, key }
    }

    fn sender(&self) -> Sender {
        let quick = Timeouts { connect: Duration::from_secs(1), total: Duration::from_secs(2) };
        Sender::trusting(RootCertStore::empty(), quick)
    }

    fn book(&self) -> Book {
        let (store, snapshots, key) = (self.store.clone(), self.snapshots.clone(), Arc::clone(&self.key));
        Book { store, snapshots, key, sender: self.sender() }
    }

    fn deliver(&self, holder: &str) -> (JoinHandle<()>, CancellationToken) {
        let mut registry = prometheus_client::registry::Registry::default();
        let deliveries = Deliveries {
            store: self.store.clone(),
            snapshots: self.snapshots.clone(),
            key: Arc::clone(&self.key),
            sender: self.sender(),
            holder: holder.to_owned(),
            metrics: Arc::new(ServerMetrics::register(&mut registry)),
            lease: Duration::from_millis(1500),
        };
        let end = CancellationToken::new();
        (tokio::spawn(deliveries.run(end.clone())), end)
    }

    async fn webhook(&self, name: &str, receiver: &Receiver) -> String {
        let request = WebhookRequest {
            name: name.into(),
            url: Some(receiver.url.clone()),
            allow_private: Some(true),
            ..WebhookRequest::default()
        };
        self.book().put(&request, "me").await.unwrap().secret.unwrap()
    }

    fn happen(&self, count: u32) {
        for n in 0..count {
            self.store.append(NewEvent {
                time: Timestamp::now(),
                source: "/nodes/a".into(),
                subject: "a".into(),
                data: EventData::NodeStarted(NodeStarted { version: n.to_string() }),
            });
        }
    }
}

/// The feed of records, as the server has it.
async fn follow(store: Store) -> watch::Receiver<Arc<Snapshot>> {
    let (first, _) = Snapshot::default().after(&store.load().await.unwrap());
    let (sender, receiver) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let mut revision = store.follow_revision();
        loop {
            let after = sender.borrow().revision;
            let changes: Changes = store.changes(after, 1000).await.unwrap();
            if changes.revision > after {
                let (next, _) = sender.borrow().after(&changes);
                sender.send_replace(Arc::new(next));
            }
            if sender.is_closed() || revision.changed().await.is_err() {
                return;
            }
        }
    });
    receiver
}

#[tokio::test]
async fn events_arrive_in_order_signed_as_standard_webhooks_has_it() {
    let world = World::new().await;
    let receiver = Receiver::start(&[]).await;
    world.happen(3);
    world.store.flush().await.unwrap();
    let secret = world.webhook("ops", &receiver).await;
    let _running = world.deliver("a");
    world.happen(5);
    assert_eq!(receiver.ids(5).await, [4, 5, 6, 7, 8], "from its making on");
    let secret = Secret::parse(&secret).unwrap();
    for got in receiver.wait(5).await {
        assert_eq!(got.signature, secret.sign(&got.id, got.at, got.body.as_bytes()));
        assert!((Timestamp::now().as_second() - got.at).abs() < 60);
    }
    let shown = timeout(LONG, async {
        loop {
            let shown = world.book().get("ops").unwrap();
            if shown.after == 8 {
                return shown;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let shown = shown.await.expect("how far it is was written");
    assert_eq!((shown.last.as_deref(), shown.behind), (Some("answered 200"), 0));
    let record = format!("{:?}", world.snapshots.borrow().webhooks["ops"]);
    assert!(!record.contains("/hook") && !record.contains("whsec"), "sealed: {record}");
}

#[tokio::test]
async fn a_dead_receiver_delays_nobody_but_itself() {
    let world = World::new().await;
    let (dead, well) = (Receiver::start(&[0; 100]).await, Receiver::start(&[]).await);
    world.webhook("dead", &dead).await;
    world.webhook("well", &well).await;
    let _running = world.deliver("a");
    world.happen(500);
    assert_eq!(well.ids(500).await, (1..=500).collect::<Vec<_>>());
    assert_eq!(dead.got.borrow().iter().filter(|it| !it.body.contains(r#""id":"1""#)).count(), 0);
}

#[tokio::test]
async fn a_server_that_dies_within_a_delivery_leaves_it_to_the_next_under_the_same_id() {
    let world = World::new().await;
    let receiver = Receiver::start(&[200, 0]).await;
    world.webhook("ops", &receiver).await;
    let (first, _) = world.deliver("a");
    world.happen(2);
    receiver.wait(2).await;
    first.abort();
    let _second = world.deliver("b");
    // What came just before the death may come again as well; the one that was under way does.
    let of_two = |all: &Vec<Got>| all.iter().filter(|it| it.body.contains(r#""id":"2""#)).count();
    let mut got = receiver.got.clone();
    let got =
        timeout(LONG, got.wait_for(|it| of_two(it) >= 2)).await.expect("it comes again").unwrap().clone();
    let again: Vec<&Got> = got.iter().filter(|it| it.body.contains(r#""id":"2""#)).collect();
    assert!(again.iter().all(|it| it.id == again[0].id), "{got:?}");
}

#[tokio::test]
async fn what_was_refused_is_kept_and_sent_again_by_hand() {
    let world = World::new().await;
    let receiver = Receiver::start(&[404, 200]).await;
    world.webhook("ops", &receiver).await;
    let _running = world.deliver("a");
    world.happen(2);
    receiver.wait(2).await;
    let dead = timeout(LONG, async {
        loop {
            let shown = world.book().get("ops").unwrap();
            if shown.after == 2 {
                return shown.dead;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let dead = dead.await.unwrap();
    assert_eq!((dead[0].event, dead[0].attempts, dead.len()), (1, 1, 1));
    world.book().replay("ops", &ReplayRequest::default(), "me").await.unwrap();
    assert_eq!(receiver.ids(3).await, [1, 2, 1]);
    let gone = async {
        while !world.book().get("ops").unwrap().dead.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, gone).await.expect("what was taken is no longer kept");
    let error = world.book().replay("ops", &ReplayRequest::default(), "me").await.unwrap_err();
    assert!(matches!(error, BookError::Bad(_)), "{error}");
}

#[tokio::test]
async fn one_that_is_paused_gets_what_it_missed_once_it_is_resumed_and_one_that_is_gone_nothing() {
    let world = World::new().await;
    let receiver = Receiver::start(&[]).await;
    world.webhook("ops", &receiver).await;
    let (running, end) = world.deliver("a");
    world.book().pause("ops", true, "me").await.unwrap();
    world.happen(3);
    world.store.flush().await.unwrap();
    sleep(Duration::from_millis(300)).await;
    assert_eq!(receiver.got.borrow().len(), 0);
    world.book().pause("ops", false, "me").await.unwrap();
    assert_eq!(receiver.ids(3).await, [1, 2, 3]);
    world.book().delete("ops", "me").await.unwrap();
    assert!(matches!(world.book().get("ops"), Err(BookError::NotFound(_))));
    world.happen(3);
    world.store.flush().await.unwrap();
    end.cancel();
    timeout(LONG, running).await.unwrap().unwrap();
    assert_eq!(receiver.got.borrow().len(), 3);
    assert!(world.snapshots.borrow().cursors.is_empty(), "nothing of it is left");
}

#[tokio::test]
async fn another_key_delivers_nothing_says_so_and_loses_nothing() {
    let mut world = World::new().await;
    let receiver = Receiver::start(&[]).await;
    world.webhook("ops", &receiver).await;
    let right = Arc::clone(&world.key);
    world.key = Arc::new(SecretKey::open(&world.dir.path().join("other.key"), false).unwrap());
    let (running, end) = world.deliver("a");
    world.happen(2);
    let told = async {
        while world.book().get("ops").unwrap().last.is_none() {
            sleep(Duration::from_millis(20)).await;
        }
        world.book().get("ops").unwrap()
    };
    let shown = timeout(LONG, told).await.unwrap();
    assert!(shown.last.unwrap().contains("another key"));
    end.cancel();
    timeout(LONG, running).await.unwrap().unwrap();
    world.key = right;
    let _running = world.deliver("b");
    assert_eq!(receiver.ids(2).await, [1, 2]);
}

#[tokio::test]
async fn a_new_webhooks_secret_is_told_although_the_server_does_not_see_the_record_yet() {
    let world = World::new().await;
    let (_stuck, snapshots) = watch::channel(Arc::new(Snapshot::default()));
    let book = Book { snapshots, ..world.book() };
    let url = Some("https://example.com/".to_owned());
    let request = WebhookRequest { name: "ops".into(), url, ..WebhookRequest::default() };
    let made = book.put(&request, "me").await.unwrap();
    assert!(made.created && made.secret.is_some());
    assert_eq!((made.webhook.name.as_str(), made.webhook.behind), ("ops", 0));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let request = |change: fn(&mut WebhookRequest)| {
        let url = Some("https://example.com/".to_owned());
        let mut request = WebhookRequest { name: "ops".into(), url, ..WebhookRequest::default() };
        change(&mut request);
        request
    };
    for wrong in [
        request(|it| it.name = "Ops!".into()),
        request(|it| it.url = None),
        request(|it| it.url = Some("ftp://x".into())),
        request(|it| it.secret = Some("secret".into())),
        request(|it| it.types = Some(vec!["nothing".into()])),
    ] {
        let error = world.book().put(&wrong, "me").await.unwrap_err();
        assert!(matches!(error, BookError::Bad(_)), "{error}");
    }
    assert!(world.book().list().is_empty());
    let made = world.book().put(&request(|_| {}), "me").await.unwrap();
    assert!(made.created && made.secret.is_some());
    let again = WebhookRequest {
        name: "ops".into(),
        types: Some(vec!["restarted".into()]),
        ..WebhookRequest::default()
    };
    let changed = world.book().put(&again, "me").await.unwrap();
    assert!(!changed.created && changed.secret.is_none());
    assert_eq!((changed.webhook.host.as_str(), changed.webhook.types.len()), ("https://example.com", 1));
}
