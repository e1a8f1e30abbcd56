//! The judgement over the recorded objects of a real cluster: what each is was written down from the rules (K4–K7), not
//! from what came out.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

use hale_kube::{
    dump::Dump,
    judge::{Settings, Verdict},
};
use hale_model::Status::{self, Degraded, Failing, Healthy};
use jiff::Timestamp;
use rstest::rstest;

fn dump(situation: &str) -> Dump {
    let path = format!("{}/tests/objects/{situation}.json", env!("CARGO_MANIFEST_DIR"));
    let mut dump = Dump::default();
    dump.read(&std::fs::read(path).unwrap()).unwrap();
    dump
}

fn judge_at(situation: &str, at: Option<&str>) -> Vec<Verdict> {
    let dump = dump(situation);
    let now: Timestamp = at.map_or_else(|| dump.newest.unwrap(), |it| it.parse().unwrap());
    dump.world.judge(now, &Settings::default())
}

/// Kind, name, status, ready, total, conditions.
type Expected<'a> = (&'a str, &'a str, Status, u32, u32, &'a [&'a str]);

fn compare(situation: &str, verdicts: &[Verdict], expected: &[Expected<'_>]) {
    let conditions: Vec<Vec<&str>> =
        verdicts.iter().map(|it| it.conditions.iter().map(String::as_str).collect()).collect();
    let found: Vec<Expected<'_>> = verdicts
        .iter()
        .zip(&conditions)
        .map(|(it, conditions)| {
            (it.kind, it.name.as_str(), it.status, it.pods_ready, it.pods_total, conditions.as_slice())
        })
        .collect();
    assert_eq!(found, expected, "{situation}: {verdicts:#?}");
    for verdict in verdicts {
        assert!(!verdict.reasons.is_empty(), "{verdict:?}");
        assert!(verdict.pods_ready <= verdict.pods_total, "{verdict:?}");
        for condition in &verdict.conditions {
            assert!(
                verdict.reasons.iter().any(|it| it.contains(condition.as_str())),
                "{condition}: {verdict:#?}"
            );
        }
    }
}

const D: &str = "Deployment";

/// Every situation, and all top-level workloads in it.
const SITUATIONS: &[(&str, &[Expected<'static>])] = &[
    // Ends at once: `terminated` before it is `waiting`; its replica set still counts it as ready.
    ("crashloop-error", &[(D, "api", Failing, 0, 2, &["Error"])]),
    // `Progressing` is still True, NewReplicaSetAvailable.
    ("crashloopbackoff", &[(D, "api", Failing, 0, 2, &["CrashLoopBackOff"])]),
    (
        "createcontainerconfigerror",
        &[
            (D, "checkout", Failing, 0, 1, &["CreateContainerConfigError"]),
            (D, "payments", Failing, 0, 1, &["CreateContainerConfigError"]),
        ],
    ),
    ("createcontainererror", &[(D, "reports", Failing, 0, 1, &["CreateContainerError"])]),
    (
        "daemonset",
        &[
            (D, "idle", Healthy, 0, 0, &[]),
            ("DaemonSet", "node-agent", Healthy, 1, 1, &[]),
            ("StatefulSet", "queue", Healthy, 2, 2, &[]),
        ],
    ),
    ("errimagepull", &[(D, "storefront", Failing, 0, 1, &["ErrImagePull"])]),
    // Its replacement is being created: not ready yet. What its container says (Error, 137) says nothing.
    ("evicted", &[(D, "cache", Failing, 0, 1, &["Evicted"])]),
    // Two minutes in ContainerCreating, because of a secret that is not there.
    ("failedmount", &[(D, "gateway", Failing, 0, 1, &["ContainerCreating", "FailedMount"])]),
    ("healthy", &[(D, "web", Healthy, 2, 2, &[])]),
    // A mount that took two attempts is no condition of a pod that runs.
    ("hpa", &[(D, "tiles", Healthy, 1, 1, &[])]),
    ("imagepullbackoff", &[(D, "storefront", Failing, 0, 1, &["ImagePullBackOff"])]),
    ("init-error", &[(D, "orders", Failing, 0, 1, &["Init:Error"])]),
    // A minute in PodInitializing, because of an init container.
    ("initfail", &[(D, "orders", Failing, 0, 1, &["Init:CrashLoopBackOff", "PodInitializing"])]),
    // A second old: a first rollout on its way.
    ("initrunning", &[(D, "inventory", Degraded, 0, 1, &["progressing"])]),
    ("invalidimagename", &[(D, "cart", Failing, 0, 1, &["InvalidImageName"])]),
    (
        "jobcomplete",
        &[("CronJob", "cleanup", Healthy, 1, 1, &[]), ("Job", "nightly-report", Healthy, 1, 1, &[])],
    ),
    ("jobfailed", &[("Job", "db-backup", Failing, 0, 1, &["PodFailed"])]),
    // Ready again, and killed three seconds ago.
    ("livenesskill", &[(D, "worker", Degraded, 1, 1, &["LivenessRestart"])]),
    ("node-cordoned", &[(D, "invoices", Failing, 0, 1, &["Unschedulable"])]),
    ("node-diskpressure", &[(D, "web", Failing, 0, 2, &["Evicted", "Unschedulable"])]),
    // The node says that it is not ready; its pods are, and take work.
    ("node-networknotready", &[(D, "web", Healthy, 2, 2, &[])]),
    // The pods' containers still say ready: true.
    ("node-notready", &[(D, "web", Failing, 0, 2, &["NodeNotReady"])]),
    ("node-ready", &[]),
    ("notready", &[(D, "search", Failing, 0, 2, &["ReadinessFailing"])]),
    ("oomkilled", &[(D, "resizer", Failing, 0, 1, &["CrashLoopBackOff", "OOMKilled"])]),
    ("oomkilled-now", &[(D, "resizer", Failing, 0, 1, &["OOMKilled"])]),
    (
        "podfailed",
        &[
            ("Pod", "one-shot-deadline", Failing, 0, 1, &["DeadlineExceeded"]),
            ("Pod", "one-shot-error", Failing, 0, 1, &["PodFailed"]),
        ],
    ),
    // Of two wanted pods one is there, and waits for its volume.
    ("pvcpending", &[("StatefulSet", "db", Failing, 0, 2, &["Unschedulable"])]),
    (
        "rollout-deadline",
        &[(D, "catalog", Degraded, 2, 3, &["ProgressDeadlineExceeded", "ReadinessFailing"])],
    ),
    ("rollout-halfway", &[(D, "catalog", Degraded, 2, 3, &["ReadinessFailing"])]),
    ("starterror", &[(D, "mailer", Failing, 0, 1, &["CrashLoopBackOff", "StartError"])]),
    // Killed twice because its startup probe failed.
    ("startupprobe", &[(D, "recommender", Failing, 0, 1, &["LivenessRestart"])]),
    (
        "unschedulable",
        &[
            (D, "analytics", Failing, 0, 1, &["Unschedulable"]),
            (D, "trainer", Failing, 0, 1, &["Unschedulable"]),
        ],
    ),
];

#[test]
fn every_situation_is_judged_as_the_rules_have_it() {
    for (situation, expected) in SITUATIONS {
        compare(situation, &judge_at(situation, None), expected);
    }
}

#[rstest]
// Sixteen seconds after a pod was placed its creation takes too long.
#[case("initrunning", "2026-11-22T05:49:39Z", Degraded, &["progressing"])]
#[case("initrunning", "2026-11-22T05:49:40Z", Failing, &["PodInitializing"])]
// Ten minutes after its first rollout began that is past its deadline.
#[case("notready", "2026-11-22T05:59:10Z", Failing, &["ProgressDeadlineExceeded", "ReadinessFailing"])]
// Ten minutes of running, and a kill is forgotten.
#[case("livenesskill", "2026-11-22T06:00:05Z", Degraded, &["LivenessRestart"])]
#[case("livenesskill", "2026-11-22T06:00:06Z", Healthy, &[])]
// What did not come back is not forgotten.
#[case("oomkilled", "2026-11-22T07:00:00Z", Failing, &["CrashLoopBackOff", "OOMKilled"])]
fn time_alone_changes_what_a_thing_is(
    #[case] situation: &str,
    #[case] at: &str,
    #[case] status: Status,
    #[case] conditions: &[&str],
) {
    let verdicts = judge_at(situation, Some(at));
    assert_eq!(verdicts.len(), 1);
    assert_eq!((verdicts[0].status, verdicts[0].conditions.as_slice().to_vec()), (status, owned(conditions)));
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|it| (*it).to_owned()).collect()
}

#[test]
fn the_situations_are_all_in_the_table() {
    let dir = format!("{}/tests/objects", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    for file in files.filter(|it| it.extension().is_some_and(|it| it == "json")) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(SITUATIONS.iter().any(|(it, _)| *it == name), "{name} is not judged by a test");
    }
}

#[test]
fn a_workload_lists_what_it_is_made_of() {
    let verdicts = judge_at("pvcpending", None);
    let found: Vec<(&str, &str, bool)> =
        verdicts[0].resources.iter().map(|it| (it.kind, it.name.as_str(), it.ready)).collect();
    let claim = ("PersistentVolumeClaim", "data-db-0", false);
    assert_eq!(found, [claim, ("Pod", "db-0", false), ("StatefulSet", "db", false)]);
    let message = verdicts[0].resources[0].message.as_deref().unwrap();
    assert!(message.contains("fast-ssd"), "{message}");
}
