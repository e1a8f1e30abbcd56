//! The stream of one gateway (S13, S24): all services first, then each that changes; and who is drained (H18).
//!
//! A gateway that is slow is told the newest of each service when it reads again, not all that was between. What it
//! says is drained is put together with what the others say: an agent is told once no gateway sends requests to the
//! instance any more. One that went away without a word may still send some: it counts for a while as if it did. With
//! other servers alive, whose gateways are not known here, nothing is said, and the agent waits out its drain time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hale_api::{
    endpoints::{Endpoint, EndpointSet},
    proto::{
        self, GatewayMessage, RegistryMessage, gateway_message::Message as FromGateway,
        registry_message::Message as ToGateway,
    },
};
use hale_health::Time;
use hale_model::spec::{Balance, Protocol, Service};
use tokio::{sync::mpsc, time::sleep};
use tonic::{Status, Streaming};

use super::{Shared, clock, seen::Seen, seen::micros};
use crate::auth::Caller;

/// Messages that wait for the gateway to read them; what changes meanwhile is told when there is room.
const OUTGOING: usize = 16;

/// What says that the connection lives when nothing changes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// For so long a gateway that went away may still send requests by what it knew.
const AWAY: Duration = Duration::from_secs(30);

/// An instance: generation and incarnation.
type Run = (u64, u64);

/// The gateways of this server, and the instances that wait to be drained.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    connected: HashMap<u64, Gateway>,
    /// By name, since when.
    away: HashMap<String, Time>,
    draining: BTreeMap<Run, Draining>,
}

#[derive(Debug)]
struct Gateway {
    name: String,
    /// Instances that it was told of as ones to send requests to.
    told: BTreeSet<Run>,
    /// Of those: that get none from it any more.
    quiet: BTreeSet<Run>,
}

impl Gateway {
    /// Forgets instances that are not there any more.
    fn forget(&mut self, gone: RangeInclusive<Run>) {
        for runs in [&mut self.told, &mut self.quiet] {
            let gone: Vec<Run> = runs.range(gone.clone()).copied().collect();
            for run in gone {
                runs.remove(&run);
            }
        }
    }
}

#[derive(Debug)]
struct Draining {
    node: String,
    replica: String,
}

impl Inner {
    fn forget_draining(&mut self, generation: u64) {
        if !self.draining.is_empty() {
            self.draining.retain(|(it, _), _| *it != generation);
        }
    }
}

impl Gateways {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are connected here.
    pub(crate) fn len(&self) -> usize {
        self.lock().connected.len()
    }

    fn join(&self, name: &str) -> u64 {
        let mut inner = self.lock();
        inner.last += 1;
        let id = inner.last;
        let now = clock::now();
        inner.away.retain(|away, since| away != name && now.since(*since) < AWAY);
        let gateway = Gateway { name: name.to_owned(), told: BTreeSet::new(), quiet: BTreeSet::new() };
        inner.connected.insert(id, gateway);
        id
    }

    fn leave(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(gateway) = inner.connected.remove(&id) {
            inner.away.insert(gateway.name, clock::now());
        }
    }

    /// A gateway is about to be told of these endpoints.
    fn tell(&self, id: u64, set: &EndpointSet) {
        let mut inner = self.lock();
        let Some(gateway) = inner.connected.get_mut(&id) else { return };
        for it in set.ready() {
            let run = (it.generation, it.incarnation);
            gateway.told.insert(run);
            gateway.quiet.remove(&run);
        }
    }

    fn quiet(&self, id: u64, quiet: &[proto::Quiet]) {
        let mut inner = self.lock();
        let Some(gateway) = inner.connected.get_mut(&id) else { return };
        for it in quiet {
            let run = (it.generation, it.incarnation);
            // What it was never told of needs no word of it; so nothing it makes up is kept.
            if gateway.told.contains(&run) {
                gateway.quiet.insert(run);
            }
        }
    }

    /// An instance is on its way out, or it is not. Those before it under the same number are no more.
    fn draining(&self, node: &str, seen: &Seen) {
        let (generation, incarnation) = (seen.generation, seen.status.incarnation);
        let mut inner = self.lock();
        if let Some(before) = incarnation.checked_sub(1) {
            for gateway in inner.connected.values_mut() {
                gateway.forget((generation, 0)..=(generation, before));
            }
        }
        if seen.draining && seen.serving {
            let draining = || Draining { node: node.to_owned(), replica: seen.status.name.clone() };
            inner.draining.entry((generation, incarnation)).or_insert_with(draining);
        } else {
            inner.forget_draining(generation);
        }
    }

    /// The instances of a number are gone.
    fn gone(&self, generation: u64) {
        let mut inner = self.lock();
        for gateway in inner.connected.values_mut() {
            gateway.forget((generation, 0)..=(generation, u64::MAX));
        }
        inner.forget_draining(generation);
    }

    /// Instances that nobody sends requests to any more, each once.
    fn drained(&self) -> Vec<(Run, Draining)> {
        let mut inner = self.lock();
        let now = clock::now();
        inner.away.retain(|_, since| now.since(*since) < AWAY);
        if inner.connected.is_empty() || !inner.away.is_empty() {
            return Vec::new();
        }
        let Inner { connected, draining, .. } = &mut *inner;
        let done = |run: &Run| connected.values().all(|it| !it.told.contains(run) || it.quiet.contains(run));
        let runs: Vec<Run> = draining.keys().filter(|run| done(run)).copied().collect();
        let drained: Vec<(Run, Draining)> =
            runs.into_iter().filter_map(|run| Some((run, draining.remove(&run)?))).collect();
        for gateway in connected.values_mut() {
            for (run, _) in &drained {
                gateway.told.remove(run);
                gateway.quiet.remove(run);
            }
        }
        drained
    }
}

impl Shared {
    /// An instance is on its way out, or it is not.
    pub(crate) fn draining(&self, node: &str, seen: &Seen) {
        self.gateways.draining(node, seen);
    }

    /// An instance is gone.
    pub(crate) fn drained_away(&self, generation: u64) {
        self.gateways.gone(generation);
    }

    /// Tells agents who is drained.
    fn tell_drained(&self) {
        if self.alive.borrow().others(&self.name) {
            return;
        }
        for ((generation, incarnation), it) in self.gateways.drained() {
            if let Some(session) = self.sessions.get(&it.node) {
                session.drained(proto::Drained { replica: it.replica, generation, incarnation });
            }
        }
    }
}

/// Begins the stream of a gateway; what it is told comes out of the receiver.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    subscribe: proto::Subscribe,
    caller: Caller,
    mut inbound: Streaming<GatewayMessage>,
) -> mpsc::Receiver<Result<RegistryMessage, Status>> {
    let (sender, receiver) = mpsc::channel(OUTGOING);
    let id = shared.gateways.join(&subscribe.name);
    tracing::info!(gateway = subscribe.name, version = subscribe.version, "a gateway has connected");
    let (tasks, shared) = (shared.tasks.clone(), Arc::clone(shared));
    tasks.spawn(async move {
        let name = subscribe.name.clone();
        let telling = Telling { shared: &shared, id, services: subscribe.services, told: BTreeMap::new(), sender };
        let hearing = async {
            while let Ok(Some(message)) = inbound.message().await {
                if let Some(FromGateway::Applied(applied)) = message.message {
                    shared.gateways.quiet(id, &applied.quiet);
                    shared.tell_drained();
                }
            }
        };
        tokio::select! {
            () = telling.run() => {}
            () = hearing => {}
            () = shared.tokens.ended(&caller) => tracing::info!(gateway = name, "a gateway's token is taken no longer"),
            () = shared.end.cancelled() => {}
        }
        shared.gateways.leave(id);
        tracing::info!(gateway = name, "a gateway has gone");
    });
    receiver
}

/// Tells one gateway.
struct Telling<'a> {
    shared: &'a Shared,
    id: u64,
    /// Empty: all.
    services: Vec<String>,
    /// By service: what it was told last.
    told: BTreeMap<String, (u64, Service)>,
    sender: mpsc::Sender<Result<RegistryMessage, Status>>,
}

impl Telling<'_> {
    /// Until the gateway has gone.
    async fn run(mut self) {
        let mut changes = self.shared.registry.changes();
        changes.mark_unchanged();
        let services = self.wanted().into_iter().filter_map(|name| self.news(&name)).collect();
        if !self.send(ToGateway::Snapshot(proto::Snapshot { services })).await {
            return;
        }
        loop {
            // What changes from here on wakes us again.
            changes.mark_unchanged();
            let wanted = self.wanted();
            let gone: Vec<String> = self.told.keys().filter(|it| !wanted.contains(it)).cloned().collect();
            for name in gone {
                self.told.remove(&name);
                if !self.send(ToGateway::Gone(name)).await {
                    return;
                }
            }
            for name in wanted {
                if let Some(service) = self.news(&name)
                    && !self.send(ToGateway::Service(service)).await
                {
                    return;
                }
            }
            self.shared.tell_drained();
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(KEEP_ALIVE) => if !self.send(ToGateway::KeepAlive(proto::KeepAlive {})).await {
                    return;
                },
            }
        }
    }

    async fn send(&self, message: ToGateway) -> bool {
        self.sender.send(Ok(RegistryMessage { message: Some(message) })).await.is_ok()
    }

    fn wanted(&self) -> Vec<String> {
        let mut names = self.shared.registry.services();
        if !self.services.is_empty() {
            names.retain(|it| self.services.contains(it));
        }
        names
    }

    /// A service as it is to be told; `None` when it was told so already.
    fn news(&mut self, name: &str) -> Option<proto::Service> {
        let set = self.shared.registry.endpoints(name)?;
        let declared = self.shared.registry.declared(name)?;
        if self.told.get(name).is_some_and(|(revision, it)| *revision == set.revision && *it == declared) {
            return None;
        }
        self.shared.gateways.tell(self.id, &set);
        let service = service(&set, &declared);
        self.told.insert(name.to_owned(), (set.revision, declared));
        Some(service)
    }
}

fn service(set: &EndpointSet, declared: &Service) -> proto::Service {
    proto::Service {
        name: set.service.clone(),
        revision: set.revision,
        listen: declared.listen.map(|it| it.to_string()).unwrap_or_default(),
        balance: match set.balance {
            Balance::LeastRequest => "least-request",
            Balance::RoundRobin => "round-robin",
        }
        .to_owned(),
        protocol: match declared.protocol {
            Protocol::Http => "http",
        }
        .to_owned(),
        none_ready_since: set.none_ready_since.map(micros),
        endpoints: set.endpoints.iter().map(endpoint).collect(),
        traceparent: set.traceparent.clone().unwrap_or_default(),
    }
}

fn endpoint(it: &Endpoint) -> proto::Endpoint {
    proto::Endpoint {
        replica: it.replica.clone(),
        node: it.node.clone(),
        address: it.address.to_string(),
        port: u32::from(it.port),
        weight: it.weight,
        zone: it.zone.clone(),
        ready: it.ready,
        kept: it.kept.clone(),
        serving: it.serving,
        draining: it.draining,
        generation: it.generation,
        incarnation: it.incarnation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(run: Run) -> EndpointSet {
        let endpoint = Endpoint {
            replica: "web-0".to_owned(),
            node: "n1".to_owned(),
            address: [127, 0, 0, 1].into(),
            port: 80,
            weight: 1,
            zone: None,
            ready: true,
            kept: None,
            serving: true,
            draining: false,
            generation: run.0,
            incarnation: run.1,
        };
        EndpointSet {
            service: "web".to_owned(),
            revision: 1,
            balance: Balance::RoundRobin,
            none_ready_since: None,
            endpoints: vec![endpoint],
            traceparent: None,
        }
    }

    fn seen((generation, incarnation): Run, draining: bool) -> Seen {
        let replica = proto::Replica {
            workload: "web".to_owned(),
            status: "healthy".to_owned(),
            phase: "running".to_owned(),
            serving: true,
            draining,
            generation,
            incarnation,
            ..Default::default()
        };
        Seen::read(replica, "n1", jiff::Timestamp::UNIX_EPOCH).unwrap()
    }

    fn known(gateways: &Gateways, id: u64) -> (Vec<Run>, Vec<Run>) {
        let inner = gateways.lock();
        let gateway = &inner.connected[&id];
        (gateway.told.iter().copied().collect(), gateway.quiet.iter().copied().collect())
    }

    #[test]
    fn what_a_gateway_was_told_of_is_forgotten_with_the_instance() {
        let gateways = Gateways::default();
        let id = gateways.join("g");
        for run in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            gateways.tell(id, &set(run));
        }
        let quiet =
            |(generation, incarnation)| proto::Quiet { replica: "web-0".to_owned(), generation, incarnation };
        gateways.quiet(id, &[quiet((1, 1)), quiet((2, 1))]);
        gateways.draining("n1", &seen((1, 3), false));
        assert_eq!(known(&gateways, id), (vec![(1, 3), (2, 1)], vec![(2, 1)]));
        gateways.gone(2);
        assert_eq!(known(&gateways, id), (vec![(1, 3)], vec![]));

        // One that still drains is waited for.
        gateways.draining("n1", &seen((1, 3), true));
        assert!(gateways.drained().is_empty());
        gateways.quiet(id, &[quiet((1, 3))]);
        assert_eq!(gateways.drained().len(), 1);
        assert_eq!(known(&gateways, id), (vec![], vec![]));
    }
}
