//! What holds whatever happens.

use hale_model::spec::{Overflow, ResponderLimits};
use proptest::prelude::*;

use super::world::{CLUSTERS, FAULTS, Step, World};
use crate::exec::How;

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::Exited(0)),
        3 => Just(How::Exited(1)),
        1 => Just(How::TimedOut),
        1 => Just(How::Signal(9)),
        1 => Just(How::Interrupted),
        1 => Just(How::NoArtifact("none".to_owned())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..CLUSTERS, 0..FAULTS.len(), 0u8..12)
            .prop_map(|(cluster, fault, name)| Step::Hear { cluster, fault, name }),
        8 => (any::<usize>(), how(), proptest::option::of(0.0..2.0))
            .prop_map(|(which, how, cost)| Step::End { which, how, cost }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, ok)| Step::Send { which, ok }),
        2 => (0..CLUSTERS, 0u8..12).prop_map(|(cluster, name)| Step::Recover { cluster, name }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, yes)| Step::Decide { which, yes }),
        3 => (0u64..90).prop_map(Step::Pass),
        1 => (90u64..900).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

fn limits() -> impl Strategy<Value = ResponderLimits> {
    let overflow = prop_oneof![Just(Overflow::DropOldest), Just(Overflow::Reject)];
    (1u32..5, 1u32..3, 1u32..4, 1u32..8, overflow, proptest::option::of(1u32..8), 1u32..4).prop_map(
        |(most, per_cluster, size, global, overflow, runs_per_hour, failures)| ResponderLimits {
            max_concurrent_runs: most,
            max_per_cluster: per_cluster,
            queue_size: size,
            global_queue_size: global,
            overflow,
            runs_per_hour,
            failure_breaker: failures,
            ..ResponderLimits::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bounds hold; no run is started twice or leaves its end; no cluster is passed over twice; nothing but escalations
    /// and one probe starts while the breaker is not closed; the budget is kept, over restarts too.
    #[test]
    fn the_promises_hold_whatever_happens(
        limits in limits(), steps in proptest::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(limits);
        for step in steps {
            world.step(step);
        }
    }

    #[test]
    fn the_same_happens_again_if_the_same_happens_again(
        limits in limits(), steps in proptest::collection::vec(step(), 1..80),
    ) {
        let logs = [(); 2].map(|()| {
            let mut world = World::new(limits.clone());
            steps.iter().cloned().for_each(|it| world.step(it));
            world.log
        });
        prop_assert_eq!(&logs[0], &logs[1]);
    }
}
