//! One transaction, on whichever database.

use crate::{
    history::{ProbeKey, Probes},
    plan::{self, Plan, State},
    postgres,
    retention::{Limit, Old},
    rows::Numbers,
    sqlite,
    work::{Needs, Work},
};

/// A transaction that has the lock of the numbers.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) numbers: Numbers,
}

/// A commit that was asked for and not answered: whether it was done is known once the lock is taken again.
#[derive(Debug)]
pub(crate) struct Unsure {
    batch: u64,
    plan: Plan,
}

/// The connection that writes.
#[derive(Debug)]
pub(crate) enum Engine {
    Sqlite(Box<sqlite::Engine>),
    Postgres(Box<postgres::Engine>),
}

/// Numbers batches, and remembers the one whose end is not known.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    last: u64,
    unsure: Option<Unsure>,
}

impl Batches {
    /// The work that was given last is not given again: whatever became of it, the next is not it.
    pub(crate) fn give_up(&mut self) {
        self.unsure = None;
    }
}

impl Engine {
    /// Whether no other process writes to the same database.
    pub(crate) const fn is_alone(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(_) => false,
        }
    }

    /// Writes a batch, all of it or nothing. After an error the same work is to be given again: should it turn out
    /// that the commit was done after all, it is not done twice. Or it is given up: see [`Batches::give_up`].
    pub(crate) async fn run(
        &mut self,
        work: &Work,
        known: &Probes,
        batches: &mut Batches,
    ) -> Result<Plan, sqlx::Error> {
        let begun = self.begin().await?;
        if let Some(it) = &batches.unsure {
            match self.batch().await {
                Ok(batch) => {
                    let done = batch == Some(it.batch);
                    let unsure = batches.unsure.take();
                    if let Some(it) = unsure.filter(|_| done) {
                        self.rollback().await;
                        return Ok(it.plan);
                    }
                }
                Err(error) => {
                    self.rollback().await;
                    return Err(error);
                }
            }
        }
        batches.last += 1;
        match self.fill(work, known, begun.numbers, batches.last).await {
            Ok(plan) if plan.is_empty() => {
                self.rollback().await;
                Ok(plan)
            }
            Ok(plan) => match self.commit().await {
                Ok(()) => Ok(plan),
                Err(error) => {
                    batches.unsure = Some(Unsure { batch: batches.last, plan });
                    self.rollback().await;
                    Err(error)
                }
            },
            Err(error) => {
                self.rollback().await;
                Err(error)
            }
        }
    }

    async fn fill(
        &mut self,
        work: &Work,
        known: &Probes,
        numbers: Numbers,
        batch: u64,
    ) -> Result<Plan, sqlx::Error> {
        let state = self.state(&work.needs(known)).await?;
        let plan = plan::make(work, State { numbers, ..state }, known);
        if !plan.is_empty() {
            self.write(&plan, batch).await?;
        }
        Ok(plan)
    }

    async fn begin(&mut self) -> Result<Begun, sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.begin().await,
            Self::Postgres(it) => it.begin().await,
        }
    }

    async fn batch(&mut self) -> Result<Option<u64>, sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.batch().await,
            Self::Postgres(it) => it.batch().await,
        }
    }

    async fn state(&mut self, needs: &Needs) -> Result<State, sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.state(needs).await,
            Self::Postgres(it) => it.state(needs).await,
        }
    }

    async fn write(&mut self, plan: &Plan, batch: u64) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.write(plan, batch).await,
            Self::Postgres(it) => it.write(plan, batch).await,
        }
    }

    async fn commit(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.commit().await,
            Self::Postgres(it) => it.commit().await,
        }
    }

    async fn rollback(&mut self) {
        match self {
            Self::Sqlite(it) => it.rollback().await,
            Self::Postgres(it) => it.rollback().await,
        }
    }

    /// Takes some of what is old out; how many rows.
    pub(crate) async fn forget(&mut self, old: Old, limit: Limit) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.forget(old, limit).await,
            Self::Postgres(it) => it.forget(old, limit).await,
        }
    }

    /// Makes days of series before this one (days since 1970) coarser; how many.
    pub(crate) async fn coarsen(&mut self, before: i64, most: i64) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.coarsen(before, most).await,
            Self::Postgres(it) => it.coarsen(before, most).await,
        }
    }

    /// Keeps only the newest runs of a probe.
    pub(crate) async fn trim(&mut self, probe: &ProbeKey, keep: i64) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.trim(probe, keep).await,
            Self::Postgres(it) => it.trim(probe, keep).await,
        }
    }

    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(it) => it.close().await,
            Self::Postgres(it) => it.close().await,
        }
    }
}

/// Whether a database will not take the same again, however often it is tried: what was given is at fault, not it.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    let code = match error {
        sqlx::Error::Encode(_) => return true,
        sqlx::Error::Database(it) => it.code().unwrap_or_default().into_owned(),
        _ => return false,
    };
    // PostgreSQL's classes: data exception, integrity, program limit. SQLite's extended codes end in: too big,
    // constraint, mismatch.
    match code.parse::<u32>() {
        _ if code.len() == 5 => ["22", "23", "54"].iter().any(|class| code.starts_with(class)),
        Ok(number) => matches!(number & 0xff, 18..=20),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        cluster::Lease,
        plan::{Answer, cluster_key},
        queue::{Fact, Prepared, Step, Wish},
        sqlite::schema,
    };

    /// A lease that is wanted, for as long as the other end is there.
    fn lease() -> (Work, oneshot::Receiver<Option<Lease>>) {
        let (to, answer) = oneshot::channel();
        let wish =
            Wish { name: "retention".to_owned(), holder: "me".to_owned(), ttl: Duration::from_secs(9) };
        (Work { items: vec![Fact::Lease(wish, to)], ..Work::default() }, answer)
    }

    fn write() -> Work {
        let changes = vec![Step::Put(cluster_key(), "{}".to_owned())];
        let write = Prepared { changes, guards: Vec::new(), size: 0, room: None };
        Work { items: vec![Fact::Write(Box::new(write), oneshot::channel().0)], ..Work::default() }
    }

    #[tokio::test]
    async fn what_was_committed_without_an_answer_and_given_up_is_not_taken_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let connection = schema::open(&dir.path().join("hale.db"), schema::MIGRATIONS).await.unwrap();
        let mut engine = Engine::Sqlite(Box::new(sqlite::Engine::new(connection, "me".to_owned())));
        let (probes, mut batches) = (Probes::default(), Batches::default());
        let (lease, _answer) = lease();
        let plan = engine.run(&lease, &probes, &mut batches).await.unwrap();
        assert!(matches!(plan.answers[0], Answer::Lease(Some(_))));
        let unanswered = |plan| Some(Unsure { batch: 1, plan });

        batches.unsure = unanswered(plan);
        let again = engine.run(&lease, &probes, &mut batches).await.unwrap();
        assert_eq!(batches.last, 1, "the same work given again is known to be done");
        batches.unsure = unanswered(again);
        batches.give_up();
        let plan = engine.run(&write(), &probes, &mut batches).await.unwrap();
        assert!(matches!(&plan.answers[0], Answer::Write(Ok(it)) if it.revision == 1));
        assert_eq!(engine.state(&write().needs(&probes)).await.unwrap().records.len(), 1, "it is written");
    }
}
