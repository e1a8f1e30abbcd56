//! Asking nodes: over their session when it is here, else by way of the database and the server that has it.

use std::{sync::Arc, time::Duration};

use hale_api::proto::{self, answer, ask};
use hale_model::cluster::{OrderRecord, OrderResult};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write, WriteError};
use jiff::Timestamp;
use tokio::{sync::mpsc, time::timeout};

use super::{
    Cluster, Shared,
    session::Asked,
    snapshot::{Kept, Snapshot},
};
use crate::control::OrderError;

/// How long a node may take to say whether it takes an order.
const ORDER: Duration = Duration::from_secs(10);

/// How long an order may take by way of another server.
const BY_WAY: Duration = Duration::from_secs(15);

/// Pieces of an answer that wait for who asked.
const ANSWERS: usize = 64;

/// An order for one node.
#[derive(Debug, Clone)]
pub(crate) struct NodeOrder {
    pub(crate) node: String,
    pub(crate) order: proto::Order,
}

impl Shared {
    /// Asks a node that is connected here; the answers come out of the receiver. Dropping it ends the question.
    pub(crate) async fn ask(
        &self,
        node: &str,
        what: ask::What,
    ) -> Result<mpsc::Receiver<answer::What>, OrderError> {
        let session = self.sessions.get(node).ok_or_else(|| self.elsewhere(node))?;
        let (answers, answered) = mpsc::channel(ANSWERS);
        let asked = timeout(ORDER, session.ask(Asked { what, answers })).await;
        match asked {
            Ok(Ok(())) => Ok(answered),
            Ok(Err(_)) => Err(not_here(node)),
            Err(_) => Err(OrderError::Unavailable(format!("{node} is asked too many things at once"))),
        }
    }

    /// Why a node can't be asked from here, and where it can.
    fn elsewhere(&self, node: &str) -> OrderError {
        let snapshot = self.feed.current();
        let server = snapshot.sessions.get(node).filter(|it| it.server != self.name).map(|it| &it.server);
        match server
            .and_then(|it| snapshot.servers.get(it.as_str()))
            .filter(|it| self.alive.borrow().has(&it.name))
        {
            Some(it) => OrderError::Unavailable(format!(
                "the agent of {node} is connected to another server: ask {}",
                it.url
            )),
            None => not_here(node),
        }
    }

    /// Gives an order to a node that is connected here, and waits until the node has taken it.
    pub(crate) async fn order_here(&self, order: &NodeOrder) -> Result<(), OrderError> {
        let mut answered = self.ask(&order.node, ask::What::Order(order.order.clone())).await?;
        let answer = timeout(ORDER, answered.recv()).await;
        // A wake lets the session see that nobody waits any more.
        match answer {
            Ok(Some(answer::What::Done(_))) => Ok(()),
            Ok(Some(answer::What::Refused(it))) => Err(refused(it)),
            Ok(Some(_)) => Err(OrderError::Unavailable(format!("{} answered something else", order.node))),
            Ok(None) => Err(not_here(&order.node)),
            Err(_) => Err(OrderError::Unavailable(format!("{} does not answer", order.node))),
        }
    }
}

fn not_here(node: &str) -> OrderError {
    OrderError::Unavailable(format!("the agent of {node} is not connected"))
}

/// What a node refused.
pub(crate) fn refused(it: proto::Refused) -> OrderError {
    match it.code.as_str() {
        "not_found" => OrderError::NotFound(it.detail),
        "not_applicable" => OrderError::NotApplicable(it.detail),
        _ => OrderError::Unavailable(it.detail),
    }
}

impl Cluster {
    /// Gives an order to a node, wherever it is connected, and waits until the node has taken it.
    pub(crate) async fn order_node(&self, order: NodeOrder) -> Result<(), OrderError> {
        if self.shared.sessions.get(&order.node).is_some() {
            return self.shared.order_here(&order).await;
        }
        let snapshot = self.shared.feed.current();
        let elsewhere = snapshot
            .sessions
            .get(order.node.as_str())
            .is_some_and(|it| it.server != self.shared.name && self.shared.alive.borrow().has(&it.server));
        if !elsewhere {
            return Err(not_here(&order.node));
        }
        self.order_by_way(order).await
    }

    async fn order_by_way(&self, order: NodeOrder) -> Result<(), OrderError> {
        let unavailable = |why: String| OrderError::Unavailable(why);
        let id = super::random_name().map_err(|error| unavailable(error.to_string()))?;
        let record = record(&id, &order);
        let key = Key::new(Kind::Order, &id);
        let write = Write {
            changes: vec![Change::Put(Record::Order(Box::new(record)))],
            guards: vec![Guard::Absent(key.clone())],
        };
        self.shared.store.write(write).await.map_err(|error| unavailable(error.to_string()))?;
        let mut follow = self.shared.feed.follow();
        let done = follow.wait_for(|it| it.orders.get(id.as_str()).is_some_and(|it| it.result.is_some()));
        let result = match timeout(BY_WAY, done).await {
            Ok(Ok(snapshot)) => snapshot.orders.get(id.as_str()).and_then(|it| it.result.clone()),
            _ => None,
        };
        let clear = Write { changes: vec![Change::Delete(key)], guards: Vec::new() };
        if let Err(error) = self.shared.store.write(clear).await {
            tracing::debug!(%error, "an order that is done is cleared away later");
        }
        match result {
            Some(OrderResult::Done) => Ok(()),
            Some(OrderResult::Refused { code, detail }) => Err(refused(proto::Refused { code, detail })),
            None => {
                Err(unavailable(format!("the server that {} is connected to does not answer", order.node)))
            }
        }
    }
}

fn record(id: &str, order: &NodeOrder) -> OrderRecord {
    let it = &order.order;
    OrderRecord {
        id: id.to_owned(),
        node: order.node.clone(),
        verb: it.verb.clone(),
        name: it.name.clone(),
        generation: it.generation,
        by: it.by.clone(),
        reason: it.reason.clone(),
        probe: it.probe.as_deref().and_then(|it| it.parse().ok()),
        lasting_ms: it.lasting_ms,
        at: Timestamp::now(),
        taken_by: None,
        result: None,
    }
}

/// Carries out what other servers want of nodes that are connected here.
pub(super) fn look(shared: &Arc<Shared>, snapshot: &Snapshot) {
    for it in snapshot.orders.values().filter(|it| it.result.is_none() && it.taken_by.is_none()) {
        if shared.sessions.get(&it.node).is_some() {
            shared.tasks.spawn(carry_out(Arc::clone(shared), it.clone()));
        }
    }
}

/// Takes an order, carries it out, and tells the result. However often the feed tells of it, and whoever has the
/// session by now: of those who see it the one that takes it does it. Should that one end midway, it is not done
/// again: who asked is told that nobody answers.
async fn carry_out(shared: Arc<Shared>, kept: Kept<OrderRecord>) {
    let taken = OrderRecord { taken_by: Some(shared.name.clone()), ..(*kept.record).clone() };
    let revision = match put(&shared, &taken, kept.revision).await {
        Ok(revision) => revision,
        Err(error) => {
            tracing::debug!(%error, "an order was not taken: another server has it, or nobody waits for it");
            return;
        }
    };
    let order = NodeOrder { node: taken.node.clone(), order: wire(&taken) };
    let result = match shared.order_here(&order).await {
        Ok(()) => OrderResult::Done,
        Err(error) => {
            let code = match error {
                OrderError::NotFound(_) => "not_found",
                OrderError::NotApplicable(_) => "not_applicable",
                OrderError::Unavailable(_) => "unavailable",
            };
            OrderResult::Refused { code: code.to_owned(), detail: error.to_string() }
        }
    };
    if let Err(error) = put(&shared, &OrderRecord { result: Some(result), ..taken }, revision).await {
        tracing::debug!(%error, "the result of an order could not be told");
    }
}

/// Changes the record of an order that is as it was at a revision; the revision it has then.
async fn put(shared: &Shared, record: &OrderRecord, revision: u64) -> Result<u64, WriteError> {
    let write = Write {
        changes: vec![Change::Put(Record::Order(Box::new(record.clone())))],
        guards: vec![Guard::Unchanged { key: Key::new(Kind::Order, &record.id), revision }],
    };
    Ok(shared.store.write(write).await?.revision)
}

fn wire(it: &OrderRecord) -> proto::Order {
    proto::Order {
        verb: it.verb.clone(),
        name: it.name.clone(),
        by: it.by.clone(),
        reason: it.reason.clone(),
        probe: it.probe.map(|it| it.as_str().to_owned()),
        lasting_ms: it.lasting_ms,
        generation: it.generation,
    }
}
