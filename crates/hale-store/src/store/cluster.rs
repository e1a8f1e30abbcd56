//! The operations of a cluster: writes with guards, the feed of changes, leases, backups.

use super::*;

impl Store {
    /// Makes changes durable, all of them or none; returns once they are. What gathers while the disk is busy is
    /// written together. What changes nothing is not written and gets no revision.
    ///
    /// When the database takes nothing, a new write waits for 5 s at most; one that was taken is tried until it is
    /// written or the store is closed, whether or not somebody still waits for the answer.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(&self, write: Write) -> Result<Committed, WriteError> {
        let mut prepared = Box::new(Prepared::from(write));
        prepared.room = Some(self.admit(prepared.size).await?);
        let (to, answer) = oneshot::channel();
        if !self.shared.queue.fact(Fact::Write(prepared, to)) {
            if self.shared.queue.is_closed() {
                return Err(WriteError::Closed);
            }
            return Err(WriteError::Unavailable("too much waits to be written".to_owned()));
        }
        answer.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Waits for a database that takes writes, and room among those that wait.
    async fn admit(&self, size: usize) -> Result<OwnedSemaphorePermit, WriteError> {
        let shares = u32::try_from(size / SHARE + 1).unwrap_or(MOST_SHARES).min(MOST_SHARES);
        let mut trouble = self.shared.trouble.subscribe();
        let admitted = timeout(PATIENCE, async {
            trouble.wait_for(Option::is_none).await.map(drop).ok();
            Arc::clone(&self.room).acquire_many_owned(shares).await
        });
        match admitted.await {
            Ok(permit) => permit.map_err(|_| WriteError::Closed),
            Err(_) if self.shared.queue.is_closed() => Err(WriteError::Closed),
            Err(_) => {
                let trouble = self.shared.trouble.borrow().clone();
                Err(WriteError::Unavailable(
                    trouble.unwrap_or_else(|| "too much waits to be written".to_owned()),
                ))
            }
        }
    }

    /// All records, with `reset` set.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn load(&self) -> Result<Changes, StoreError> {
        self.reader.changes(None, usize::MAX).await.map_err(StoreError::database("be read"))
    }

    /// Records that changed after a revision, in the order of their commits, deletions among them; about `limit` (all
    /// of a write come together). Deletions are told for an hour: who asks from before that, or from beyond the end, or
    /// from before the database was restored, is given all records, with `reset` set.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        self.reader.changes(Some(after), limit).await.map_err(StoreError::database("be read"))
    }

    /// The large texts beside records of a kind, by name; of a record that has none, or is not there, none.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn texts(&self, kind: Kind, names: &[String]) -> Result<HashMap<String, String>, StoreError> {
        let texts = self.reader.texts(kind.as_str(), names).await.map_err(StoreError::database("be read"))?;
        Ok(texts.into_iter().collect())
    }

    /// The newest revision known here.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.shared.revision.borrow()
    }

    /// Follows [`Self::revision`]: own commits at once, those of other servers at their word or within a second.
    #[must_use]
    pub fn follow_revision(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    /// Takes a lease, or renews it, for `ttl` from now by the database's clock; `None` when another holds it. The number
    /// rises with each change of holder. Count the time from before the call.
    ///
    /// # Errors
    /// When the database does not answer within 5 s. It may have been given all the same.
    pub async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<Option<Lease>, StoreError> {
        let (to, answer) = oneshot::channel();
        let wish = Wish { name: name.to_owned(), holder: holder.to_owned(), ttl };
        self.ask(Fact::Lease(wish, to), answer).await
    }

    /// Gives a lease back, so that another need not wait for its end. Does nothing when it is held by another by now.
    pub async fn release(&self, lease: &Lease) {
        let (to, answer) = oneshot::channel();
        if let Err(error) = self.ask(Fact::Release(lease.name.clone(), lease.number, to), answer).await {
            tracing::warn!(%error, lease = lease.name, "a lease was not given back; it ends by itself");
        }
    }

    /// Puts a question into the queue of the writer and waits for a time.
    async fn ask<T>(&self, fact: Fact, answer: oneshot::Receiver<T>) -> Result<T, StoreError> {
        if !self.shared.queue.fact(fact) {
            return Err(StoreError::Closed);
        }
        match timeout(LEASE_PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|_| StoreError::Closed),
            Err(_) => {
                let trouble = self.shared.trouble.borrow().clone();
                let detail = trouble.unwrap_or_else(|| format!("no answer within {LEASE_PATIENCE:?}"));
                Err(StoreError::Database { what: "be written to", detail })
            }
        }
    }

    /// The leases that are held now, by the database's clock.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn leases(&self) -> Result<Vec<Lease>, StoreError> {
        let (rows, now) = self.reader.leases().await.map_err(StoreError::database("be read"))?;
        let held = rows.into_iter().filter(|it| !it.holder.is_empty() && it.until > now);
        let lease = held.map(|it| Lease {
            name: it.name,
            holder: it.holder,
            number: it.number,
            left_ms: it.until.saturating_sub(now).cast_unsigned() / 1000,
        });
        Ok(lease.collect())
    }

    /// The time by the database's clock: for leases and records, never for decisions.
    ///
    /// # Errors
    /// When the database can't be asked.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let now = self.reader.now().await.map_err(StoreError::database("tell the time"))?;
        Ok(Timestamp::from_microsecond(now).unwrap_or_default())
    }

    /// Copies the database while it is in use: see [`crate::backup`].
    ///
    /// # Errors
    /// When `to` is there already or can't be written; on PostgreSQL, which has means of its own.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        match &self.file {
            Some(file) => sqlite::backup(file, to).await,
            None => Err(StoreError::NotHere),
        }
    }

    /// To be called once when the database was restored by its own means, with no server running: raises the epoch of
    /// the cluster and leaves out numbers (events, revisions, generations, sessions) that may have been given since the
    /// backup. Returns the epoch; 0 when the
    /// database knows of no cluster.
    ///
    /// # Errors
    /// When the database does not answer within 5 s.
    pub async fn raise_epoch(&self) -> Result<u64, StoreError> {
        let (to, answer) = oneshot::channel();
        self.ask(Fact::RaiseEpoch(to), answer).await
    }
}
