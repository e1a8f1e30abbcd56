//! A server that speaks the Kubernetes API over HTTP, for tests: lists by pages, watches with bookmarks and revisions,
//! server-side apply, deletion, logs, reviews of access, discovery; and every fault that a real one may have.
//!
//! It holds objects and nothing else: nobody makes pods of deployments here but the test.

mod api;
mod kinds;
mod state;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::state::State;

/// What goes wrong with requests whose path and query hold some text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 403.
    Forbidden,
    /// 404, as of a version or kind that it does not serve.
    NotServed,
    /// 429, so many times, with this many seconds to wait.
    Busy(u32, u64),
    /// 410, so many times.
    Gone(u32),
    /// 200, and this text.
    Garbage(String),
    /// No answer for so long; the right one after.
    Slow(Duration),
    /// The connection is cut.
    Cut,
}

/// What a container's log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Log {
    /// This text.
    Text(String),
    /// There is no answer.
    Hangs,
    /// 400, with this message.
    Refused(String),
}

/// A cluster that is none. Ended when it is dropped.
#[derive(Debug)]
pub struct FakeCluster {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
    kubeconfig: tempfile::TempDir,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The newest revision: watches wait for it.
    revision: watch::Sender<u64>,
    /// Rises when all watches are to end.
    epoch: watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeCluster {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Panics
    /// It can't.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            revision: watch::Sender::new(0),
            epoch: watch::Sender::new(0),
        });
        let router = api::router(Arc::clone(&shared));
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        let kubeconfig = tempfile::tempdir().expect("a directory for the kubeconfig");
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\nclusters:\n- name: fake\n  cluster: {{server: \
             \"http://{address}\"}}\ncontexts:\n- name: fake\n  context: {{cluster: fake, user: fake}}\nusers:\n- name: \
             fake\n  user: {{}}\n"
        );
        std::fs::write(kubeconfig.path().join("config"), config).expect("the kubeconfig is written");
        Self { shared, address, serving, kubeconfig }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig for it.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.path().join("config")
    }

    /// Puts an object in, made or changed by somebody else. What it lacks of an identity it is given.
    ///
    /// # Panics
    /// It has no kind that is served, or no name.
    pub fn put(&self, object: Value) {
        let revision = self.shared.lock().put(object);
        self.shared.revision.send_replace(revision);
    }

    /// Puts all objects of a recorded list in.
    ///
    /// # Panics
    /// It can't be read, or holds what is not served.
    pub fn put_recorded(&self, file: &Path) {
        for object in recorded(file) {
            if kinds::of(&object).is_some() {
                self.put(object);
            }
        }
    }

    /// An object as it is.
    #[must_use]
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.lock().get(kind, namespace, name)
    }

    /// Takes an object out.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let revision = self.shared.lock().delete(kind, namespace, name);
        self.shared.revision.send_replace(revision);
    }

    /// From now on, requests whose path and query hold a text go wrong so; `None`: no more.
    pub fn fault(&self, path: &str, fault: Option<Fault>) {
        let mut state = self.shared.lock();
        match fault {
            Some(fault) => drop(state.faults.insert(path.to_owned(), fault)),
            None => drop(state.faults.remove(path)),
        }
    }

    /// What the log of a container is: `namespace/pod/container`, and `:previous` for the one before.
    pub fn log(&self, of: &str, log: Log) {
        self.shared.lock().logs.insert(of.to_owned(), log);
    }

    /// Cuts all watches.
    pub fn cut_watches(&self) {
        self.shared.epoch.send_modify(|it| *it += 1);
    }

    /// Forgets all changes up to now: a watch from an older revision is answered 410.
    pub fn compact(&self) {
        self.shared.lock().compact();
    }

    /// How many requests were made whose method, path and query hold a text.
    #[must_use]
    pub fn requests(&self, holding: &str) -> usize {
        let state = self.shared.lock();
        state.requests.iter().filter(|(line, _)| line.contains(holding)).map(|(_, count)| count).sum()
    }

    /// All requests, by method, path and query, with how often each was made.
    #[must_use]
    pub fn all_requests(&self) -> BTreeMap<String, usize> {
        self.shared.lock().requests.clone()
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The objects of a recorded list.
///
/// # Panics
/// It can't be read.
#[must_use]
pub fn recorded(file: &Path) -> Vec<Value> {
    let text = std::fs::read(file).expect("a recorded list");
    let mut list: Value = serde_json::from_slice(&text).expect("a recorded list is JSON");
    match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}
