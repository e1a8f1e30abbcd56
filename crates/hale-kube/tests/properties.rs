//! What holds of every judgement, over the recorded objects and whatever becomes of them.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

use std::{fs, sync::LazyLock};

use hale_kube::judge::{PROGRESSING, Settings, Verdict, World};
use hale_model::Status;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Name, objects, newest moment.
type Situation = (String, Vec<Value>, Timestamp);

static SITUATIONS: LazyLock<Vec<Situation>> = LazyLock::new(|| {
    let dir = format!("{}/tests/objects", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    files.retain(|it| it.extension().is_some_and(|it| it == "json"));
    files.sort();
    let read = |path: std::path::PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let mut dump = hale_kube::dump::Dump::default();
        dump.read(&bytes).unwrap();
        let list: Value = serde_json::from_slice(&bytes).unwrap();
        let items = list["items"].as_array().unwrap().clone();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), items, dump.newest.unwrap())
    };
    files.into_iter().map(read).collect()
});

fn judge<'v>(objects: impl IntoIterator<Item = &'v Value>, now: Timestamp) -> Vec<Verdict> {
    let mut world = World::default();
    for object in objects {
        world.add(None, None, object);
    }
    world.judge(now, &Settings::default())
}

fn situation() -> impl Strategy<Value = &'static Situation> {
    (0..SITUATIONS.len()).prop_map(|at| &SITUATIONS[at])
}

/// What no API server would ever write.
fn nonsense() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[null], 7, "x"])),
        Just(json!(true)),
        any::<i64>().prop_map(Value::from),
        Just(json!(1e300)),
        Just(json!(u64::MAX)),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("9999-12-31T23:59:59Z")),
        Just(json!("-009999-01-01T00:00:00Z")),
        Just(json!("0001-01-01T00:00:00Z")),
        Just(json!("2026-11-22T05:49:01Z")),
        Just(json!("CrashLoopBackOff")),
    ]
}

/// Puts something else in the place of the n-th value inside of one.
fn put(value: &mut Value, at: &mut usize, new: &Value) -> bool {
    if *at == 0 {
        *value = new.clone();
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|it| put(it, at, new)),
        Value::Object(fields) => fields.iter_mut().any(|(_, it)| put(it, at, new)),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn the_order_of_objects_and_their_duplicates_never_matter(
        (situation, order) in situation().prop_flat_map(|it| {
            let twice: Vec<usize> = (0..it.1.len()).chain(0..it.1.len()).collect();
            (Just(it), Just(twice).prop_shuffle())
        })
    ) {
        let (_, objects, now) = situation;
        let shuffled = judge(order.iter().map(|at| &objects[*at]), *now);
        prop_assert_eq!(shuffled, judge(objects, *now));
    }

    #[test]
    fn nonsense_never_panics_and_harms_no_other_workload(
        situation in situation(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..120, nonsense()), 1..12),
        ahead in -100_000_000_i64..100_000_000,
    ) {
        let healthy = SITUATIONS.iter().find(|it| it.0 == "daemonset").unwrap();
        let now = healthy.2;
        let before = judge(&healthy.1, now);
        let mut broken = situation.1.clone();
        for (which, at, new) in &edits {
            if !broken.is_empty() {
                let which = which.index(broken.len());
                put(&mut broken[which], &mut at.clone(), new);
            }
        }
        let both = judge(broken.iter().chain(&healthy.1), now);
        for verdict in before {
            prop_assert!(situation.0 == healthy.0 || both.contains(&verdict), "{:?} is not in {:?}", verdict, both);
        }
        for verdict in judge(&broken, now.saturating_add(jiff::SignedDuration::from_secs(ahead)).unwrap()) {
            prop_assert!(verdict.pods_ready <= verdict.pods_total);
            prop_assert!(verdict.conditions.is_sorted() && !verdict.reasons.is_empty());
        }
    }

    #[test]
    fn any_json_at_all_is_survived(value in json_of_any_kind()) {
        let mut world = World::default();
        world.add(None, None, &value);
        world.add(Some("v1"), Some("Pod"), &value);
        world.add(Some("apps/v1"), Some("Deployment"), &value);
        for now in [Timestamp::MAX, Timestamp::MIN] {
            prop_assert!(world.judge(now, &Settings::default()).len() <= 3);
        }
        drop(hale_kube::dump::Dump::default().read(value.to_string().as_bytes()));
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(hale_kube::dump::Dump::default().read(&bytes));
    }
}

fn json_of_any_kind() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "kind",
        "metadata",
        "name",
        "namespace",
        "status",
        "spec",
        "containerStatuses",
        "state",
        "waiting",
        "reason",
        "conditions",
        "items",
        "ownerReferences",
        "replicas",
        "creationTimestamp",
        "phase",
    ]);
    nonsense().prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|it| it.into_iter().collect()),
        ]
    })
}

/// Pods of all situations that are in a bad condition by themselves; one of each kind of bad.
fn bad_pods(now: Timestamp) -> Vec<Value> {
    let pods = SITUATIONS.iter().flat_map(|it| &it.1).filter(|it| it["kind"] == "Pod");
    let mut bad = Vec::new();
    let mut kinds = std::collections::BTreeSet::new();
    for pod in pods {
        let mut pod = pod.clone();
        pod["metadata"]["ownerReferences"] = json!([]);
        let verdict = judge([&pod], now).remove(0);
        let new = kinds.insert((pod["status"]["phase"].to_string(), verdict.conditions.clone()));
        if new && verdict.status != Status::Healthy && verdict.conditions != [PROGRESSING] {
            bad.push(pod);
        }
    }
    assert!(bad.len() >= 15, "{}", bad.len());
    bad
}

#[test]
fn adding_a_bad_pod_never_improves_a_status() {
    for (name, objects, now) in SITUATIONS.iter() {
        let controls =
            |it: &&Value| ["ReplicaSet", "StatefulSet", "DaemonSet", "Job"].iter().any(|k| it["kind"] == *k);
        let bad = bad_pods(*now);
        let before = judge(objects, *now);
        for controller in objects.iter().filter(controls) {
            for pod in &bad {
                let mut pod = pod.clone();
                pod["metadata"]["name"] = json!("one-more");
                pod["metadata"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
                pod["metadata"]["namespace"] = controller["metadata"]["namespace"].clone();
                pod["metadata"]["ownerReferences"] = json!([{
                    "apiVersion": controller["apiVersion"], "kind": controller["kind"], "controller": true,
                    "name": controller["metadata"]["name"], "uid": controller["metadata"]["uid"],
                }]);
                let after = judge(objects.iter().chain([&pod]), *now);
                assert_eq!(before.len(), after.len());
                for (before, after) in before.iter().zip(&after) {
                    assert!(
                        after.status >= before.status && after.pods_ready <= before.pods_ready,
                        "{name}: {before:#?} got better by {pod:#}: {after:#?}"
                    );
                }
            }
        }
    }
}
