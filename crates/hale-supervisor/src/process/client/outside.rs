//! What the keeper does not run, and ends when nobody else does: containers (N19, S9).

use std::{io, sync::Arc, sync::PoisonError, time::Duration};

use hale_health::Time;
use hale_keeper::protocol::{Answer, Key, Op, Outsider, Outsiders};
use tokio::sync::{mpsc, oneshot};

use super::{Client, Order, Stops, Task, Told, error_of, unavailable};
use crate::runtime::{InstanceId, SpawnError};

/// A handle by which the keeper is told of runs that it does not hold.
#[derive(Debug, Clone)]
pub struct KeptOutside {
    orders: mpsc::Sender<Order>,
    stops: Arc<Stops>,
}

impl Client {
    pub(in crate::process) fn outside(&self) -> KeptOutside {
        KeptOutside { orders: self.orders.clone(), stops: Arc::clone(&self.stops) }
    }
}

impl KeptOutside {
    /// Returns once the keeper knows these; `whole`: and no others. A keeper of an earlier release that knows no such
    /// thing is put up with: its containers end at the next start.
    ///
    /// # Errors
    /// The keeper can't be told now.
    pub async fn enter(&self, runs: Vec<Outsider>, whole: bool) -> Result<(), SpawnError> {
        let (answer, wait) = oneshot::channel();
        let lost = |_| unavailable("the connection to the keeper has ended");
        self.orders.send(Order::Outside(runs, whole, answer)).await.map_err(|_| lost(()))?;
        wait.await.map_err(|_| lost(()))?
    }

    /// Lets the keeper forget one. With a full queue it stays noted, which costs a line in its log at most.
    pub fn leave(&self, id: &InstanceId) {
        let _ = self.orders.try_send(Order::Forget(id.clone()));
    }

    /// When the keeper is to end it by itself; the last word counts.
    pub fn stop_at(&self, id: &InstanceId, at: Option<Time>, grace: Duration) {
        let mut deadlines = self.stops.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        deadlines.insert(id.clone(), (at, grace));
        drop(deadlines);
        self.stops.news.notify_one();
    }
}

impl Task {
    pub(super) async fn enter_outside(
        &mut self,
        runs: Vec<Outsider>,
        whole: bool,
        told: Option<Told>,
    ) -> io::Result<()> {
        let mut before = std::mem::take(&mut self.outside);
        for run in &runs {
            let deadline = run.deadline.or_else(|| before.remove(&run.key)?.deadline);
            self.outside.insert(run.key.clone(), Outsider { deadline, ..run.clone() });
        }
        if !whole {
            before.extend(self.outside.drain());
            self.outside = before;
        }
        if let Some(told) = told {
            self.told_outside.insert(self.next_id, told);
        }
        self.connection.send(self.next_id, Op::Outside(Box::new(Outsiders { runs, whole }))).await
    }

    /// The last word on when these are to end: a new keeper is told the same.
    pub(super) fn note_deadline(&mut self, keys: &[Key], deadline: Option<(u64, u64)>) {
        for key in keys {
            if let Some(run) = self.outside.get_mut(key) {
                run.deadline = deadline;
            }
        }
    }

    /// The same to a keeper that may not know: a new one, or one that has not heard all.
    pub(super) async fn tell_outside_again(&mut self) -> io::Result<()> {
        if self.outside.is_empty() {
            return Ok(());
        }
        self.next_id += 1;
        let runs = self.outside.values().cloned().collect();
        self.enter_outside(runs, true, None).await
    }
}

pub(super) fn result_of(answer: Answer) -> Result<(), SpawnError> {
    match answer {
        Answer::Error(failure) if failure.code == "unsupported" => {
            tracing::warn!("the keeper is of a release that does not end containers");
            Ok(())
        }
        Answer::Error(failure) => Err(error_of(failure)),
        _ => Ok(()),
    }
}
