//! Looks at the endpoints of a service again and again, at every consumer, and keeps what it saw.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::api;

/// The ready endpoints at one moment, each as `replica@node/generation`.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) ready: BTreeSet<String>,
}

/// Samples until it is finished.
pub(crate) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Asks the first of these servers that answers, some fifty times a second.
    pub(crate) fn start(servers: Vec<SocketAddr>, token: String, service: &str) -> Self {
        let (samples, stop) = (Arc::<Mutex<Vec<Sample>>>::default(), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&samples), Arc::clone(&stop));
        let path = format!("/api/v1/services/{service}/endpoints");
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let answer = servers.iter().find_map(|server| {
                    api::ask(*server, &token, "GET", &path, None).ok().filter(|it| it.status == 200)
                });
                if let Some(answer) = answer {
                    let ready = ready(&answer.json());
                    into.lock().unwrap().push(Sample { at: Instant::now(), ready });
                }
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { samples, stop, thread: Some(thread) }
    }

    /// What it saw since then.
    pub(crate) fn since(&self, from: Instant) -> Vec<Sample> {
        self.samples.lock().unwrap().iter().filter(|sample| sample.at >= from).cloned().collect()
    }

    pub(crate) fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.samples.lock().unwrap().clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The ready endpoints of a set, each as `replica@node/generation`.
pub(crate) fn ready(set: &serde_json::Value) -> BTreeSet<String> {
    let endpoints = set["endpoints"].as_array().unwrap_or_else(|| panic!("no endpoints in {set:#}"));
    let is_ready = |it: &&serde_json::Value| it["ready"] == true && it["draining"] == false;
    let name = |it: &serde_json::Value| {
        format!("{}@{}/{}", it["replica"].as_str().unwrap(), it["node"].as_str().unwrap(), it["generation"])
    };
    endpoints.iter().filter(is_ready).map(name).collect()
}
