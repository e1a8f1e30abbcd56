//! The link to a server: registers, hears what is desired, and of requests for diagnostics; as they happen while a
//! stream is open, by asking every 10 s while none is.

use std::{sync::Arc, time::Duration};

use hale_api::{AgentPush, ClientError};
use hale_health::{Backoff, Chance};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{Shared, outbox::AGAIN, server::Session};

/// How often the server is asked while it can't tell by itself (K9).
const POLL: Duration = Duration::from_secs(10);

/// How long it is only asked until a stream is tried for again.
const STREAM_AGAIN: Duration = Duration::from_secs(30);

/// A request for diagnostics that can be taken: its id, and of what.
pub(super) type Asked = (String, String);

/// Links until the end.
pub(super) async fn run(shared: Arc<Shared>, ask: mpsc::Sender<Asked>) {
    let end = shared.end.clone();
    let mut link = Link { shared, ask, revision: None };
    end.run_until_cancelled(link.forever()).await;
}

struct Link {
    shared: Arc<Shared>,
    ask: mpsc::Sender<Asked>,
    revision: Option<String>,
}

impl Link {
    async fn forever(&mut self) {
        let mut backoff = Backoff::new();
        let mut chance = Chance::new(Shared::seed());
        loop {
            let began = Instant::now();
            let why = match self.shared.servers.register(&self.shared.options).await {
                Ok(session) => {
                    tracing::info!(server = session.url, agent = session.agent, "registered");
                    self.shared.state.send_modify(|it| it.server = Some(session.url.clone()));
                    self.shared.metrics.connected(true);
                    // All is told anew: another server may know nothing of it.
                    self.shared.outbox.beat();
                    self.session(&session).await
                }
                Err(why) => why,
            };
            self.shared.servers.lost();
            self.shared.state.send_modify(|it| it.server = None);
            self.shared.metrics.connected(false);
            if began.elapsed() > Duration::from_secs(60) {
                backoff.reset();
            }
            tracing::warn!(why, "no server; trying again");
            sleep(backoff.next(&AGAIN, chance.draw())).await;
        }
    }

    /// One registration, until it ends: says why.
    async fn session(&mut self, session: &Session) -> String {
        let shared = Arc::clone(&self.shared);
        let given_up = shared.servers.given_up();
        tokio::pin!(given_up);
        tokio::select! {
            () = &mut given_up => "the server does not know this agent any more".to_owned(),
            ended = self.follow(session) => match ended {
                Ok(()) => "the session ended".to_owned(),
                Err(error) => error.to_string(),
            },
        }
    }

    async fn follow(&mut self, session: &Session) -> Result<(), ClientError> {
        self.fetch(session).await?;
        loop {
            match session.stream().await {
                Ok(mut stream) => {
                    // What happened between asking and the stream's beginning is asked for.
                    self.fetch(session).await?;
                    loop {
                        match stream.next().await {
                            Ok(AgentPush::Desired { revision }) => {
                                if self.revision.as_deref() != Some(&revision) {
                                    self.fetch(session).await?;
                                }
                            }
                            Ok(AgentPush::Diagnostics(request)) => {
                                self.asked((request.id, request.deployment_object_id));
                            }
                            Err(error) => {
                                tracing::info!(%error, "the stream from the server has ended");
                                break;
                            }
                        }
                    }
                }
                Err(error @ (ClientError::NotAllowed(_) | ClientError::NotFound(_))) => return Err(error),
                Err(error) => tracing::info!(%error, "the server gives no stream; asking it every 10 s"),
            }
            self.poll(session).await?;
        }
    }

    /// Asks for a while; the first time at once.
    async fn poll(&mut self, session: &Session) -> Result<(), ClientError> {
        let until = Instant::now() + STREAM_AGAIN;
        loop {
            self.fetch(session).await?;
            for asked in session.pending().await? {
                self.asked(asked);
            }
            if Instant::now() + POLL > until {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }

    async fn fetch(&mut self, session: &Session) -> Result<(), ClientError> {
        let (revision, desired) = session.desired().await?;
        if self.revision.as_ref() != Some(&revision) {
            tracing::info!(objects = desired.objects.len(), revision, "what is desired has changed");
        }
        self.revision = Some(revision);
        self.shared.desired.send_if_modified(|now| {
            let news = **now != desired;
            if news {
                *now = Arc::new(desired);
            }
            news
        });
        Ok(())
    }

    /// Hands a request on. When too many wait already it is left: the server gives it again.
    fn asked(&self, asked: Asked) {
        if let Err(mpsc::error::TrySendError::Full((id, _))) = self.ask.try_send(asked) {
            tracing::warn!(request = id, "too many requests for diagnostics at once; it is left for later");
        }
    }
}
