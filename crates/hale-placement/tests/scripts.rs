//! What is decided in small clusters, as text: a script in, what was done out.

mod world;

macro_rules! scripts {
    ($($name:ident: $script:literal;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(world::script::run($script));
        })*
    };
}

scripts! {
    replicas_are_spread_over_zones_and_nodes: "
        node n1 zone=a
        node n2 zone=a
        node n3 zone=b
        apply name: web, replicas: 4
        advance 2s
        show
        explain web-0
    ";
    a_lost_node_is_replaced_after_its_time_and_the_old_one_ends_when_it_comes_back: "
        node n1
        node n2
        node n3
        apply name: web, replicas: 3
        advance 5s
        cut n1
        advance 40s
        show
        running
        heal n1
        advance 1s
        show
        running
    ";
    a_node_that_comes_back_before_the_replacement_is_ready_keeps_its_replica: "
        node n1
        node n2
        apply name: web, replicas: 1
        advance 20s
        behave web n2 hangs
        cut n1
        advance 32s
        heal n1
        advance 5s
        show
        running
    ";
    with_stop_after_nothing_is_placed_before_the_old_one_has_ended_for_certain: "
        node n1
        node n2
        apply name: one, replicas: 1, disconnect: {stopAfter: 20s}, terminationGracePeriodSeconds: 10
        advance 5s
        show
        cut n1
        advance 30s
        explain one-0
        advance 20s
        running
        heal n1
        advance 10s
        running
        show
    ";
    most_nodes_silent_at_once_moves_nothing: "
        node n1
        node n2
        node n3
        apply name: web, replicas: 3
        advance 20s
        cut n1 n2
        advance 2m
        show
        heal n1
        advance 1m
        show
    ";
    a_failed_replica_moves_at_once_then_waits_longer_each_time: "
        node n1
        node n2
        node n3
        apply name: web, replicas: 2
        advance 5s
        behave web * fails
        advance 5m
        behave web * good
        advance 2m
        show
    ";
    the_only_node_keeps_what_fails_and_says_so: "
        node n1
        apply name: web, replicas: 1
        advance 5s
        behave web n1 fails
        advance 2m
        explain web-0
        behave web n1 good
        advance 5s
        show
    ";
    one_that_does_not_come_up_moves_after_its_progress_deadline: "
        node n1
        node n2
        behave web n1 hangs
        behave web n2 hangs
        apply name: web, replicas: 1, rollout: {progressDeadline: 30s}
        advance 35s
        behave web * good
        advance 35s
        show
    ";
    an_update_goes_replica_by_replica: "
        node n1
        node n2
        apply name: web, replicas: 3
        advance 5s
        apply name: web, replicas: 3, resources: {memory: 64Mi}, rollout: {minReadySeconds: 3}
        advance 30s
        show
    ";
    an_update_that_never_comes_up_is_taken_back: "
        node n1
        node n2
        apply name: web, replicas: 2
        advance 5s
        behave web * hangs
        apply name: web, replicas: 2, resources: {memory: 64Mi}, rollout: {progressDeadline: 20s}
        advance 25s
        show
    ";
    an_update_with_a_fixed_port_on_the_only_node_takes_the_old_one_first: "
        node n1
        apply name: web, replicas: 1, ports: [{name: http, port: 8080}]
        advance 5s
        apply name: web, replicas: 1, ports: [{name: http, port: 8080}], resources: {memory: 64Mi}
        advance 5s
        show
    ";
    what_needs_no_new_instance_goes_on_where_it_is: "
        node n1
        node n2
        apply name: web, replicas: 2
        advance 5s
        apply name: web, replicas: 3, minAvailable: 1
        advance 5s
        show
    ";
    a_drained_node_gives_its_replicas_away_without_a_gap: "
        node n1
        node n2
        apply name: web, replicas: 3
        apply name: db, replicas: 1
        advance 5s
        drain n1
        advance 10s
        show
        uncordon n1
        advance 5s
    ";
    scaling_down_takes_the_highest_ordinals_and_deleting_takes_all: "
        node n1
        node n2
        apply name: web, replicas: 3
        advance 5s
        apply name: web, replicas: 1
        advance 5s
        show
        delete web
        advance 5s
        show
    ";
    what_a_person_stopped_stays_where_it_is: "
        node n1
        node n2
        node n3
        apply name: web, replicas: 2
        advance 5s
        stop web
        advance 2s
        cut n1
        advance 1m
        show
        start web
        advance 15s
        show
    ";
    what_no_node_knows_is_placed_nowhere_until_one_does: "
        node n1 without=minAvailable
        node n2
        cordon n2
        apply name: web, replicas: 1, minAvailable: 0
        advance 5s
        explain web-0
        uncordon n2
        advance 3s
        show
    ";
    a_node_selector_keeps_replicas_to_nodes_with_these_labels: "
        node n1
        node n2 label=ssd
        apply name: web, replicas: 2, placement: {nodeSelector: {ssd: yes}}
        advance 2s
        show
        explain web-0
    ";
    a_fixed_port_is_given_once_per_node: "
        node n1
        node n2
        apply name: a, replicas: 3, ports: [{name: http, port: 8080}]
        advance 3s
        show
        node n3
        advance 3s
        show
    ";
    requests_never_exceed_what_a_node_has: "
        node n1 cpu=2 memory=1000000000
        node n2 cpu=1
        apply name: a, replicas: 4, resources: {cpu: 1}
        advance 3s
        show
    ";
    a_takeover_waits_before_it_judges_and_moves_nothing_that_is_well: "
        node n1
        node n2
        node n3
        apply name: web, replicas: 3
        advance 5s
        cut n2
        advance 12s
        takeover
        heal n1
        heal n3
        advance 14s
        advance 20s
        show
    ";
    targets_are_shared_out_and_move_only_when_they_must: "
        node n1
        node n2
        node n3
        target t1
        target t2
        target t3
        target t4
        advance 2s
        cut n1
        advance 20s
        drain n2
        advance 2s
    ";
    a_deleted_node_is_believed_to_be_gone: "
        node n1
        node n2
        apply name: web, replicas: 2
        advance 5s
        remove n1
        advance 5s
        show
    ";
    a_dependency_that_is_down_moves_nobody: "
        node n1
        node n2
        apply name: db, replicas: 1
        behave db * hangs
        behave web * hangs
        apply name: web, replicas: 1, dependsOn: [db], rollout: {progressDeadline: 20s}
        advance 2m
        show
    ";
    containers_run_only_where_an_engine_answers: "
        node n1
        node n2
        node n3
        containers name: web, replicas: 2
        advance 1s
        explain web-0
        engine n1 answers
        engine n3 answers
        advance 3s
        show
        engine n1 silent
        advance 3s
        show
        kill n3
        advance 40s
        show
        explain web-1
    ";
    a_published_port_is_taken_once_on_a_node_and_one_inside_is_not: "
        node n1
        engine n1 answers
        containers name: inside, replicas: 2, ports: [{name: http, port: 80}]
        containers name: any, replicas: 2, ports: [{name: http, port: 80, hostPort: 0}]
        containers name: fixed, replicas: 2, ports: [{name: http, port: 80, hostPort: 8080}]
        advance 5s
        show
        explain fixed-1
    ";
}
