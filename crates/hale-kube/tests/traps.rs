//! One thing at a time: objects made up, or recorded ones with a word changed.

use hale_kube::judge::{Settings, Verdict, World};
use hale_model::Status::{self, Degraded, Failing, Healthy, Unknown};
use jiff::Timestamp;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T12:00:00Z";

fn judge(objects: &[Value]) -> Vec<Verdict> {
    let mut world = World::default();
    for object in objects {
        world.add(None, None, object);
    }
    world.judge(NOW.parse().expect("a time"), &Settings::default())
}

/// So many seconds before now.
fn ago(seconds: i64) -> String {
    let now: Timestamp = NOW.parse().expect("a time");
    (now - jiff::SignedDuration::from_secs(seconds)).to_string()
}

/// The one workload that there is: status, conditions.
fn verdict(objects: &[Value]) -> (Status, Vec<String>) {
    let mut verdicts = judge(objects);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    let it = verdicts.remove(0);
    (it.status, it.conditions)
}

fn of(status: Status, conditions: &[&str]) -> (Status, Vec<String>) {
    (status, conditions.iter().map(|it| (*it).to_owned()).collect())
}

fn owner(kind: &str, name: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-{name}"), "controller": true}])
}

/// An hour old, rolled out, and so many wanted and counted as ready.
fn deployment(wanted: u32, ready: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "uid-web", "generation": 1,
            "creationTimestamp": ago(3600)},
        "spec": {"replicas": wanted, "progressDeadlineSeconds": 600},
        "status": {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready,
            "availableReplicas": ready, "conditions": [
            {"type": "Available", "status": if ready >= wanted {"True"} else {"False"}, "lastTransitionTime": ago(60)},
            {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                "lastTransitionTime": ago(3600), "lastUpdateTime": ago(3590)}]}})
}

fn replica_set(wanted: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "web-1", "namespace": "shop", "uid": "uid-web-1", "creationTimestamp": ago(3600),
            "ownerReferences": owner("Deployment", "web")},
        "spec": {"replicas": wanted}, "status": {"replicas": wanted}})
}

/// Placed and begun that long ago, its container in that state since.
fn pod(name: &str, age: i64, ready: bool, state: &Value) -> Value {
    let word = if ready { "True" } else { "False" };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "creationTimestamp": ago(age),
            "ownerReferences": owner("ReplicaSet", "web-1")},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "startTime": ago(age), "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(age)},
            {"type": "Ready", "status": word, "lastTransitionTime": ago(age)},
            {"type": "ContainersReady", "status": word, "lastTransitionTime": ago(age)}],
            "containerStatuses": [{"name": "c", "ready": ready, "started": true, "restartCount": 0, "state": state}]}})
}

fn running(age: i64) -> Value {
    json!({"running": {"startedAt": ago(age)}})
}

fn event(name: &str, reason: &str, about: &Value, message: &str, count: u32, age: i64) -> Value {
    json!({"apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message, "count": count,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
        "firstTimestamp": ago(age), "lastTimestamp": ago(age), "involvedObject": {
            "kind": about["kind"], "namespace": "shop", "name": about["metadata"]["name"],
            "uid": about["metadata"]["uid"], "fieldPath": "spec.containers{c}"}})
}

#[test]
fn a_deployment_that_is_still_counted_ready_is_not_when_its_pods_have_exited() {
    let exited =
        json!({"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": ago(0), "startedAt": ago(1)}});
    // Even the pod's own condition lags behind.
    for ready in [true, false] {
        let objects = [deployment(1, 1), replica_set(1), pod("a", 2, ready, &exited)];
        assert_eq!(verdict(&objects), of(Failing, &["Error"]));
    }
}

#[test]
fn ready_and_rolled_out_is_healthy_and_half_of_it_is_degraded() {
    let (up, down) = (pod("a", 600, true, &running(600)), pod("b", 600, true, &running(600)));
    assert_eq!(verdict(&[deployment(2, 2), replica_set(2), up.clone(), down]), of(Healthy, &[]));
    assert_eq!(verdict(&[deployment(2, 1), replica_set(2), up]), of(Degraded, &[]));
    assert_eq!(verdict(&[deployment(2, 2), replica_set(2)]), of(Healthy, &[]), "nothing is known of pods");
}

#[test]
fn pods_that_should_be_there_and_are_not_are_a_failure() {
    let mut other = pod("other", 600, true, &running(600));
    other["metadata"]["ownerReferences"] = json!([]);
    let verdicts = judge(&[deployment(2, 2), replica_set(2), other]);
    assert_eq!((verdicts[1].name.as_str(), verdicts[1].status), ("web", Failing));
    assert!(verdicts[1].reasons.iter().any(|it| it.contains("none of its 2 pods is there")), "{verdicts:?}");
}

#[test]
fn names_say_nothing_of_who_belongs_to_whom() {
    let mut stranger = pod("web-1-abc", 600, false, &json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    stranger["metadata"]["ownerReferences"][0]["uid"] = json!("uid-of-one-before");
    let ready = pod("a", 600, true, &running(600));
    assert_eq!(verdict(&[deployment(1, 1), replica_set(1), ready, stranger]), of(Healthy, &[]));
}

#[test]
fn an_evicted_pod_counts_until_its_replacement_is_ready_and_no_longer() {
    let mut evicted = pod(
        "gone",
        900,
        false,
        &json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown",
        "finishedAt": ago(100)}}),
    );
    evicted["status"]["phase"] = json!("Failed");
    evicted["status"]["reason"] = json!("Evicted");
    evicted["status"]["conditions"][1]["lastTransitionTime"] = json!(ago(100));
    let starting = pod("next", 100, false, &json!({"waiting": {"reason": "ContainerCreating"}}));
    let both = [deployment(1, 0), replica_set(1), evicted.clone(), starting];
    assert_eq!(verdict(&both), of(Failing, &["ContainerCreating", "Evicted"]));
    let next = pod("next", 100, true, &running(99));
    assert_eq!(verdict(&[deployment(1, 1), replica_set(1), evicted.clone(), next]), of(Healthy, &[]));
    // That another pod is missing now has nothing to do with what was replaced long ago.
    let next = pod("next", 100, true, &running(99));
    let pull = pod("more", 50, false, &json!({"waiting": {"reason": "ErrImagePull"}}));
    let objects = [deployment(2, 1), replica_set(2), evicted, next, pull];
    assert_eq!(verdict(&objects), of(Degraded, &["ErrImagePull"]));
}

#[test]
fn running_out_of_memory_is_forgotten_after_ten_minutes_of_running() {
    let mut killed = pod("a", 3000, true, &running(599));
    killed["status"]["containerStatuses"][0]["restartCount"] = json!(1);
    killed["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": ago(3000), "finishedAt": ago(600)}});
    let objects = |pod: &Value| [deployment(1, 1), replica_set(1), pod.clone()];
    assert_eq!(verdict(&objects(&killed)), of(Degraded, &["OOMKilled"]));
    killed["status"]["containerStatuses"][0]["state"] = running(600);
    assert_eq!(verdict(&objects(&killed)), of(Healthy, &[]));
}

#[test]
fn a_container_between_two_crashes_has_not_recovered() {
    let mut looping = pod("a", 3000, true, &running(5));
    looping["status"]["containerStatuses"][0]["restartCount"] = json!(6);
    looping["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 1, "reason": "Error", "startedAt": ago(230), "finishedAt": ago(200)}});
    let objects = |pod: &Value| [deployment(1, 1), replica_set(1), pod.clone()];
    assert_eq!(verdict(&objects(&looping)), of(Degraded, &["CrashLoopBackOff"]));
    looping["status"]["containerStatuses"][0]["state"] = running(71);
    assert_eq!(verdict(&objects(&looping)), of(Healthy, &[]));
}

#[test]
fn one_failed_readiness_probe_of_a_container_that_starts_is_no_condition() {
    let mut first = deployment(1, 0);
    first["metadata"]["creationTimestamp"] = json!(ago(6));
    first["status"]["conditions"] = json!([
        {"type": "Available", "status": "False", "lastTransitionTime": ago(6)},
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": ago(6)}]);
    let starting = pod("a", 6, false, &running(5));
    let failed = |count| event("e", "Unhealthy", &starting, "Readiness probe failed: refused", count, 1);
    let objects = |count| [first.clone(), replica_set(1), starting.clone(), failed(count)];
    assert_eq!(verdict(&objects(2)), of(Degraded, &["progressing"]));
    assert_eq!(verdict(&objects(3)), of(Failing, &["ReadinessFailing"]));
}

#[test]
fn the_same_event_by_both_apis_is_one_event() {
    let creating = pod("a", 5, false, &json!({"waiting": {"reason": "ContainerCreating"}}));
    let core = event("e", "FailedMount", &creating, "MountVolume.SetUp failed", 1, 4);
    let mut new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "reason": "FailedMount",
        "note": "MountVolume.SetUp failed", "deprecatedCount": 1, "deprecatedFirstTimestamp": ago(4),
        "deprecatedLastTimestamp": ago(4), "eventTime": null});
    new["metadata"] = core["metadata"].clone();
    new["regarding"] = core["involvedObject"].clone();
    let objects = [deployment(1, 0), replica_set(1), creating, core, new];
    // Once is what happens to pods that are well: the deployment had pods before, and none is ready now.
    assert_eq!(verdict(&objects), of(Failing, &["progressing"]));
}

#[test]
fn a_newer_specification_that_nobody_has_looked_at_is_progress() {
    let mut edited = deployment(1, 1);
    edited["metadata"]["generation"] = json!(2);
    let objects = [edited, replica_set(1), pod("a", 600, true, &running(600))];
    assert_eq!(verdict(&objects), of(Healthy, &["progressing"]));
}

#[test]
fn what_nothing_is_told_of_is_unknown() {
    let mut manifest = deployment(2, 2);
    manifest.as_object_mut().unwrap().remove("status");
    assert_eq!(verdict(&[manifest]), of(Unknown, &[]));
}

#[test]
fn a_quota_that_forbids_pods_is_told() {
    let set = replica_set(2);
    let refused = event("e", "FailedCreate", &set, "pods \"web-1-x\" is forbidden: exceeded quota", 4, 10);
    let objects = [deployment(2, 1), set, refused, pod("a", 600, true, &running(600))];
    assert_eq!(verdict(&objects), of(Degraded, &["FailedCreate"]));
}

#[test]
fn a_job_that_tries_again_counts_its_failed_pod_until_the_next_one_runs() {
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "web-1", "namespace": "shop",
        "uid": "uid-web-1", "creationTimestamp": ago(100)}, "spec": {"completions": 1, "parallelism": 1},
        "status": {"startTime": ago(100), "failed": 1}});
    let batch = |mut pod: Value| {
        pod["metadata"]["ownerReferences"][0]["kind"] = json!("Job");
        pod["metadata"]["ownerReferences"][0]["apiVersion"] = json!("batch/v1");
        pod["spec"]["restartPolicy"] = json!("Never");
        pod
    };
    let ended = json!({"terminated": {"exitCode": 2, "reason": "Error", "startedAt": ago(99), "finishedAt": ago(60)}});
    let mut failed = batch(pod("one", 100, false, &ended));
    failed["status"]["phase"] = json!("Failed");
    assert_eq!(verdict(&[job.clone(), failed.clone()]), of(Failing, &["PodFailed"]));
    let next = batch(pod("two", 50, true, &running(49)));
    assert_eq!(verdict(&[job, failed, next]), of(Healthy, &[]));
}

#[test]
fn what_a_custom_resource_controls_is_on_top() {
    let mut set = deployment(1, 1);
    set["kind"] = json!("StatefulSet");
    set["metadata"]["ownerReferences"] = json!([{"apiVersion": "example.com/v1", "kind": "Database", "name": "db", "uid": "u", "controller": true}]);
    assert_eq!(judge(&[set])[0].kind, "StatefulSet");
    // And a kind of somebody else's that only bears the word is none of ours.
    let other = json!({"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {"name": "x"}});
    assert!(judge(&[other]).is_empty());
}

#[test]
fn of_several_versions_of_an_object_the_newest_counts() {
    let versions = |first: &str, second: &str| {
        let mut old = deployment(1, 0);
        let mut new = deployment(1, 1);
        old["metadata"]["resourceVersion"] = json!(first);
        new["metadata"]["resourceVersion"] = json!(second);
        [old, new]
    };
    let [old, new] = versions("99", "100");
    assert_eq!(verdict(&[old.clone(), new.clone()]), of(Healthy, &[]));
    assert_eq!(verdict(&[new, old]), of(Healthy, &[]));
}

#[test]
fn a_sidecar_that_crashes_is_told_as_init_and_a_running_one_is_fine() {
    let mut with = pod("a", 600, true, &running(600));
    with["spec"]["initContainers"] = json!([{"name": "proxy", "restartPolicy": "Always"}]);
    with["status"]["initContainerStatuses"] =
        json!([{"name": "proxy", "ready": true, "started": true, "restartCount": 0, "state": running(600)}]);
    let objects = |pod: &Value| [deployment(1, 1), replica_set(1), pod.clone()];
    assert_eq!(verdict(&objects(&with)), of(Healthy, &[]));
    with["status"]["initContainerStatuses"][0]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(verdict(&objects(&with)), of(Degraded, &["Init:CrashLoopBackOff"]));
}

#[test]
fn a_suspended_or_unscheduled_cron_job_is_healthy_and_its_last_job_decides() {
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "web", "namespace": "shop",
        "uid": "uid-web", "creationTimestamp": ago(9000)}, "spec": {"suspend": false}, "status": {}});
    let job = |name: &str, age: i64, end: &str| {
        let mut owner = owner("CronJob", "web");
        owner[0]["apiVersion"] = json!("batch/v1");
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "shop",
            "creationTimestamp": ago(age), "ownerReferences": owner}, "spec": {}, "status": {"startTime": ago(age),
            "conditions": [{"type": end, "status": "True", "reason": "BackoffLimitExceeded"}]}})
    };
    assert_eq!(verdict(std::slice::from_ref(&cron)), of(Healthy, &[]));
    let (old, new) = (job("a", 100, "Failed"), job("b", 50, "Complete"));
    assert_eq!(verdict(&[cron.clone(), old.clone(), new]), of(Healthy, &[]));
    assert_eq!(verdict(&[cron.clone(), old.clone()]), of(Failing, &["BackoffLimitExceeded"]));
    let mut suspended = cron;
    suspended["spec"]["suspend"] = json!(true);
    assert_eq!(verdict(&[suspended, old]), of(Healthy, &[]));
}

#[test]
fn a_set_without_any_pod_is_told_by_its_own_count_when_no_pods_are_known() {
    let mut set = deployment(2, 0);
    set["kind"] = json!("StatefulSet");
    set["status"] = json!({"observedGeneration": 1, "replicas": 0});
    let refused = event("e", "FailedCreate", &set, "exceeded quota", 4, 10);
    assert_eq!(verdict(&[set.clone(), refused]), of(Failing, &["FailedCreate"]));
    assert_eq!(verdict(&[set]), of(Failing, &[]));
}

#[test]
fn a_kubelet_that_has_told_too_much_of_a_pod_leaves_out_later_kills() {
    let mut looping = pod("a", 3000, true, &running(20));
    looping["status"]["containerStatuses"][0]["restartCount"] = json!(7);
    looping["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "Error", "startedAt": ago(400), "finishedAt": ago(322)}});
    let killed =
        event("e", "Killing", &looping, "Container c failed liveness probe, will be restarted", 3, 1500);
    let objects = |pod: &Value| [deployment(1, 1), replica_set(1), pod.clone(), killed.clone()];
    assert_eq!(verdict(&objects(&looping)), of(Degraded, &["LivenessRestart"]));
    // It ended by itself.
    looping["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] = json!(1);
    assert_eq!(verdict(&objects(&looping)), of(Degraded, &["CrashLoopBackOff"]));
}

#[test]
fn a_container_that_is_killed_by_its_failed_hook_says_so_in_events_alone() {
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let mut looping = pod("a", 60, false, &waiting);
    looping["status"]["containerStatuses"][0]["restartCount"] = json!(3);
    looping["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "Error", "startedAt": ago(12), "finishedAt": ago(10)}});
    let failed = event("e", "FailedPostStartHook", &looping, "Exec lifecycle hook ([false]) failed", 3, 12);
    let objects = [deployment(1, 0), replica_set(1), looping, failed];
    assert_eq!(verdict(&objects), of(Failing, &["CrashLoopBackOff", "PostStartHookError"]));
}

#[test]
fn half_of_two_is_not_enough_while_a_deployment_is_rolled_out_for_the_first_time() {
    let mut new = deployment(2, 1);
    new["status"]["conditions"] = json!([
        {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "lastTransitionTime": ago(6)},
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": ago(6)}]);
    new["metadata"]["creationTimestamp"] = json!(ago(6));
    new["spec"]["strategy"] =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    let pods = [
        pod("a", 6, true, &running(5)),
        pod("b", 6, false, &json!({"waiting": {"reason": "ContainerCreating"}})),
    ];
    let objects = |new: &Value| [new.clone(), replica_set(2), pods[0].clone(), pods[1].clone()];
    assert_eq!(verdict(&objects(&new)), of(Degraded, &["progressing"]));
    // Without a pod more there has to be one fewer.
    new["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = json!(0);
    assert_eq!(verdict(&objects(&new)), of(Healthy, &["progressing"]));
}

#[test]
fn a_liveness_kill_is_known_by_its_failed_probe_when_the_kill_itself_is_not_told() {
    let mut restarted = pod("a", 3000, true, &running(20));
    restarted["status"]["containerStatuses"][0]["restartCount"] = json!(1);
    restarted["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "Error", "startedAt": ago(3000), "finishedAt": ago(22)}});
    let objects = |extra: Value| [deployment(1, 1), replica_set(1), restarted.clone(), extra];
    let failed = event("e", "Unhealthy", &restarted, "Liveness probe failed: timeout", 3, 50);
    assert_eq!(verdict(&objects(failed)), of(Degraded, &["LivenessRestart"]));
    let long_ago = event("e", "Unhealthy", &restarted, "Liveness probe failed: timeout", 1, 900);
    assert_eq!(verdict(&objects(long_ago)), of(Healthy, &[]));
}

#[test]
fn a_pod_that_should_be_gone_is_told_and_not_counted() {
    let mut stuck = pod("a", 3000, true, &running(3000));
    stuck["metadata"]["deletionTimestamp"] = json!(ago(100));
    let verdicts = judge(&[deployment(1, 0), replica_set(1), stuck]);
    assert_eq!((verdicts[0].status, verdicts[0].pods_ready), (Failing, 0));
    assert!(verdicts[0].reasons.iter().any(|it| it.contains("pod a should be gone")), "{verdicts:?}");
}

#[test]
fn a_stateful_set_that_makes_one_pod_after_the_other_is_progress() {
    let mut set = deployment(3, 1);
    set["kind"] = json!("StatefulSet");
    set["metadata"]["creationTimestamp"] = json!(ago(40));
    set["status"]["replicas"] = json!(1);
    set["status"]["updatedReplicas"] = json!(1);
    set["status"]["currentRevision"] = json!("a");
    set["status"]["updateRevision"] = json!("a");
    let mut first = pod("web-0", 39, true, &running(38));
    first["metadata"]["ownerReferences"] = owner("StatefulSet", "web");
    assert_eq!(verdict(&[set.clone(), first.clone()]), of(Degraded, &["progressing"]));
    set["metadata"]["creationTimestamp"] = json!(ago(4000));
    first["metadata"]["creationTimestamp"] = json!(ago(3999));
    assert_eq!(verdict(&[set, first]), of(Degraded, &[]));
}

#[test]
fn ten_thousand_pods_are_judged_at_once() {
    let mut objects = vec![deployment(10_000, 10_000), replica_set(10_000)];
    objects.extend((0..10_000).map(|it| pod(&format!("p{it}"), 600, it != 77, &running(600))));
    let begun = std::time::Instant::now();
    let verdicts = judge(&objects);
    assert_eq!((verdicts[0].status, verdicts[0].pods_ready), (Degraded, 9_999));
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
}
