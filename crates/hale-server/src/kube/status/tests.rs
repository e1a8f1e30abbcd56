use std::collections::BTreeSet;

use hale_api::kube::ResourceHealth;
use hale_model::cluster::KubeMode;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

struct World {
    agent: KubeAgentRecord,
    stack: StackRecord,
    object: DeploymentObjectRecord,
}

impl World {
    fn new() -> Self {
        let agent = KubeAgentRecord {
            id: "a1".to_owned(),
            name: "eu-1".to_owned(),
            labels: Default::default(),
            mode: KubeMode::Apply,
            stacks: BTreeSet::from(["shop".to_owned()]),
            match_labels: Default::default(),
            assigned: false,
            version: "1".to_owned(),
            health_enabled: true,
            diagnostics_enabled: true,
            check_interval_seconds: 60,
            stale_after_seconds: 180,
            registered_at: at(0),
        };
        let stack = StackRecord {
            id: "s1".to_owned(),
            name: "shop".to_owned(),
            labels: Default::default(),
            created_at: at(0),
            created_by: "ann".to_owned(),
            last_sequence: 1,
            objects: vec!["o1".to_owned()],
        };
        let object = DeploymentObjectRecord {
            id: "o1".to_owned(),
            stack_id: "s1".to_owned(),
            sequence: 1,
            checksum: "c".to_owned(),
            size: 1,
            deletion_marker: false,
            created_at: at(0),
            created_by: "ann".to_owned(),
        };
        Self { agent, stack, object }
    }

    fn about(&self) -> About<'_> {
        About { agent: &self.agent, stack: &self.stack, object: &self.object }
    }

    /// One report after the other, each at its second; the kinds of events they make.
    fn run(&self, reports: &[(i64, Status, &[&str])]) -> (Option<ObjectHealthRecord>, Vec<&'static str>) {
        let mut known = None;
        let mut events = Vec::new();
        for (second, status, conditions) in reports {
            let entry = entry(*second, *status, conditions);
            if let Taken::Changed { record, event } =
                take(self.about(), known.as_ref(), None, &entry, at(*second))
            {
                known = Some(*record);
                events.extend(event.map(|it| it.kind()));
            }
        }
        (known, events)
    }
}

fn entry(second: i64, status: Status, conditions: &[&str]) -> HealthEntry {
    let summary = HealthSummary {
        pods_ready: u32::from(status == Status::Healthy),
        pods_total: 1,
        conditions: conditions.iter().map(|it| (*it).to_owned()).collect(),
        resources: Vec::new(),
    };
    HealthEntry { id: "o1".to_owned(), status, summary, checked_at: at(second) }
}

const DEGRADED: &str = "dev.hale.deployment.degraded";
const FAILING: &str = "dev.hale.deployment.failing";
const RECOVERED: &str = "dev.hale.deployment.recovered";

#[test]
fn trouble_is_told_once_and_its_end_is() {
    use Status::{Degraded, Failing, Healthy, Unknown};
    type Row = (&'static [(i64, Status, &'static [&'static str])], &'static [&'static str]);
    let table: &[Row] = &[
        (&[(1, Healthy, &[]), (2, Healthy, &["progressing"])], &[]),
        (
            &[
                (1, Healthy, &[]),
                (2, Failing, &["CrashLoopBackOff"]),
                (3, Failing, &["Evicted"]),
                (4, Healthy, &[]),
            ],
            &[FAILING, RECOVERED],
        ),
        (
            &[
                (1, Healthy, &[]),
                (2, Degraded, &["OOMKilled"]),
                (3, Failing, &["OOMKilled"]),
                (4, Degraded, &["OOMKilled"]),
            ],
            &[DEGRADED, FAILING, DEGRADED],
        ),
        // A first rollout makes none (K7), unless it comes to nothing.
        (&[(1, Degraded, &["progressing"]), (2, Healthy, &[])], &[]),
        (
            &[(1, Degraded, &["progressing"]), (2, Degraded, &["ImagePullBackOff", "progressing"])],
            &[DEGRADED],
        ),
        (&[(1, Degraded, &["progressing"]), (2, Failing, &["ProgressDeadlineExceeded"])], &[FAILING]),
        // With nothing said of why it is degraded, it is.
        (&[(1, Degraded, &[])], &[DEGRADED]),
        // What is unknown is neither the end of a spell nor another one.
        (
            &[
                (1, Failing, &[]),
                (2, Unknown, &["disabled"]),
                (3, Failing, &[]),
                (4, Unknown, &[]),
                (5, Healthy, &[]),
            ],
            &[FAILING, RECOVERED],
        ),
        (&[(1, Unknown, &[]), (2, Healthy, &[])], &[]),
    ];
    for (reports, expected) in table {
        assert_eq!(World::new().run(reports).1, *expected, "{reports:?}");
    }
}

#[test]
fn an_older_report_never_takes_the_place_of_a_newer_one() {
    let world = World::new();
    let (known, _) = world.run(&[(10, Status::Healthy, &[])]);
    let older = entry(9, Status::Failing, &[]);
    assert_eq!(take(world.about(), known.as_ref(), None, &older, at(11)), Taken::Older);
    // Nor of what was looked at again since, which stands elsewhere.
    let between = entry(15, Status::Failing, &[]);
    assert_eq!(take(world.about(), known.as_ref(), Some(at(20)), &between, at(21)), Taken::Older);
    let newer = entry(20, Status::Failing, &[]);
    assert!(matches!(
        take(world.about(), known.as_ref(), Some(at(20)), &newer, at(21)),
        Taken::Changed { .. }
    ));
    let same = entry(30, Status::Healthy, &[]);
    assert_eq!(take(world.about(), known.as_ref(), None, &same, at(31)), Taken::Same { checked_at: at(30) });
}

#[test]
fn a_clock_that_is_ahead_is_cut_to_the_receipt_and_flagged() {
    let world = World::new();
    let of = |ahead: i64| match take(
        world.about(),
        None,
        None,
        &entry(100 + ahead, Status::Healthy, &[]),
        at(100),
    ) {
        Taken::Changed { record, .. } => (record.checked_at.unwrap(), record.clock_skew),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(60), (at(160), false));
    assert_eq!(of(61), (at(100), true));
    // It does not shut out what comes after.
    let known = match take(world.about(), None, None, &entry(9000, Status::Healthy, &[]), at(100)) {
        Taken::Changed { record, .. } => record,
        other => panic!("{other:?}"),
    };
    let next = take(world.about(), Some(&known), None, &entry(9001, Status::Failing, &[]), at(101));
    assert!(matches!(next, Taken::Changed { record, .. } if record.status == Status::Failing));
}

#[test]
fn history_has_each_change_once_with_its_reason_and_is_bounded() {
    let world = World::new();
    let reports: Vec<(i64, Status, &[&str])> = (0..200)
        .map(|it| (it, if it % 4 < 2 { Status::Healthy } else { Status::Failing }, &["x"][..]))
        .collect();
    let record = world.run(&reports).0.unwrap();
    assert_eq!(record.history.len(), HISTORY);
    assert!(record.history.windows(2).all(|it| it[0].to != it[1].to && it[1].from == Some(it[0].to)));
    let last = record.history.last().unwrap();
    assert_eq!((last.at, last.to, last.why.as_str()), (at(198), Status::Failing, "0/1 pods ready, x"));
    assert_eq!(record.since, at(198));

    let silent = silence(&record, 180, at(500)).unwrap();
    assert_eq!((silent.status, silent.since, &silent.summary), (Status::Unknown, at(500), &record.summary));
    assert!(silent.history.last().unwrap().why.contains("180 s"));
    assert_eq!(silence(&silent, 180, at(600)), None);
    assert_eq!(silent.told, record.told, "the spell of trouble goes on");
    // It comes back as it was.
    let Taken::Changed { record: back, event } =
        take(world.about(), Some(&silent), None, &entry(700, Status::Failing, &["x"]), at(700))
    else {
        panic!("a silent agent is taken back")
    };
    assert_eq!((back.status, event), (Status::Failing, None));
}

#[test]
fn what_was_told_of_the_object_before_ends_with_the_new_one() {
    let world = World::new();
    let carried = ObjectHealthRecord { told: Some(Status::Failing), ..unheard(world.about(), at(0)) };
    let Taken::Changed { record, event } =
        take(world.about(), Some(&carried), None, &entry(1, Status::Healthy, &[]), at(1))
    else {
        panic!("the first report is taken")
    };
    assert_eq!(event.unwrap().kind(), RECOVERED);
    assert_eq!(record.history[0].from, None, "nothing was known of this one");
}

#[test]
fn the_worst_counts_whatever_comes_later() {
    use Status::{Degraded, Failing, Healthy, Unknown};
    for (all, expected) in [
        (&[Failing, Degraded][..], Failing),
        (&[Degraded, Failing], Failing),
        (&[Healthy, Unknown], Unknown),
        (&[Unknown, Degraded], Degraded),
        (&[Healthy, Healthy], Healthy),
        (&[], Unknown),
    ] {
        assert_eq!(worst(all.iter().copied()), expected, "{all:?}");
    }
    let summaries = [entry(1, Healthy, &["a"]).summary, entry(1, Failing, &["b", "a"]).summary];
    let sum = sum(&summaries);
    assert_eq!((sum.pods_ready, sum.pods_total, sum.conditions.len()), (1, 2, 2));
}

#[test]
fn what_is_wrong_is_said_and_what_is_only_long_is_cut() {
    let good = entry(1, Status::Healthy, &["SomethingNewOfTomorrow"]);
    assert_eq!(check(&mut good.clone()), Ok(()), "conditions are open words");
    let mut more = good.clone();
    more.summary.pods_ready = 2;
    assert!(check(&mut more).unwrap_err().contains("pods_ready is 2"));
    let long = "x".repeat(254);
    let mut word = entry(1, Status::Healthy, &[&long]);
    assert!(check(&mut word).is_err());
    let resource = |message: String| ResourceHealth {
        kind: "Widget".to_owned(),
        name: "w".to_owned(),
        namespace: None,
        ready: false,
        message: Some(message),
    };
    let mut cut = good.clone();
    cut.summary.resources.push(resource("\u{e9}".repeat(2000)));
    assert_eq!(check(&mut cut), Ok(()));
    assert_eq!(cut.summary.resources[0].message.as_ref().unwrap().len(), 1024);
    let mut many = good;
    many.summary.resources = vec![resource(String::new()); 1001];
    assert!(check(&mut many).is_err());
}
