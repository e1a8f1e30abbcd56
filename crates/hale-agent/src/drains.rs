//! Whether anybody still sends requests to an instance that is to stop, as the server tells it (H18).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hale_api::proto;
use hale_supervisor::{
    runtime::{BoxFuture, InstanceId},
    sink::Drain,
};
use tokio::sync::oneshot;

/// How many drained instances are remembered that nobody has asked for yet.
const REMEMBERED: usize = 1024;

#[derive(Debug, Default)]
struct Waits {
    waiting: Vec<(InstanceId, oneshot::Sender<()>)>,
    told: VecDeque<proto::Drained>,
}

/// Knows which instances the server has told as drained. While no server can be asked nothing is drained: the drain
/// time bounds the wait. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drains {
    waits: Arc<Mutex<Waits>>,
}

impl Drains {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server says that nobody sends requests to this instance any more, and that none is in flight.
    pub fn drained(&self, instance: proto::Drained) {
        let mut waits = self.waits();
        waits.waiting.retain(|(_, wake)| !wake.is_closed());
        let (done, left): (Vec<_>, Vec<_>) =
            waits.waiting.drain(..).partition(|(id, _)| is_of(id, &instance));
        waits.waiting = left;
        if done.is_empty() {
            if waits.told.len() >= REMEMBERED {
                waits.told.pop_front();
            }
            waits.told.push_back(instance);
        }
        drop(waits);
        for (_, wake) in done {
            // One that does not wait any more has no use for it.
            let _ = wake.send(());
        }
    }
}

/// A run keeps the number that it was started under; its placement may have been granted a later one since.
fn is_of(id: &InstanceId, instance: &proto::Drained) -> bool {
    id.replica == instance.replica
        && id.incarnation.0 == instance.incarnation
        && id.generation.0 <= instance.generation
}

impl Drain for Drains {
    fn drained(&self, id: &InstanceId) -> BoxFuture<'static, ()> {
        let mut waits = self.waits();
        if let Some(at) = waits.told.iter().position(|it| is_of(id, it)) {
            waits.told.remove(at);
            return Box::pin(std::future::ready(()));
        }
        let (wake, woken) = oneshot::channel();
        waits.waiting.retain(|(_, wake)| !wake.is_closed());
        waits.waiting.push((id.clone(), wake));
        Box::pin(async move {
            // Whoever would tell is gone: only the drain time ends the wait.
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use hale_health::{Generation, Incarnation};

    use super::*;

    fn id(generation: u64, incarnation: u64) -> InstanceId {
        InstanceId {
            replica: "web-0".into(),
            generation: Generation(generation),
            incarnation: Incarnation(incarnation),
        }
    }

    fn told(generation: u64, incarnation: u64) -> proto::Drained {
        proto::Drained { replica: "web-0".into(), generation, incarnation }
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_server_tells_of_that_instance() {
        let drains = Drains::default();
        let wait = tokio::spawn(Drain::drained(&drains, &id(7, 2)));
        Drains::drained(&drains, told(7, 1));
        tokio::task::yield_now().await;
        assert!(!wait.is_finished(), "another run of it");
        Drains::drained(&drains, told(7, 2));
        wait.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_told_before_anybody_asked_counts_and_so_does_a_later_grant() {
        let drains = Drains::default();
        Drains::drained(&drains, told(7, 2));
        Drain::drained(&drains, &id(7, 2)).await;
        let granted = tokio::spawn(Drain::drained(&drains, &id(7, 3)));
        tokio::task::yield_now().await;
        Drains::drained(&drains, told(9, 3));
        granted.await.unwrap();
    }
}
