//! A server to ask, as people and as agents do.

use std::{future::Future, sync::Arc, time::Duration};

use hale_api::{
    Client, ClientError, Problem,
    kube::{
        DeploymentObject, DeploymentObjectRequest, HealthEntry, HealthReport, HealthSummary,
        KubeAgentRegistration, StackRequest,
    },
};
use hale_model::{Status, cluster::Role, event::Event};
use hale_server::{Cluster, Limits, Listeners, Parts, Registry, TokenSet, cluster, kube};
use hale_store::Store;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// The longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    pub(crate) store: Store,
    metrics: hale_server::Metrics,
    url: String,
    end: CancellationToken,
    serving: JoinHandle<()>,
    /// Of the one that has the store alone.
    dir: Option<TempDir>,
}

fn token(name: &str) -> String {
    format!("hale_{name}_{}", "0".repeat(64))
}

impl Server {
    /// On a database of its own.
    pub(crate) async fn start() -> Self {
        Self::with(kube::Options::default()).await
    }

    pub(crate) async fn with(options: kube::Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Self::in_dir(dir_path(&dir), options).await;
        Self { dir: Some(dir), ..server }
    }

    async fn in_dir(path: std::path::PathBuf, options: kube::Options) -> Self {
        let store = Store::open(&path, hale_store::Options::default()).await.unwrap();
        Self::on(store, options).await
    }

    pub(crate) async fn on(store: Store, options: kube::Options) -> Self {
        let tokens = TokenSet::new()
            .with("ann", &token("ann"), Role::Admin)
            .with("olga", &token("olga"), Role::Operator)
            .with("vera", &token("vera"), Role::Viewer)
            .with_agent("eu-1", &token("eu-1"))
            .with_agent("us-1", &token("us-1"));
        let registry = Arc::new(Registry::new());
        let cluster = Cluster::start(
            store.clone(),
            tokens.clone(),
            Arc::clone(&registry),
            cluster::Options { lease: Duration::from_secs(2), ..cluster::Options::new("http://localhost") },
        )
        .await
        .unwrap();
        let end = CancellationToken::new();
        let mut registered = prometheus_client::registry::Registry::default();
        let kube = kube::start(&cluster, store.clone(), options, &mut registered, end.clone());
        let metrics: hale_server::Metrics = Arc::new(move |_| {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registered).unwrap();
            Ok(("text/plain", text))
        });
        let router = hale_server::router(Parts {
            control: Arc::new(cluster.clone()),
            cluster: Some(cluster.clone()),
            store: store.clone(),
            registry,
            metrics: Arc::clone(&metrics),
            probing: None,
            tokens,
            webhooks: None,
            runs: None,
            kube: Some(kube),
            loopback: true,
            end: end.clone(),
        });
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", tcp.local_addr().unwrap());
        let listeners = Listeners { tcp: Some(tcp), ..Listeners::default() };
        let serving = tokio::spawn(hale_server::serve(router, listeners, Limits::default(), end.clone()));
        Self { cluster, store, metrics, url, end, serving, dir: None }
    }

    /// Somebody who asks: `ann` (admin), `olga` (operator), `vera` (viewer), or the agents `eu-1` and `us-1`.
    pub(crate) fn as_(&self, who: &str) -> Client {
        Client::remote(&self.url, &token(who)).unwrap()
    }

    pub(crate) fn metric(&self, line: &str) -> String {
        let text = (self.metrics)(None).unwrap().1;
        let found = text.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(' ').map(str::to_owned));
        found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
    }

    /// Ends in order; its directory, to start another on.
    pub(crate) async fn stop(self) -> Option<TempDir> {
        self.cluster.stop().await;
        self.end.cancel();
        self.serving.await.unwrap();
        self.store.close().await;
        self.dir
    }

    /// Another one, on the same database.
    pub(crate) async fn again(self) -> Self {
        let dir = self.stop().await.unwrap();
        let server = Self::in_dir(dir_path(&dir), kube::Options::default()).await;
        Self { dir: Some(dir), ..server }
    }

    /// A stack `shop` that `eu-1` is given, with manifests.
    pub(crate) async fn shop(&self) -> DeploymentObject {
        let ann = self.as_("ann");
        ann.create_stack(&StackRequest { name: "shop".to_owned(), labels: Default::default() })
            .await
            .unwrap();
        self.register("eu-1", KubeAgentRegistration::default()).await;
        self.push("shop", "a").await
    }

    /// Registers an agent that wants the stack `shop`.
    pub(crate) async fn register(&self, agent: &str, registration: KubeAgentRegistration) -> String {
        let registration = KubeAgentRegistration { stacks: ["shop".to_owned()].into(), ..registration };
        self.as_(agent).register_kube_agent(&registration).await.unwrap().agent_id
    }

    pub(crate) async fn push(&self, stack: &str, name: &str) -> DeploymentObject {
        let request = DeploymentObjectRequest { yaml: manifest(name), deletion_marker: false };
        self.as_("ann").create_deployment_object(stack, &request).await.unwrap()
    }

    /// The types of events about a stack.
    pub(crate) async fn events(&self, subject: &str) -> Vec<Event> {
        let query = hale_api::events::EventQuery { subject: Some(subject.to_owned()), ..Default::default() };
        self.as_("vera").events(&query).await.unwrap().events
    }
}

fn dir_path(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("hale.db")
}

pub(crate) fn manifest(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n")
}

pub(crate) fn entry(object: &str, status: Status, conditions: &[&str]) -> HealthEntry {
    let summary = HealthSummary {
        pods_ready: u32::from(status == Status::Healthy),
        pods_total: 1,
        conditions: conditions.iter().map(|it| (*it).to_owned()).collect(),
        resources: Vec::new(),
    };
    HealthEntry { id: object.to_owned(), status, summary, checked_at: Timestamp::now() }
}

pub(crate) fn report(entries: &[HealthEntry]) -> HealthReport {
    HealthReport { deployment_objects: entries.to_vec() }
}

/// What was answered in the place of what was asked for.
pub(crate) fn problem<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    match answer.unwrap_err() {
        ClientError::NotFound(it)
        | ClientError::NotAllowed(it)
        | ClientError::Invalid(it)
        | ClientError::Refused(it) => it,
        other => panic!("{other}"),
    }
}

/// Waits until something is so, and gives it.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"))
}
