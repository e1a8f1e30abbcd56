//! What the API asks of a cluster, whichever of its servers it asks.

use std::{collections::BTreeMap, future::Future, time::Duration};

use hale_api::{
    kube::ResourceUse,
    logs::LogLine,
    operation::Verb,
    outcomes::ProbeHistory,
    proto::{self, answer, ask},
};
use hale_model::{
    Phase,
    cluster::{Intent, PauseRecord, PlacementRecord, PlacementState, WorkloadRecord},
    spec::Rollout,
    status::{Overview, WorkloadStatus},
};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Cluster,
    desired::{DesiredError, Person},
    orders::{NodeOrder, refused},
    snapshot::Snapshot,
    status,
};
use crate::{
    control::{BoxFuture, Control, LogStream, Order, OrderError, Subject, log_stream},
    operations::Run,
    problems::where_to_look,
};

/// How long a node may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);

/// How long between two pieces of an output that is not followed.
const PIECE: Duration = Duration::from_secs(30);

impl Control for Cluster {
    fn overview(&self) -> BoxFuture<'_, Result<Overview, OrderError>> {
        Box::pin(async { Ok(status::overview(&self.shared, &self.shared.feed.current())) })
    }

    fn workload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<WorkloadStatus>, OrderError>> {
        Box::pin(async move {
            let snapshot = self.shared.feed.current();
            Ok(snapshot.workloads.get(name).map(|it| status::workload(&self.shared, &snapshot, it)))
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.live.changes()
    }

    fn progress_deadline(&self, workload: &str) -> Duration {
        let snapshot = self.shared.feed.current();
        let rollout = snapshot.specs.get(workload).map_or_else(Rollout::default, |it| it.rollout);
        rollout.progress_deadline
    }

    fn order(&self, order: Order) -> BoxFuture<'_, Result<(), OrderError>> {
        Box::pin(self.carry_out(order))
    }

    fn records(&self, order: &Order) -> bool {
        // These change records, and nothing else.
        matches!(order.verb, Verb::Stop | Verb::Pause | Verb::Resume)
    }

    fn logs(
        &self,
        replica: String,
        tail: Option<u32>,
        follow: bool,
    ) -> BoxFuture<'_, Result<LogStream, OrderError>> {
        Box::pin(async move {
            let snapshot = self.shared.feed.current();
            let Some(placement) = placement_of(&snapshot, &replica)? else {
                // Nothing was ever printed by what is placed nowhere.
                return Ok(log_stream(mpsc::channel(1).1));
            };
            let only_new = tail == Some(0);
            if only_new && !follow {
                return Ok(log_stream(mpsc::channel(1).1));
            }
            let asked = proto::LogAsk { replica, tail: tail.unwrap_or(0), follow, only_new };
            let answers = self.shared.ask(&placement.node, ask::What::Logs(asked)).await?;
            let (sender, pieces) = mpsc::channel(8);
            self.shared.tasks.spawn(pass_on(answers, sender, follow, self.shared.end.clone()));
            Ok(log_stream(pieces))
        })
    }

    fn history<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Vec<ProbeHistory>, OrderError>> {
        Box::pin(async move {
            let node = match self.node_of(subject) {
                Ok(Some(node)) => node,
                // A workload has no outcomes of its own, and what is gone has none any more.
                Ok(None) | Err(OrderError::NotFound(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut answers = self.shared.ask(&node, ask::What::OutcomesOf(subject.to_owned())).await?;
            match timeout(ANSWER, answers.recv()).await {
                Ok(Some(answer::What::Outcomes(text))) => serde_json::from_str(&text).map_err(|error| {
                    OrderError::Unavailable(format!("{node} answered what makes no sense: {error}"))
                }),
                Ok(Some(answer::What::Refused(it))) if it.code == "not_found" => Ok(Vec::new()),
                Ok(Some(answer::What::Refused(it))) => Err(refused(it)),
                _ => Err(OrderError::Unavailable(format!("{node} does not answer"))),
            }
        })
    }

    fn placement<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<String>, OrderError>> {
        Box::pin(async move { Ok(self.explain_placement(name)) })
    }

    fn resource_use<'a>(
        &'a self,
        replica: &'a str,
    ) -> BoxFuture<'a, Result<Option<ResourceUse>, OrderError>> {
        Box::pin(async move { self.use_of(replica) })
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { self.ready() })
    }
}

/// The placement of a replica that people mean: of those that are wanted the newest, else the newest.
///
/// # Errors
/// There is no such replica.
pub(super) fn placement_of<'a>(
    snapshot: &'a Snapshot,
    replica: &str,
) -> Result<Option<&'a PlacementRecord>, OrderError> {
    let (workload, ordinal) = split(snapshot, replica)?;
    let placements =
        || snapshot.placements_of(workload).filter(|it| it.ordinal == ordinal).map(|it| &*it.record);
    let wanted = placements().filter(|it| it.state == PlacementState::Wanted).last();
    Ok(wanted.or_else(|| placements().last()))
}

/// A replica's workload and number.
fn split<'a>(snapshot: &Snapshot, replica: &'a str) -> Result<(&'a str, u32), OrderError> {
    let unknown =
        || OrderError::NotFound(format!("no replica is named {replica:?}: `hale status` lists them"));
    let (workload, ordinal) = replica.rsplit_once('-').ok_or_else(unknown)?;
    let ordinal = ordinal.parse().map_err(|_| unknown())?;
    let declared = snapshot.specs.get(workload).is_some_and(|it| ordinal < it.replicas);
    let placed = || snapshot.placements_of(workload).any(|it| it.ordinal == ordinal);
    if declared || placed() { Ok((workload, ordinal)) } else { Err(unknown()) }
}

/// Output on its way from a node to a reader, at the reader's pace.
async fn pass_on(
    mut answers: mpsc::Receiver<answer::What>,
    sender: mpsc::Sender<Result<Vec<LogLine>, OrderError>>,
    follow: bool,
    end: tokio_util::sync::CancellationToken,
) {
    loop {
        let patience =
            async { if follow { std::future::pending().await } else { tokio::time::sleep(PIECE).await } };
        let answer = tokio::select! {
            answer = answers.recv() => answer,
            () = patience => Some(answer::What::Refused(proto::Refused {
                code: "unavailable".to_owned(),
                detail: "the node does not answer".to_owned(),
            })),
            () = sender.closed() => return,
            () = end.cancelled() => return,
        };
        let piece = match answer {
            Some(answer::What::LogLines(text)) => {
                serde_json::from_str::<Vec<LogLine>>(&text).map_err(|error| {
                    OrderError::Unavailable(format!("the node told what makes no sense: {error}"))
                })
            }
            Some(answer::What::Refused(it)) => Err(refused(it)),
            Some(_) => return,
            None => Err(OrderError::Unavailable("the node is not connected any more".to_owned())),
        };
        let last = piece.is_err();
        if piece.as_ref().is_ok_and(Vec::is_empty) {
            continue;
        }
        if sender.send(piece).await.is_err() || last {
            return;
        }
    }
}

impl From<DesiredError> for OrderError {
    fn from(error: DesiredError) -> Self {
        match error {
            DesiredError::NotFound { kind, .. } => {
                Self::NotFound(format!("{error}; {}", where_to_look(kind)))
            }
            DesiredError::Invalid(_) | DesiredError::Refused(_) => Self::NotApplicable(error.to_string()),
            DesiredError::Unavailable(detail) => Self::Unavailable(detail),
        }
    }
}

impl Cluster {
    async fn carry_out(&self, order: Order) -> Result<(), OrderError> {
        let by = Person { by: order.by.clone(), reason: order.reason.clone(), from: order.from.clone() };
        match order.on.clone() {
            Subject::Target(name) => self.on_target(&name, &order, &by).await,
            Subject::Workload(name) => self.on_workload(&name, None, &order, &by).await,
            Subject::Replica(name) => {
                let snapshot = self.shared.feed.current();
                let (workload, ordinal) = split(&snapshot, &name)?;
                self.on_workload(workload, Some(ordinal), &order, &by).await
            }
        }
    }

    async fn on_target(&self, name: &str, order: &Order, by: &Person) -> Result<(), OrderError> {
        let pause = match order.verb {
            Verb::Pause => Some(pause(None, order, by)),
            Verb::Resume => None,
            verb => {
                return Err(OrderError::NotApplicable(format!(
                    "{name} is a target: hale does not run it, so it can't {} it",
                    verb.as_str()
                )));
            }
        };
        if let Some((_, list)) = self.shared.live.list_of(name)
            && !self.shared.feed.current().targets.contains_key(name)
        {
            let verb = order.verb.as_str();
            return Err(OrderError::NotApplicable(format!(
                "{name} stands in the list of {list}: {verb} that one"
            )));
        }
        let edit =
            |it: &mut hale_model::cluster::TargetRecord| it.pauses = pause.clone().into_iter().collect();
        Ok(self.edit_target(name, order.verb.as_str(), by, edit).await?)
    }

    async fn on_workload(
        &self,
        name: &str,
        ordinal: Option<u32>,
        order: &Order,
        by: &Person,
    ) -> Result<(), OrderError> {
        let replicas = self.replicas(name)?;
        match order.verb {
            Verb::Restart => return self.restart(name, ordinal, order, replicas).await,
            Verb::Stop => {
                let intent = by.intent();
                self.edit_workload(name, Some("stop"), by, |it| {
                    stop(it, ordinal, &intent);
                    Ok(())
                })
                .await?;
            }
            Verb::Start => {
                let count = replicas.len() as u32;
                // What was given up is started by an order alone: whoever asked has put that on record.
                self.edit_workload(name, None, by, |it| {
                    start(it, ordinal, count);
                    Ok(())
                })
                .await?;
                self.start_failed(name, ordinal, order).await?;
            }
            Verb::Pause => {
                self.check_probe(name, order)?;
                let new = pause(ordinal, order, by);
                self.edit_workload(name, Some("pause"), by, |it| {
                    resume(it, ordinal, order);
                    it.pauses.push(new.clone());
                    Ok(())
                })
                .await?;
            }
            Verb::Resume => {
                self.edit_workload(name, Some("resume"), by, |it| {
                    resume(it, ordinal, order);
                    Ok(())
                })
                .await?;
            }
        }
        Ok(())
    }

    /// The numbers of a workload's replicas.
    fn replicas(&self, name: &str) -> Result<Vec<u32>, OrderError> {
        let snapshot = self.shared.feed.current();
        let unknown =
            || OrderError::NotFound(format!("no workload is named {name:?}: `hale status` lists them"));
        if !snapshot.workloads.contains_key(name) {
            return Err(unknown());
        }
        Ok((0..snapshot.specs.get(name).map_or(0, |it| it.replicas)).collect())
    }

    fn check_probe(&self, name: &str, order: &Order) -> Result<(), OrderError> {
        let snapshot = self.shared.feed.current();
        let (Some(probe), Some(spec)) = (order.probe, snapshot.specs.get(name)) else { return Ok(()) };
        let has = match probe {
            hale_model::ProbeKind::Startup => spec.startup.is_some(),
            hale_model::ProbeKind::Liveness => spec.liveness.is_some(),
            hale_model::ProbeKind::Readiness => spec.readiness.is_some(),
        };
        if has {
            Ok(())
        } else {
            Err(OrderError::NotApplicable(format!("{name} has no {} probe", probe.as_str())))
        }
    }

    fn node_order(&self, name: &str, ordinal: u32, order: &Order) -> Result<NodeOrder, OrderError> {
        let snapshot = self.shared.feed.current();
        let replica = format!("{name}-{ordinal}");
        let placement = placement_of(&snapshot, &replica)?
            .ok_or_else(|| OrderError::Unavailable(format!("{replica} is placed on no node")))?;
        let order = proto::Order {
            verb: order.verb.as_str().to_owned(),
            name: replica,
            by: order.by.clone(),
            reason: order.reason.clone(),
            probe: None,
            lasting_ms: None,
            generation: placement.generation,
        };
        Ok(NodeOrder { node: placement.node.clone(), order })
    }

    /// Replicas that were given up are started by an order: nothing that is wanted of them has changed.
    async fn start_failed(&self, name: &str, ordinal: Option<u32>, order: &Order) -> Result<(), OrderError> {
        let Some(status) = self.workload(name).await? else { return Ok(()) };
        for (number, replica) in status.replicas.iter().enumerate() {
            let number = number as u32;
            let stopped = matches!(replica.phase, Phase::Failed | Phase::Stopped);
            if stopped && ordinal.is_none_or(|it| it == number) {
                self.order_node(self.node_order(name, number, order)?).await?;
            }
        }
        Ok(())
    }

    /// One replica now; all of a workload one after the other, each waiting until the one before is ready again (C12).
    async fn restart(
        &self,
        name: &str,
        ordinal: Option<u32>,
        order: &Order,
        replicas: Vec<u32>,
    ) -> Result<(), OrderError> {
        if let Some(ordinal) = ordinal {
            return self.order_node(self.node_order(name, ordinal, order)?).await;
        }
        let Some((first, rest)) = replicas.split_first() else {
            return Err(OrderError::NotApplicable(format!("{name} has no replicas")));
        };
        let before = self.run_of(name, *first).await?;
        // Whoever asked hears of what goes wrong at once; the others are watched by whoever follows the operation.
        self.order_node(self.node_order(name, *first, order)?).await?;
        let (cluster, name, order, rest) = (self.clone(), name.to_owned(), order.clone(), rest.to_vec());
        let rolling = cluster.clone().roll(name, order, *first, before, rest);
        self.shared.tasks.spawn(async move { cluster.shared.end.clone().run_until_cancelled(rolling).await });
        Ok(())
    }

    #[expect(
        clippy::manual_async_fn,
        reason = "it is spawned from what it calls: its being Send must be said"
    )]
    fn roll(
        self,
        name: String,
        order: Order,
        first: u32,
        before: Run,
        rest: Vec<u32>,
    ) -> impl Future<Output = ()> + Send {
        async move {
            let (mut present, mut before) = (first, before);
            for next in rest {
                if !self.is_ready_again(&name, present, before).await {
                    tracing::warn!(
                        workload = name,
                        replica = present,
                        "a restart goes no further: it is not ready again"
                    );
                    return;
                }
                let again = async {
                    before = self.run_of(&name, next).await?;
                    self.order_node(self.node_order(&name, next, &order)?).await
                };
                if let Err(error) = again.await {
                    tracing::warn!(workload = name, replica = next, %error, "a restart goes no further");
                    return;
                }
                present = next;
            }
        }
    }

    async fn run_of(&self, name: &str, ordinal: u32) -> Result<Run, OrderError> {
        let status = self.workload(name).await?;
        let replica = format!("{name}-{ordinal}");
        let found = status.and_then(|it| it.replicas.into_iter().find(|it| it.name == replica));
        found
            .map(|it| Run::of(&it))
            .ok_or_else(|| OrderError::NotFound(format!("there is no {replica} any more")))
    }

    /// Waits until a replica runs in a newer instance and is ready, or has ended being done.
    async fn is_ready_again(&self, name: &str, ordinal: u32, before: Run) -> bool {
        let until = Instant::now() + self.progress_deadline(name);
        let (mut changes, mut endpoints) = (self.changes(), self.shared.registry.changes());
        let replica = format!("{name}-{ordinal}");
        loop {
            changes.mark_unchanged();
            endpoints.mark_unchanged();
            let Ok(Some(status)) = self.workload(name).await else { return false };
            let Some(it) = status.replicas.iter().find(|it| it.name == replica) else { return false };
            let done =
                it.phase == Phase::Stopped && it.last_exit.as_ref().is_some_and(|it| it.code == Some(0));
            if Run::of(it).is_after(&before) && (it.ready || done) {
                return true;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return false },
                changed = endpoints.changed() => if changed.is_err() { return false },
                () = sleep_until(until) => return false,
            }
        }
    }
}

fn pause(ordinal: Option<u32>, order: &Order, by: &Person) -> PauseRecord {
    let lasting = order.lasting.and_then(|it| SignedDuration::try_from(it).ok());
    PauseRecord {
        ordinal,
        probe: order.probe,
        until: lasting.and_then(|it| Timestamp::now().checked_add(it).ok()),
        intent: by.intent(),
    }
}

/// Takes pauses out: those of the same replica and probe, all of it when no probe is named; and what has run out.
fn resume(it: &mut WorkloadRecord, ordinal: Option<u32>, order: &Order) {
    let now = Timestamp::now();
    it.pauses.retain(|pause| {
        let meant = (ordinal.is_none() || pause.ordinal == ordinal)
            && (order.probe.is_none() || pause.probe == order.probe);
        !meant && pause.until.is_none_or(|until| until > now)
    });
}

fn stop(it: &mut WorkloadRecord, ordinal: Option<u32>, intent: &Intent) {
    match ordinal {
        None if it.stopped.is_none() => it.stopped = Some(intent.clone()),
        None => {}
        Some(ordinal) => drop(it.stopped_replicas.entry(ordinal).or_insert_with(|| intent.clone())),
    }
}

fn start(it: &mut WorkloadRecord, ordinal: Option<u32>, count: u32) {
    let Some(ordinal) = ordinal else {
        it.stopped = None;
        it.stopped_replicas = BTreeMap::new();
        return;
    };
    if let Some(intent) = it.stopped.take() {
        // The others stay as they are.
        for other in 0..count {
            it.stopped_replicas.entry(other).or_insert_with(|| intent.clone());
        }
    }
    it.stopped_replicas.remove(&ordinal);
}
