//! Images: there, or fetched from their registry (N5).
//!
//! One fetch of one image at a time: replicas that start together wait for the same. A fetch that fails is a start that
//! failed, with its reason; the machine above waits and tries again.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use hale_model::spec::{Pull, Workload};
use hale_supervisor::runtime::{InstanceId, SpawnError};
use tokio::time::{Instant, timeout};

use crate::{
    credentials,
    error::CallError,
    link::Engine,
    shared::{CALL, Shared},
};

/// How long a fetch may make no progress at all.
const STALLED: Duration = Duration::from_secs(60);

/// How often progress is told in the log of a replica.
const TELL: Duration = Duration::from_secs(5);

/// Placements whose image was fetched already are remembered, so many of them; then all are forgotten, and fetched
/// once more.
const REMEMBERED: usize = 10_000;

/// Fetches that go on, and those that were done.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    going_on: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    done: Mutex<HashSet<(String, u64, String)>>,
}

/// What matters of an image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) env: BTreeMap<String, String>,
    /// Whom it runs as, unless something else is asked for; empty: root.
    pub(crate) user: String,
}

impl Shared {
    /// Sees to it that an image is there.
    pub(crate) async fn image(
        &self,
        engine: &Engine,
        id: &InstanceId,
        workload: &Workload,
        (name, pull): (&str, Pull),
    ) -> Result<Image, SpawnError> {
        let placement = (workload.name.clone(), id.generation.0, name.to_owned());
        let one = self.pulls.lock_of(name);
        let _one_at_a_time = one.lock().await;
        let there = self.look_at(engine, name).await?;
        let again = pull == Pull::Always && !self.pulls.was_done(&placement);
        match there {
            Some(image) if !again => return Ok(image),
            None if pull == Pull::Never => {
                let detail =
                    format!("the image {name} is not there, and is never to be pulled (`pull: never`)");
                return Err(SpawnError { code: "image_missing", detail });
            }
            _ => {}
        }
        self.fetch(engine, id, name).await?;
        self.pulls.remember(placement);
        let gone = || SpawnError {
            code: "image_not_found",
            detail: format!("the image {name} was pulled, and is not there"),
        };
        self.look_at(engine, name).await?.ok_or_else(gone)
    }

    async fn look_at(&self, engine: &Engine, name: &str) -> Result<Option<Image>, SpawnError> {
        let asked = timeout(CALL, engine.docker.inspect_image(name)).await;
        match asked.map_err(|_| CallError::Late(CALL)).and_then(|it| it.map_err(CallError::from)) {
            Ok(found) => {
                let config = found.config.unwrap_or_default();
                let env = config.env.unwrap_or_default();
                let pairs = env.iter().filter_map(|it| it.split_once('='));
                Ok(Some(Image {
                    user: config.user.unwrap_or_default(),
                    env: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                }))
            }
            Err(CallError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error.spawn("create_failed", &format!("can't look at the image {name}"))),
        }
    }

    /// Fetches an image, with progress in the replica's log.
    async fn fetch(&self, engine: &Engine, id: &InstanceId, name: &str) -> Result<(), SpawnError> {
        let denied = |detail: String| SpawnError {
            code: "image_pull_denied",
            detail: format!("no credentials for {name}: {detail}"),
        };
        let credentials =
            credentials::find(self.options.docker_config.as_deref(), name).await.map_err(denied)?;
        let with = if credentials.is_some() { "with credentials" } else { "without credentials" };
        self.say(id, &format!("pulling {name} {with}"));
        tracing::info!(replica = id.replica, image = name, "an image is pulled");
        let (image, tag) = reference(name);
        let options = CreateImageOptionsBuilder::default().from_image(image).tag(tag).build();
        let mut progress = Box::pin(engine.docker.create_image(Some(options), None, credentials));
        let began = Instant::now();
        let (mut told_at, mut layers) = (began, HashMap::<String, (i64, i64)>::new());
        loop {
            let step = match timeout(STALLED, progress.next()).await {
                Err(_) => {
                    let detail = format!("pulling {name} made no progress for {STALLED:?}");
                    return Err(self.not_pulled(id, SpawnError { code: "registry_unreachable", detail }));
                }
                Ok(None) => break,
                Ok(Some(Err(error))) => {
                    return Err(self.not_pulled(id, pull_failure(&CallError::from(error), name)));
                }
                Ok(Some(Ok(step))) => step,
            };
            if let (Some(layer), Some(detail)) = (step.id, step.progress_detail) {
                layers.insert(layer, (detail.current.unwrap_or(0), detail.total.unwrap_or(0)));
            }
            if told_at.elapsed() >= TELL {
                told_at = Instant::now();
                let (done, total) = layers.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
                self.say(id, &format!("pulling {name}: {} of {} MB", done / 1_000_000, total / 1_000_000));
            }
        }
        self.say(id, &format!("pulled {name} in {:.1} s", began.elapsed().as_secs_f64()));
        Ok(())
    }

    fn not_pulled(&self, id: &InstanceId, error: SpawnError) -> SpawnError {
        self.say(id, &format!("{}: {}", error.code, error.detail));
        error
    }
}

impl Pulls {
    fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut going_on = self.going_on.lock().unwrap_or_else(PoisonError::into_inner);
        going_on.retain(|_, it| Arc::strong_count(it) > 1);
        Arc::clone(going_on.entry(name.to_owned()).or_default())
    }

    fn was_done(&self, placement: &(String, u64, String)) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(placement)
    }

    fn remember(&self, placement: (String, u64, String)) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done.len() >= REMEMBERED {
            done.clear();
        }
        done.insert(placement);
    }
}

/// Name and tag apart. Without a tag an engine would fetch all there are.
fn reference(name: &str) -> (&str, &str) {
    if name.contains('@') {
        return (name, "");
    }
    match name.rsplit_once(':') {
        Some((image, tag)) if !tag.contains('/') => (image, tag),
        _ => (name, "latest"),
    }
}

/// Why an image could not be fetched, in a word. Engines say it in many.
fn pull_failure(error: &CallError, name: &str) -> SpawnError {
    let any = |all: &[&str]| all.iter().any(|words| error.says(words));
    let code = if any(&[
        "unauthorized",
        "authentication required",
        "no basic auth",
        "access denied",
        "forbidden",
        "denied:",
    ]) {
        "image_pull_denied"
    } else if any(&["manifest unknown", "name unknown", "not found", "does not exist", "invalid reference"]) {
        "image_not_found"
    } else if any(&[
        "connection refused",
        "no such host",
        "timeout",
        "deadline exceeded",
        "unreachable",
        "tls",
        "x509",
        "server gave http response",
        "eof",
        "connection reset",
        "pinging container registry",
        "server misbehaving",
    ]) {
        "registry_unreachable"
    } else {
        "image_pull_failed"
    };
    error.spawn(code, &format!("can't pull {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_the_latest() {
        assert_eq!(reference("nginx"), ("nginx", "latest"));
        assert_eq!(reference("nginx:1.27"), ("nginx", "1.27"));
        assert_eq!(reference("127.0.0.1:5000/a"), ("127.0.0.1:5000/a", "latest"));
        assert_eq!(reference("127.0.0.1:5000/a:1"), ("127.0.0.1:5000/a", "1"));
        assert_eq!(reference("a@sha256:12"), ("a@sha256:12", ""));
    }

    #[test]
    fn why_a_pull_failed_is_one_word_whatever_the_engine_calls_it() {
        let code = |message: &str| {
            pull_failure(&CallError::Refused { status: 500, message: message.into() }, "x").code
        };
        assert_eq!(
            code("pull access denied for x, repository does not exist or may require 'docker login'"),
            "image_pull_denied"
        );
        assert_eq!(code("manifest for x:2 not found: manifest unknown: no such tag"), "image_not_found");
        assert_eq!(
            code("Get \"https://x/v2/\": dial tcp 127.0.0.1:1: connect: connection refused"),
            "registry_unreachable"
        );
        assert_eq!(code("Get \"https://x/v2/\": no basic auth credentials"), "image_pull_denied");
        assert_eq!(code("no space left on device"), "image_pull_failed");
    }
}
