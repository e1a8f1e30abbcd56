use proptest::prelude::*;

use super::*;

fn replica(generation: u64, phase: &str, ready: bool) -> proto::Replica {
    proto::Replica {
        generation,
        workload: "web".into(),
        ordinal: u32::try_from(generation).unwrap(),
        phase: phase.into(),
        ready,
        ..proto::Replica::default()
    }
}

fn probe(last: i64, failures: u32) -> proto::Probe {
    proto::Probe {
        kind: "liveness".into(),
        last_outcome_at: Some(last),
        consecutive_failures: failures,
        ..proto::Probe::default()
    }
}

#[test]
fn what_changes_with_every_check_is_no_change_and_goes_along_with_one() {
    let mut tracker = Tracker::new(0);
    let first = proto::Replica { probes: vec![probe(1, 0)], ..replica(1, "running", true) };
    assert_eq!(tracker.observe(first.clone()), Change::Urgent);
    assert_eq!(tracker.delta(1, 10).replicas.len(), 1);
    let checked = proto::Replica { probes: vec![probe(2, 0)], ..first.clone() };
    assert_eq!(tracker.observe(checked), Change::None);
    assert!(tracker.delta(2, 10).is_empty());
    let failed = proto::Replica { probes: vec![probe(3, 1)], ..first.clone() };
    assert_eq!(tracker.observe(failed), Change::Quiet, "it waits for the beat");
    let told = tracker.delta(3, 10).replicas;
    assert_eq!((told[0].version, told[0].probes[0].last_outcome_at), (2, Some(3)));
    let out = proto::Replica { ready: false, ..first };
    assert_eq!(tracker.observe(out), Change::Urgent);
}

#[test]
fn a_time_that_is_worked_out_anew_is_the_same_moment() {
    let mut tracker = Tracker::new(0);
    let first = proto::Replica { started_at: Some(5_000_000), ..replica(1, "running", true) };
    tracker.observe(first.clone());
    let again = proto::Replica { started_at: Some(5_000_003), ..first };
    assert_eq!(tracker.observe(again.clone()), Change::None);
    assert_eq!(tracker.replica(1).unwrap().started_at, Some(5_000_000));
    assert_eq!(tracker.observe(proto::Replica { started_at: Some(9_000_000), ..again }), Change::Quiet);
}

#[test]
fn what_is_not_durable_is_told_again_over_the_next_connection() {
    let mut tracker = Tracker::new(0);
    tracker.observe(replica(1, "running", true));
    tracker.observe(replica(2, "running", true));
    assert_eq!(tracker.delta(1, 1).replicas.len(), 1);
    assert_eq!(tracker.delta(2, 10).replicas.len(), 1);
    tracker.observe_gone(3);
    assert_eq!(tracker.delta(3, 10).gone, [3]);
    tracker.durable(1);
    tracker.reconnected();
    let again = tracker.delta(1, 10);
    assert_eq!(again.replicas.iter().map(|it| it.generation).collect::<Vec<_>>(), [2]);
    assert_eq!(again.gone, [3]);
    tracker.durable(1);
    tracker.reconnected();
    assert!(tracker.delta(1, 10).is_empty());
}

#[test]
fn a_change_after_it_was_sent_is_not_taken_for_durable_with_it() {
    let mut tracker = Tracker::new(0);
    tracker.observe(replica(1, "running", false));
    tracker.delta(1, 10);
    tracker.observe(replica(1, "running", true));
    tracker.durable(1);
    assert!(tracker.has_news());
    assert!(tracker.delta(2, 10).replicas[0].ready);
}

#[test]
fn a_replica_whose_version_the_server_finds_stale_is_told_far_beyond_it() {
    let mut tracker = Tracker::new(5);
    tracker.observe(replica(1, "running", true));
    tracker.delta(1, 10);
    tracker.leap(1);
    assert!(tracker.delta(2, 10).replicas[0].version > LEAP);
}

/// What a server makes of beats.
#[derive(Default)]
struct Server {
    replicas: BTreeMap<u64, proto::Replica>,
    targets: BTreeMap<String, proto::Target>,
}

impl Server {
    fn take(&mut self, full: bool, delta: Delta) {
        if full {
            self.replicas.clear();
            self.targets.clear();
        }
        for it in delta.replicas {
            if self.replicas.get(&it.generation).is_none_or(|known| known.version <= it.version) {
                self.replicas.insert(it.generation, it);
            }
        }
        delta.gone.iter().for_each(|it| drop(self.replicas.remove(it)));
        self.targets.extend(delta.targets.into_iter().map(|it| (it.name.clone(), it)));
        delta.gone_targets.iter().for_each(|it| drop(self.targets.remove(it)));
    }

    fn digest(&self) -> [u8; 32] {
        wire::digest(self.replicas.values().map(|it| (it.generation, it.version)), self.targets.values())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Observe(u64, bool, u32),
    Gone(u64),
    Targets(Vec<(u8, bool)>),
    /// A beat; whether it arrives, and whether its acknowledgement does.
    Beat(bool, bool),
    Full,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6u64, any::<bool>(), 0..3u32).prop_map(|(g, ready, n)| Step::Observe(g, ready, n)),
        1 => (1..6u64).prop_map(Step::Gone),
        1 => proptest::collection::vec((0..4u8, any::<bool>()), 0..4).prop_map(Step::Targets),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(arrives, acked)| Step::Beat(arrives, acked)),
        1 => Just(Step::Full),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// Whatever is lost on the way, after a reconnection and one beat the server knows what the agent knows.
    #[test]
    fn a_server_that_applies_beats_knows_what_the_agent_knows(
        steps in proptest::collection::vec(step(), 0..60),
        limit in 1..4usize,
    ) {
        let (mut tracker, mut server) = (Tracker::new(0), Server::default());
        let (mut sequence, mut connected) = (0, true);
        for step in steps {
            match step {
                Step::Observe(generation, ready, failures) => {
                    let probes = vec![probe(0, failures)];
                    tracker.observe(proto::Replica { probes, ..replica(generation, "running", ready) });
                }
                Step::Gone(generation) => tracker.observe_gone(generation),
                Step::Targets(targets) => {
                    let status = |ok: bool| if ok { "healthy" } else { "failing" };
                    let targets: BTreeMap<u8, bool> = targets.into_iter().collect();
                    let targets = targets.into_iter().map(|(name, ok)| proto::Target {
                        name: name.to_string(), status: status(ok).into(), ..proto::Target::default()
                    });
                    tracker.observe_targets(targets.collect());
                }
                // A stream does not lose a message and go on: what did not arrive ends it.
                Step::Beat(arrives, acked) if connected => {
                    sequence += 1;
                    let delta = tracker.delta(sequence, limit);
                    connected = arrives;
                    if arrives {
                        server.take(false, delta);
                        if acked { tracker.durable(sequence) }
                    }
                }
                Step::Full if connected => {
                    sequence += 1;
                    server.take(true, tracker.full(sequence));
                    tracker.durable(sequence);
                }
                Step::Reconnect => {
                    tracker.reconnected();
                    (sequence, connected) = (0, true);
                }
                Step::Beat(..) | Step::Full => {}
            }
        }
        tracker.reconnected();
        sequence = 0;
        while tracker.has_news() {
            sequence += 1;
            server.take(false, tracker.delta(sequence, limit));
            prop_assert!(sequence < 100);
        }
        let known: Vec<u64> = server.replicas.keys().copied().collect();
        prop_assert_eq!(known, tracker.generations().collect::<Vec<_>>());
        for it in server.replicas.values() {
            prop_assert_eq!(Some(it), tracker.replica(it.generation));
        }
        prop_assert_eq!(server.digest(), tracker.digest());
    }
}

#[test]
fn a_full_beat_of_very_many_failing_targets_fits_into_one_message() {
    let mut tracker = Tracker::new(0);
    let target = |n: u32| proto::Target {
        name: format!("a-target-with-a-usual-name-{n}"),
        status: "failing".into(),
        last_reason: Some("connection_refused".into()),
        last_detail: Some("ü".repeat(512)),
        ..proto::Target::default()
    };
    tracker.observe_targets((0..100_000).map(target).collect());
    let beat = proto::Beat { targets: tracker.full(1).targets, ..proto::Beat::default() };
    let bytes = prost::Message::encoded_len(&beat);
    assert!(beat.targets.len() == 100_000 && bytes < 32 * 1024 * 1024, "{bytes}");
    tracker.observe_targets((0..100).map(target).collect());
    let short =
        tracker.full(2).targets.iter().filter(|it| it.last_detail.as_ref().unwrap().len() < 1024).count();
    assert_eq!(short, 0, "few of them are told in full");
}
