use super::*;
use crate::*;

#[test]
fn a_replica_without_probes_is_running_and_ready_as_soon_as_it_is_spawned() {
    let mut out = Vec::new();
    let mut web = Workload::new(WorkloadPolicy::default(), ReplicaPolicy::default(), 1);
    web.set_replicas(Time::ZERO, 1, &mut out);
    assert!(out.iter().any(|(_, it)| matches!(it, Decision::Spawn { incarnation: Incarnation(1), .. })));
    out.clear();
    web.handle(Time::from_secs(1), 0, Input::Spawned { incarnation: Incarnation(1) }, &mut out).unwrap();
    let it = web.replica(0).unwrap();
    assert_eq!(
        (it.phase(), it.ready(), it.status(Time::from_secs(1))),
        (Phase::Running, true, Status::Healthy)
    );
}
