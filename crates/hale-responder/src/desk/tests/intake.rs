//! From an alert to a run, or not (R4, R11).

use hale_model::spec::{Autonomy, Maintenance, Match, Responder, ResponderLimits};
use jiff::{civil::time, tz::TimeZone};
use rstest::rstest;

use super::{
    super::{Effect, FilterReason, Note},
    kit::{Bench, raw, responder, rule, secs, severe},
};
use crate::{alert::RawAlert, exec::How, source::Taken};

fn reason_of(effects: &[Effect]) -> Option<(FilterReason, &str)> {
    effects.iter().find_map(|it| match it {
        Effect::Note(Note::Filtered { reason, detail, .. }) => Some((*reason, detail.as_str())),
        _ => None,
    })
}

/// One rule, for web pods of shops in production, at night, errors and worse.
fn picky() -> Responder {
    let night = Maintenance {
        days: [true; 7],
        from: time(22, 0, 0, 0),
        to: time(6, 0, 0, 0),
        timezone: TimeZone::UTC,
        reason: String::new(),
    };
    let one = |it: &str| vec![it.to_owned()];
    let matches = Match {
        severity: severe("error"),
        clusters: one("c0?"),
        labels: [("env".to_owned(), "pr*d".to_owned())].into(),
        fault_types: one("CrashLoop"),
        kinds: one("Pod"),
        namespaces: vec!["shop-*".to_owned(), "till".to_owned()],
        names: one("web-*"),
        schedule: vec![night],
    };
    let mut it = responder(2, ResponderLimits::default());
    it.rules = vec![hale_model::spec::Rule { matches, ..rule("picky", Autonomy::Act) }];
    it
}

fn right() -> RawAlert {
    let mut it = raw("CrashLoop", "web-0");
    it.resource.namespace = Some("shop-eu".to_owned());
    it.severity = Some("error".to_owned());
    it
}

/// 2027-01-15 08:00 UTC is when made-up time begins.
#[rstest]
#[case::right(15, |_: &mut RawAlert| {}, None)]
#[case::more_severe(15, |it: &mut RawAlert| it.severity = Some("fatal".to_owned()), None)]
#[case::other_namespace_of_the_list(15, |it: &mut RawAlert| it.resource.namespace = Some("till".to_owned()), None)]
#[case::by_day(0, |_: &mut RawAlert| {}, Some(FilterReason::Schedule))]
#[case::the_end_of_the_night(22, |_: &mut RawAlert| {}, Some(FilterReason::Schedule))]
#[case::not_severe(15, |it: &mut RawAlert| it.severity = None, Some(FilterReason::Severity))]
#[case::not_severe_by_day(0, |it: &mut RawAlert| it.severity = None, Some(FilterReason::Severity))]
#[case::not_severe_and_else(15, |it: &mut RawAlert| { it.severity = None; it.fault_type.clear(); }, Some(FilterReason::Severity))]
#[case::name(15, |it: &mut RawAlert| it.resource.name = "db-0".to_owned(), Some(FilterReason::NoRule))]
#[case::kind(15, |it: &mut RawAlert| it.resource.kind = "Node".to_owned(), Some(FilterReason::NoRule))]
#[case::namespace(15, |it: &mut RawAlert| it.resource.namespace = Some("tills".to_owned()), Some(FilterReason::NoRule))]
#[case::no_namespace(15, |it: &mut RawAlert| it.resource.namespace = None, Some(FilterReason::NoRule))]
#[case::fault(15, |it: &mut RawAlert| it.fault_type = "OOM".to_owned(), Some(FilterReason::NoRule))]
#[case::nonsense(15, |it: &mut RawAlert| it.severity = Some("loud".to_owned()), Some(FilterReason::Invalid))]
fn an_alert_leads_to_a_run_only_if_all_is_as_the_rule_says(
    #[case] hours: u64,
    #[case] spoil: fn(&mut RawAlert),
    #[case] expected: Option<FilterReason>,
) {
    let mut bench = Bench::new(picky());
    bench.pass(secs(hours * 3600));
    let mut alert = right();
    spoil(&mut alert);
    let (taken, effects) = bench.hear_raw("c00", alert);
    assert_eq!(reason_of(&effects).map(|it| it.0), expected, "{effects:?}");
    assert_eq!(bench.runs.len(), usize::from(expected.is_none()));
    let invalid = expected == Some(FilterReason::Invalid);
    assert_eq!(matches!(taken, Taken::Invalid(_)), invalid, "{taken:?}");
    // Everything but nonsense is on record.
    assert_eq!(bench.alerts.len(), usize::from(!invalid));
}

#[test]
fn labels_and_clusters_are_matched_too() {
    let mut it = picky();
    it.sources[1].labels.clear();
    it.rules[0].matches.schedule.clear();
    let mut bench = Bench::new(it);
    let (_, effects) = bench.hear_raw("c01", right());
    assert_eq!(reason_of(&effects).map(|it| it.0), Some(FilterReason::NoRule));
    let labels = [("env".to_owned(), "prod".to_owned())].into();
    let (_, effects) = bench.hear_raw("c01", RawAlert { labels, ..right() });
    assert_eq!(reason_of(&effects), None);
}

#[test]
fn the_first_rule_that_matches_takes_it() {
    let mut it = responder(1, ResponderLimits::default());
    it.rules
        .insert(0, hale_model::spec::Rule { matches: Match::default(), ..rule("all", Autonomy::Observe) });
    let mut bench = Bench::new(it);
    assert_eq!(bench.hear("c00", "act", "a"), ["alert 00001 accepted", "run 00002 observed"]);
    assert_eq!(bench.runs["00002"].rule, "all");
}

#[test]
fn a_name_that_no_source_has_and_what_cannot_be_read_are_counted() {
    let mut bench = Bench::with(ResponderLimits::default());
    let (taken, effects) = bench.hear_raw("c77", raw("act", "a"));
    assert_eq!(taken, Taken::Invalid("no source has this name".to_owned()));
    assert_eq!(reason_of(&effects).map(|it| it.0), Some(FilterReason::Invalid));
    let effects = bench.desk.unreadable("c00", "no JSON".to_owned());
    assert_eq!(reason_of(&effects), Some((FilterReason::Invalid, "no JSON")));
}

#[test]
fn the_same_within_the_window_is_a_duplicate_of_the_run_that_was() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "act", "a");
    bench.next();
    bench.end("00002", How::Exited(0));
    bench.pass(secs(299));
    assert_eq!(
        bench.hear("c00", "act", "a"),
        ["alert 00003 duplicate", "run 00002 succeeded", "filtered duplicate"]
    );
    assert_eq!(bench.runs["00002"].duplicates, 1);
    // Elsewhere, or of another kind: not the same.
    bench.hear("c01", "act", "a");
    bench.hear("c00", "heal", "a");
    assert_eq!(bench.runs.len(), 3);
}

#[test]
fn the_window_is_counted_from_the_alert_that_was_accepted() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "act", "a");
    bench.next();
    bench.end("00002", How::Exited(1));
    bench.pass(secs(200));
    assert_eq!(bench.hear("c00", "act", "a")[0], "alert 00003 duplicate");
    bench.pass(secs(100));
    assert_eq!(bench.hear("c00", "act", "a")[0], "alert 00004 accepted");
}

#[test]
fn while_a_run_is_on_a_resource_all_alerts_on_it_are_the_runs() {
    let mut bench = Bench::with(ResponderLimits::default());
    bench.hear("c00", "heal", "a");
    for (step, expected) in ["queued", "running", "recovering"].into_iter().enumerate() {
        bench.pass(secs(60));
        assert_eq!(bench.hear("c00", "act", "a")[1], format!("run 00002 {expected}"));
        assert_eq!(bench.hear("c00", "heal", "a")[1], format!("run 00002 {expected}"));
        assert_eq!(bench.runs["00002"].duplicates as usize, 2 * step + 2);
        bench.next();
        if step == 1 {
            bench.end("00002", How::Exited(0));
        }
    }
    assert_eq!(bench.runs.len(), 1);
}

#[test]
fn what_had_no_chance_swallows_no_later_alert() {
    let limits = ResponderLimits { queue_size: 1, ..ResponderLimits::default() };
    let mut bench = Bench::with(limits);
    bench.hear("c00", "act", "a");
    let dropped = bench.hear("c00", "act", "b");
    assert!(dropped.contains(&"dropped 00001".to_owned()), "{dropped:?}");
    assert_eq!(bench.hear("c00", "act", "a").last().unwrap(), "run 00006 queued");
    bench.pass(secs(601));
    bench.sweep();
    assert_eq!(bench.state("00006").as_str(), "expired");
    assert!(bench.hear("c00", "act", "a").contains(&"run 00008 queued".to_owned()));
    bench.next();
    bench.end("00008", How::Interrupted);
    assert!(bench.hear("c00", "act", "a").contains(&"run 00010 queued".to_owned()));
}

#[test]
fn the_window_holds_no_more_than_it_may() {
    let mut bench = Bench::with(ResponderLimits::default());
    for at in 0..=10_000 {
        bench.hear("c00", "observe", &at.to_string());
    }
    // The first has given way, the second has not.
    assert!(bench.hear("c00", "observe", "0")[0].ends_with("accepted"));
    assert!(bench.hear("c00", "observe", "2")[0].ends_with("duplicate"));
}
