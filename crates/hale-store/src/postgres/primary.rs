//! The host that takes writes, found again whenever it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::{task::JoinSet, time::timeout};

use super::hosts::{self, Found, Host};
use crate::StoreError;

/// How long other hosts may take once one says that it is the primary: another may be so with more right.
const OTHERS: Duration = Duration::from_millis(500);

/// Shared by all who use the database.
#[derive(Debug, Clone)]
pub(crate) struct Primary {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hosts: Vec<Host>,
    current: Mutex<Current>,
    /// One looks at a time; who waited finds what the other found.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Current {
    host: Option<Host>,
    pool: Option<PgPool>,
    /// The newest timeline that was seen: what is older is a primary of the past.
    timeline: u32,
    /// Counts changes of the host or its timeline.
    change: u64,
}

impl Primary {
    /// Not looked for yet.
    pub(crate) fn new(url: &str) -> Result<Self, StoreError> {
        let hosts = hosts::parse(url)?;
        let inner = Inner { hosts, current: Mutex::default(), looking: tokio::sync::Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.inner.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it may be, for messages.
    pub(crate) fn names(&self) -> String {
        self.inner.hosts.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether there is more than one host.
    pub(super) fn is_one_of_several(&self) -> bool {
        self.inner.hosts.len() > 1
    }

    /// Counts how often another host, or the same after a failover, became the primary.
    pub(super) fn change(&self) -> u64 {
        self.current().change
    }

    /// Connections for reading at the primary.
    pub(super) async fn pool(&self) -> Result<PgPool, sqlx::Error> {
        let known = self.current().pool.clone();
        match known {
            Some(pool) => Ok(pool),
            None => {
                self.find().await.and_then(|()| self.current().pool.clone().ok_or(sqlx::Error::PoolClosed))
            }
        }
    }

    /// A connection for writing at the primary, which is looked for.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.find().await?;
        let (host, known) = {
            let current = self.current();
            (current.host.clone(), current.timeline)
        };
        let mut connection = host.ok_or(sqlx::Error::PoolClosed)?.connect().await?;
        // It may have turned into something else since it was looked at.
        match super::bounded(hosts::timeline(&mut connection)).await? {
            Some(timeline) if timeline >= known => {}
            _ => return Err(sqlx::Error::protocol("the host is no primary any more")),
        }
        // Whatever the database's default: acknowledged is durable.
        super::bounded(
            sqlx::query(
                "SELECT set_config('synchronous_commit', 'on', false) \
                 WHERE current_setting('synchronous_commit') IN ('off', 'local')",
            )
            .execute(&mut connection),
        )
        .await?;
        Ok(connection)
    }

    /// Looks for the primary. Whoever comes while another looks takes what that one found.
    pub(super) async fn find(&self) -> Result<(), sqlx::Error> {
        let _looking = self.inner.looking.lock().await;
        let mut looks = JoinSet::new();
        for host in self.inner.hosts.iter().cloned() {
            looks.spawn(host.look());
        }
        let mut best: Option<Found> = None;
        let mut why = Vec::new();
        loop {
            let patience = if best.is_some() { OTHERS } else { Duration::MAX };
            let Ok(Some(look)) = timeout(patience, looks.join_next()).await else { break };
            match look {
                Ok(Ok(found)) if best.as_ref().is_none_or(|it| it.timeline < found.timeline) => {
                    best = Some(found)
                }
                Ok(Ok(_)) => {}
                Ok(Err(reason)) => why.push(reason),
                Err(error) => why.push(error.to_string()),
            }
        }
        match best {
            Some(found) => self.settle(found),
            None => Err(no_primary(&why)),
        }
    }

    fn settle(&self, found: Found) -> Result<(), sqlx::Error> {
        let mut current = self.current();
        if found.timeline < current.timeline {
            let (name, was, is) = (&found.host.name, current.timeline, found.timeline);
            return Err(no_primary(&[format!(
                "{name} was left behind by a failover (its timeline is {is}, {was} was written to)"
            )]));
        }
        let same = current.host.as_ref().is_some_and(|it| it.name == found.host.name);
        if same && current.timeline == found.timeline {
            return Ok(());
        }
        if current.host.is_some() {
            tracing::warn!(
                host = found.host.name,
                timeline = found.timeline,
                "the database's primary is another now"
            );
        }
        let pool = PgPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(3))
            .after_connect(|connection, _| {
                Box::pin(async move {
                    match hosts::timeline(connection).await? {
                        Some(_) => Ok(()),
                        None => Err(sqlx::Error::protocol("the host is a standby now")),
                    }
                })
            })
            .connect_lazy_with(found.host.reading());
        current.timeline = found.timeline;
        current.host = Some(found.host);
        current.change += 1;
        if let Some(old) = current.pool.replace(pool) {
            tokio::spawn(async move { old.close().await });
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        let pool = self.current().pool.clone();
        if let Some(pool) = pool {
            pool.close().await;
        }
    }
}

fn no_primary(why: &[String]) -> sqlx::Error {
    sqlx::Error::protocol(format!("no host takes writes: {}", why.join("; ")))
}
