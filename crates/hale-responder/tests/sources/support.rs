//! A source at work, and what it says.

use std::{path::PathBuf, time::Duration};

use hale_model::spec::{Remote, Source, SourceKind};
use hale_responder::{
    alert::RawAlert,
    source::{Context, ErrorClass, Heard, Link, Message, SourceSettings, What, start},
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Far above what anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits short enough for tests.
pub(crate) fn quick() -> SourceSettings {
    SourceSettings {
        initial_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(200),
        check_every: Duration::from_millis(50),
    }
}

pub(crate) fn source(kind: SourceKind) -> Source {
    Source { name: "prod".into(), labels: [].into(), kubeconfig: None, kind }
}

pub(crate) fn remote(url: impl Into<String>) -> Remote {
    Remote { url: url.into(), token_file: None, ca_file: None }
}

/// A file with a secret in it, and the folder that keeps it.
pub(crate) fn secret(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, text).unwrap();
    (dir, file)
}

/// A source that runs; it is ended when this goes.
pub(crate) struct Running {
    pub(crate) messages: mpsc::Receiver<Message>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn start(kind: SourceKind) -> Self {
        Self::with(kind, Context { settings: quick(), ..Context::default() })
    }

    pub(crate) fn with(kind: SourceKind, context: Context) -> Self {
        Self::with_room(kind, context, 64)
    }

    pub(crate) fn with_room(kind: SourceKind, context: Context, room: usize) -> Self {
        let (out, messages) = mpsc::channel(room);
        let end = CancellationToken::new();
        let task = start(&source(kind), context, out, end.clone());
        Self { messages, end, task }
    }

    pub(crate) async fn next(&mut self) -> Message {
        timeout(LONG, self.messages.recv()).await.expect("something is told").expect("the source runs")
    }

    pub(crate) async fn link(&mut self) -> Link {
        loop {
            if let Message::Link(name, link) = self.next().await {
                assert_eq!(name, "prod");
                return link;
            }
        }
    }

    /// Waits until it is connected; tells for how long it was not.
    pub(crate) async fn up(&mut self) -> Option<f64> {
        loop {
            if let Link::Up { downtime } = self.link().await {
                return downtime;
            }
        }
    }

    /// The next attempt that fails, or connection that is lost.
    pub(crate) async fn failure(&mut self) -> (ErrorClass, String, f64) {
        loop {
            match self.link().await {
                Link::Up { .. } => {}
                Link::Down { class, error, retry_in, .. } | Link::Failed { class, error, retry_in, .. } => {
                    return (class, error, retry_in);
                }
            }
        }
    }

    pub(crate) async fn heard(&mut self) -> Heard {
        loop {
            if let Message::Heard(heard) = self.next().await {
                assert_eq!(heard.source, "prod");
                return heard;
            }
        }
    }

    pub(crate) async fn alert(&mut self) -> RawAlert {
        loop {
            match self.heard().await.what {
                What::Alert(alert) => return *alert,
                What::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Ends it, and sees that it ends at once.
    pub(crate) async fn end(self) {
        self.end.cancel();
        timeout(Duration::from_secs(5), self.task).await.expect("it ends at once").unwrap();
    }
}
