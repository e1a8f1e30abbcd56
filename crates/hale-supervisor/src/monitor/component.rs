//! A component: a name, its checks, how it is restarted, and by which policy.

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use hale_health::{ProbeKind, ProbeTiming, ReplicaPolicy, RestartPolicy};
use hale_model::spec::Check;

use crate::runtime::BoxFuture;

/// What an async closure of the embedding program came to: done, or why not, in words.
pub(super) type Told = Result<(), String>;

pub(super) type Closure = Arc<dyn Fn() -> BoxFuture<'static, Told> + Send + Sync>;

/// One way to ask a component how it is.
#[derive(Clone)]
pub(super) enum Ask {
    /// An async closure of the embedding program.
    Closure(Closure),
    /// One of hale's own.
    BuiltIn(Box<Check>),
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closure(_) => f.write_str("closure"),
            Self::BuiltIn(check) => f.write_str(check.as_str()),
        }
    }
}

/// All checks of one purpose, asked together: one that fails makes the outcome a failure.
#[derive(Debug, Clone)]
pub(super) struct Asks {
    pub(super) timing: ProbeTiming,
    pub(super) asks: Vec<Ask>,
}

/// A part of a program that a [`Monitor`](super::Monitor) watches and restarts.
///
/// ```
/// use hale_supervisor::monitor::Component;
///
/// let cache = Component::new("cache")
///     .liveness(|| async { Ok::<(), std::io::Error>(()) })
///     .on_restart(|| async { Err("no memory left") })
///     .restart_timeout(std::time::Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct Component {
    pub(super) name: String,
    pub(super) startup: Option<Asks>,
    pub(super) liveness: Option<Asks>,
    pub(super) readiness: Option<Asks>,
    pub(super) restart: Option<Closure>,
    pub(super) restart_timeout: Duration,
    pub(super) policy: RestartPolicy,
    pub(super) depends_on: Vec<String>,
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("startup", &self.startup)
            .field("liveness", &self.liveness)
            .field("readiness", &self.readiness)
            .field("restartable", &self.restart.is_some())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// How long a restart function may take when nothing else is said (H30).
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);

fn closure<F, R, E>(function: F) -> Closure
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    Arc::new(move || {
        let told = function();
        Box::pin(async move { told.await.map_err(|error| error.into().to_string()) })
    })
}

impl Component {
    /// A component without checks: it is taken as running from its start until it is stopped.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            startup: None,
            liveness: None,
            readiness: None,
            restart: None,
            restart_timeout: RESTART_TIMEOUT,
            policy: RestartPolicy::default(),
            depends_on: Vec::new(),
        }
    }

    /// Adds a check of liveness: `failureThreshold` failures in a row restart the component (H4).
    #[must_use]
    pub fn liveness<F, R, E>(self, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.ask(ProbeKind::Liveness, Ask::Closure(closure(check)))
    }

    /// Adds a check of readiness: it sets `ready` and never restarts (H5).
    #[must_use]
    pub fn readiness<F, R, E>(self, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.ask(ProbeKind::Readiness, Ask::Closure(closure(check)))
    }

    /// Adds a check of startup: it holds the others back until it has succeeded (H3).
    #[must_use]
    pub fn startup<F, R, E>(self, check: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.ask(ProbeKind::Startup, Ask::Closure(closure(check)))
    }

    /// Adds one of hale's own checks: HTTP, TCP, gRPC, a command. Its host is the loopback address when it names none;
    /// its port must be a number.
    #[must_use]
    pub fn check(self, kind: ProbeKind, check: Check) -> Self {
        self.ask(kind, Ask::BuiltIn(Box::new(check)))
    }

    /// When checks of a kind ask and how many answers change the verdict; [`ProbeTiming::default_for`] otherwise.
    /// Adds nothing when the component has no check of that kind in the end.
    #[must_use]
    pub fn timing(mut self, kind: ProbeKind, timing: ProbeTiming) -> Self {
        self.asks(kind).timing = timing;
        self
    }

    /// How it is restarted. The function returns once the component runs again; it is cut off by its timeout (30 s, or
    /// [`Component::restart_timeout`]). One that fails, panics or is cut off is an attempt that failed, and backs off
    /// (H15). Without one, a restart only clears the counters.
    #[must_use]
    pub fn on_restart<F, R, E>(mut self, restart: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.restart = Some(closure(restart));
        self
    }

    /// The longest the restart function may take.
    #[must_use]
    pub const fn restart_timeout(mut self, timeout: Duration) -> Self {
        self.restart_timeout = timeout;
        self
    }

    /// Backoff, budget and the rest (H14 to H16).
    #[must_use]
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// While one of these components is known to be failing, failed checks of this one restart nothing (H21).
    #[must_use]
    pub fn depends_on<I: IntoIterator<Item = S>, S: Into<String>>(mut self, names: I) -> Self {
        self.depends_on.extend(names.into_iter().map(Into::into));
        self
    }

    pub(super) const fn asks_of(&self, kind: ProbeKind) -> Option<&Asks> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }

    fn asks(&mut self, kind: ProbeKind) -> &mut Asks {
        let asks = match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
        };
        asks.get_or_insert_with(|| Asks { timing: ProbeTiming::default_for(kind), asks: Vec::new() })
    }

    fn ask(mut self, kind: ProbeKind, ask: Ask) -> Self {
        self.asks(kind).asks.push(ask);
        self
    }

    /// What its lifecycle is decided by.
    pub(super) fn replica_policy(&self) -> ReplicaPolicy {
        let timing = |asks: &Option<Asks>| asks.as_ref().filter(|it| !it.asks.is_empty()).map(|it| it.timing);
        ReplicaPolicy {
            startup: timing(&self.startup),
            liveness: timing(&self.liveness),
            readiness: timing(&self.readiness),
            restart: self.policy.clone(),
            ..ReplicaPolicy::default()
        }
    }
}
