//! Questions, to whichever database.

use hale_api::{events::EventQuery, outcomes::ProbeHistory};

use crate::{
    AuditRecord, ReplicaRecord,
    cluster::Changes,
    postgres,
    rows::{EventRow, LeaseRow, Numbers},
    sqlite,
};

/// What reads. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Reader {
    Sqlite(sqlite::Reader),
    Postgres(postgres::Reader),
}

/// Passes a question on to the database there is.
macro_rules! ask {
    ($self:ident, $it:ident => $question:expr) => {
        match $self {
            Self::Sqlite($it) => $question.await,
            Self::Postgres($it) => $question.await,
        }
    };
}

impl Reader {
    pub(crate) async fn close(&self) {
        ask!(self, it => it.close());
    }

    pub(crate) async fn numbers(&self) -> Result<Numbers, sqlx::Error> {
        ask!(self, it => it.numbers())
    }

    /// By its clock, microseconds since 1970.
    pub(crate) async fn now(&self) -> Result<i64, sqlx::Error> {
        ask!(self, it => it.now())
    }

    /// All there are, and the time by its clock.
    pub(crate) async fn leases(&self) -> Result<(Vec<LeaseRow>, i64), sqlx::Error> {
        ask!(self, it => it.leases())
    }

    /// All records, or those after a revision.
    pub(crate) async fn changes(&self, after: Option<u64>, limit: usize) -> Result<Changes, sqlx::Error> {
        ask!(self, it => it.changes(after, limit))
    }

    /// The large texts beside records of a kind, by name.
    pub(crate) async fn texts(
        &self,
        kind: &'static str,
        names: &[String],
    ) -> Result<Vec<(String, String)>, sqlx::Error> {
        ask!(self, it => it.texts(kind, names))
    }

    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, sqlx::Error> {
        ask!(self, it => it.replicas())
    }

    pub(crate) async fn history(&self, subject: &str) -> Result<Vec<ProbeHistory>, sqlx::Error> {
        ask!(self, it => it.history(subject))
    }

    pub(crate) async fn audit(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, AuditRecord)>, sqlx::Error> {
        ask!(self, it => it.audit(after, limit))
    }

    /// Events, oldest first.
    pub(crate) async fn events(
        &self,
        query: &EventQuery,
        limit: usize,
    ) -> Result<Vec<EventRow>, sqlx::Error> {
        ask!(self, it => it.events(query, limit))
    }

    /// Asks for as little as there is.
    pub(crate) async fn ping(&self) -> Result<(), sqlx::Error> {
        ask!(self, it => it.ping())
    }
}
