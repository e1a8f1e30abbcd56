//! The servers: one is spoken to at a time, and another when that is gone. Tokens and certificates are read anew at each
//! registration, so that new ones need no restart (C12).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hale_api::{
    AgentStream, Client, ClientError, ClientTls,
    kube::{HealthEntry, HealthReport, HealthSummary, KubeAgentRegistration, KubeMode, ResourceHealth},
};
use tokio::sync::watch;

use super::{Desired, Mode, Options, Wanted, outbox::Entry};
use crate::{health::Health, manifest};

/// Which servers there are, and how they are asked.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Their URLs.
    pub urls: Vec<String>,
    /// The file that holds the agent's token.
    pub token_file: PathBuf,
    /// What is trusted and shown.
    pub tls: ClientTls,
}

/// A registration at a server.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) agent: String,
    pub(crate) url: String,
}

/// The servers, and the one that is spoken to.
pub(crate) struct Servers {
    options: ServerOptions,
    turn: AtomicUsize,
    session: watch::Sender<Option<Arc<Session>>>,
}

impl Servers {
    pub(crate) fn new(options: ServerOptions) -> Self {
        Self { options, turn: AtomicUsize::new(0), session: watch::Sender::new(None) }
    }

    /// Registers at the next server.
    pub(crate) async fn register(&self, options: &Options) -> Result<Arc<Session>, String> {
        let urls = &self.options.urls;
        let url = urls.get(self.turn.fetch_add(1, Ordering::Relaxed) % urls.len().max(1));
        let url = url.ok_or("there is no server to register at")?.clone();
        let file = &self.options.token_file;
        let token = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| format!("the token file {} can't be read: {error}", file.display()))?;
        let said = |error: ClientError| format!("{url}: {error}");
        let client = Client::remote_with(&url, &token, &self.options.tls).map_err(said)?;
        let registered = client.register_kube_agent(&registration(options)).await.map_err(said)?;
        if let Some(name) = options.name.as_ref().filter(|it| **it != registered.name) {
            let token = &registered.name;
            return Err(format!(
                "{url}: the token is for {token}, and not for {name}; give that name, or its token"
            ));
        }
        let session = Arc::new(Session { client, agent: registered.agent_id, url });
        self.session.send_replace(Some(Arc::clone(&session)));
        Ok(session)
    }

    /// There is no session any more: others wait for the next.
    pub(crate) fn lost(&self) {
        self.session.send_replace(None);
    }

    /// The session, as soon as there is one.
    pub(crate) async fn registered(&self) -> Arc<Session> {
        let mut session = self.session.subscribe();
        loop {
            if let Some(session) = session.borrow_and_update().clone() {
                return session;
            }
            // The sender is in `self`.
            let _ = session.changed().await;
        }
    }

    /// Tells how objects are. Gives what the server did not take, by index.
    pub(crate) async fn report(&self, entries: &[(String, Entry)]) -> Result<Vec<(usize, String)>, String> {
        let session = self.registered().await;
        let report = HealthReport {
            deployment_objects: entries.iter().map(|(id, entry)| health_entry(id, entry)).collect(),
        };
        let answer = session.client.report_health(&session.agent, &report).await;
        let answer = answer.map_err(|error| {
            if matches!(error, ClientError::NotFound(_) | ClientError::NotAllowed(_)) {
                self.lost();
            }
            format!("{}: {error}", session.url)
        })?;
        if answer.clock_skew {
            tracing::warn!("the clock of this machine is ahead of the server's");
        }
        let refused = answer.errors.into_iter();
        Ok(refused.map(|it| (usize::try_from(it.index).unwrap_or(usize::MAX), it.message)).collect())
    }

    /// Completes when the session is given up.
    pub(crate) async fn given_up(&self) {
        let mut session = self.session.subscribe();
        while session.borrow_and_update().is_some() {
            let _ = session.changed().await;
        }
    }
}

impl Session {
    /// What is wanted, and its revision.
    pub(crate) async fn desired(&self) -> Result<(String, Desired), ClientError> {
        let told = self.client.desired(&self.agent, None, std::time::Duration::ZERO).await?;
        let mode = match told.mode {
            KubeMode::Apply => Mode::Apply,
            KubeMode::Observe => Mode::Observe,
        };
        let mut objects = Vec::new();
        for stack in told.stacks {
            for object in stack.objects {
                let manifests = if object.deletion_marker {
                    Ok(Vec::new())
                } else {
                    manifest::read(&object.yaml).map_err(|error| error.to_string())
                };
                objects.push(Wanted {
                    id: object.id,
                    stack: stack.id.clone(),
                    manifests,
                    deleting: object.deletion_marker,
                });
            }
        }
        Ok((told.revision, Desired { mode, objects }))
    }

    /// What the server tells as it happens.
    pub(crate) async fn stream(&self) -> Result<AgentStream, ClientError> {
        self.client.agent_stream(&self.agent).await
    }

    /// Requests for diagnostics that can be taken: their ids, and of what.
    pub(crate) async fn pending(&self) -> Result<Vec<(String, String)>, ClientError> {
        let pending = self.client.pending_diagnostics(&self.agent).await?;
        Ok(pending.requests.into_iter().map(|it| (it.id, it.deployment_object_id)).collect())
    }
}

fn registration(options: &Options) -> KubeAgentRegistration {
    let pairs = |all: &[(String, String)]| all.iter().cloned().collect();
    KubeAgentRegistration {
        version: options.version.clone(),
        labels: pairs(&options.labels),
        health_enabled: options.health,
        diagnostics_enabled: options.diagnostics,
        check_interval_seconds: u32::try_from(options.interval.as_secs()).unwrap_or(u32::MAX).max(1),
        stale_after_seconds: None,
        mode: match options.mode {
            Mode::Apply => KubeMode::Apply,
            Mode::Observe => KubeMode::Observe,
        },
        stacks: options.stacks.iter().cloned().collect(),
        match_labels: pairs(&options.match_labels),
    }
}

fn health_entry(id: &str, entry: &Entry) -> HealthEntry {
    let Health { status, pods_ready, pods_total, conditions, resources } = &entry.health;
    let resource = |it: &crate::health::Named| ResourceHealth {
        kind: it.kind.clone(),
        name: it.name.clone(),
        namespace: it.namespace.clone(),
        ready: it.ready,
        message: it.message.clone(),
    };
    HealthEntry {
        id: id.to_owned(),
        status: *status,
        summary: HealthSummary {
            pods_ready: *pods_ready,
            pods_total: *pods_total,
            conditions: conditions.clone(),
            resources: resources.iter().map(resource).collect(),
        },
        checked_at: entry.checked_at,
    }
}
