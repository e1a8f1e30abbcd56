//! A world that objects come to and go from is the same as one that was made of what is left; and what belongs to a
//! deployment object is found by its label, else by what is above it (K2).

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

use std::{collections::BTreeSet, fs};

use hale_kube::judge::{Kind, OBJECT_LABEL, Part, Settings, World};
use hale_model::Status;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

fn situations() -> Vec<Vec<Value>> {
    let dir = format!("{}/tests/objects", env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
    let files = files.filter(|it| it.extension().is_some_and(|it| it == "json"));
    let read = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    files.map(|it| read(it)["items"].as_array().unwrap().clone()).collect()
}

fn kind(object: &Value) -> Option<Kind> {
    Kind::of(object["apiVersion"].as_str(), object["kind"].as_str()?)
}

fn now() -> Timestamp {
    "2026-11-22T06:10:00Z".parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn what_came_and_went_leaves_the_world_as_if_it_had_never_been(
        situation in 0..33_usize, order in any::<u64>(), leaves in any::<u64>(),
    ) {
        let all = situations();
        let mut objects = all[situation % all.len()].clone();
        objects.sort_by_key(|it| it.to_string().len() as u64 ^ order);
        let mut living = World::default();
        // Twice: as a relist tells of everything once more.
        for object in objects.iter().chain(&objects) {
            if let Some(kind) = kind(object) {
                living.replace(kind, object);
            }
        }
        let mut left = World::default();
        for (n, object) in objects.iter().enumerate() {
            let Some(kind) = kind(object) else { continue };
            // Of one event both APIs tell; they go together.
            let goes = kind != Kind::Event && leaves >> (n % 64) & 1 == 1;
            if goes {
                living.take_out(kind, object);
            } else {
                left.replace(kind, object);
            }
        }
        let settings = Settings::default();
        let verdicts = living.judge(now(), &settings);
        prop_assert_eq!(&verdicts, &left.judge(now(), &settings));
        // One alone is judged as it is among all.
        for verdict in verdicts {
            let part = Part {
                namespace: verdict.namespace.clone().unwrap_or_default(),
                kind: Kind::of(None, verdict.kind).unwrap(),
                name: verdict.name.clone(),
            };
            prop_assert_eq!(living.judge_part(&part, now(), &settings), Some(verdict));
        }
    }
}

fn object(kind: &str, name: &str, label: Option<&str>, owner: Option<(&str, &str)>) -> Value {
    let version = match kind {
        "Pod" => "v1",
        "Job" | "CronJob" => "batch/v1",
        _ => "apps/v1",
    };
    let mut object = json!({"apiVersion": version, "kind": kind,
        "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"), "labels": {}}});
    if let Some(label) = label {
        object["metadata"]["labels"][OBJECT_LABEL] = json!(label);
    }
    if let Some((kind, owner)) = owner {
        let version = if kind.contains("Job") { "batch/v1" } else { "apps/v1" };
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": version, "kind": kind, "name": owner,
            "uid": format!("uid-{owner}"), "controller": true}]);
    }
    object
}

fn world(objects: &[Value]) -> World {
    let mut world = World::default();
    for object in objects {
        world.replace(kind(object).unwrap(), object);
    }
    world
}

fn names(parts: &BTreeSet<Part>) -> Vec<&str> {
    parts.iter().map(|it| it.name.as_str()).collect()
}

#[test]
fn what_has_no_label_is_found_through_its_controllers() {
    let world = world(&[
        object("Deployment", "web", Some("o1"), None),
        object("ReplicaSet", "web-1", None, Some(("Deployment", "web"))),
        object("Pod", "web-1-a", None, Some(("ReplicaSet", "web-1"))),
    ]);
    assert_eq!(names(&world.parts("o1")), ["web"]);
    let pod = Part { namespace: "shop".into(), kind: Kind::Pod, name: "web-1-a".into() };
    assert_eq!(world.concerns(&pod), BTreeSet::from(["o1".to_owned()]));
    assert_eq!(world.object_of(&pod), Some("o1"));
}

#[test]
fn pods_that_bear_the_label_stand_for_the_workload_that_nobody_else_claims() {
    let chain = |deployment: Option<&str>| {
        world(&[
            object("Deployment", "web", deployment, None),
            object("ReplicaSet", "web-1", Some("o1"), Some(("Deployment", "web"))),
            object("Pod", "web-1-a", Some("o1"), Some(("ReplicaSet", "web-1"))),
        ])
    };
    assert_eq!(names(&chain(None).parts("o1")), ["web"]);
    assert_eq!(names(&chain(Some("o1")).parts("o1")), ["web"]);
    // A newer object has the deployment; what is left of the old one is judged by itself.
    assert_eq!(names(&chain(Some("o2")).parts("o1")), ["web-1"]);
    assert_eq!(names(&chain(Some("o2")).parts("o2")), ["web"]);
}

#[test]
fn a_name_alone_makes_nothing_belong_to_anything() {
    let mut stranger = object("Pod", "web-1-b", None, Some(("ReplicaSet", "web-1")));
    stranger["metadata"]["ownerReferences"][0]["uid"] = json!("uid-of-another");
    let world = world(&[
        object("Deployment", "web", Some("o1"), None),
        object("ReplicaSet", "web-1", None, Some(("Deployment", "web"))),
        stranger,
    ]);
    let pod = Part { namespace: "shop".into(), kind: Kind::Pod, name: "web-1-b".into() };
    assert!(world.concerns(&pod).is_empty());
    assert_eq!(world.object_of(&pod), None);
}

#[test]
fn a_part_that_goes_is_no_part_any_more() {
    let mut world = world(&[object("Job", "j", Some("o1"), None), object("Pod", "p", Some("o1"), None)]);
    assert_eq!(names(&world.parts("o1")), ["j", "p"]);
    world.remove(Kind::Job, "shop", "j");
    assert_eq!(names(&world.parts("o1")), ["p"]);
    // The same name with another label is another's.
    world.replace(Kind::Pod, &object("Pod", "p", Some("o2"), None));
    assert!(world.parts("o1").is_empty());
    assert_eq!(names(&world.parts("o2")), ["p"]);
}

#[test]
fn a_degraded_part_hides_no_failing_one_in_whatever_order() {
    use hale_kube::health::{Gaps, Known, health};
    let pod = |name: &str, reason: &str| {
        let mut pod = object("Pod", name, Some("o1"), None);
        pod["status"] = json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": false, "restartCount": 5, "state": {"waiting": {"reason": reason}}}]});
        pod
    };
    let mut ready = pod("b-ready", "x");
    ready["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "a", "ready": true, "restartCount": 3, "state": {"running": {"startedAt": "2026-11-22T06:09:00Z"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-22T06:08:50Z"}}}]});
    let objects = [pod("a-failing", "CrashLoopBackOff"), ready];
    for turned in [false, true] {
        let mut objects = objects.to_vec();
        if turned {
            objects.reverse();
        }
        let world = world(&objects);
        let gaps = Gaps::new(Vec::new());
        let told = health(&world, &gaps, "o1", &Known::default(), now(), &Settings::default());
        assert_eq!(told.status, Status::Failing);
        assert!(told.conditions.contains("CrashLoopBackOff") && told.conditions.contains("OOMKilled"));
        // Ten minutes of running later the kill is forgotten.
        let later = "2026-11-22T06:30:00Z".parse().unwrap();
        let told = health(&world, &gaps, "o1", &Known::default(), later, &Settings::default());
        assert!(!told.conditions.contains("OOMKilled"), "{told:?}");
    }
}
