use super::*;

type Guard = ObserverGuard<u32, u32>;

/// `n` healthy probes, spread over so many addresses.
fn guard(n: u32, addresses: u32) -> Guard {
    let mut it = Guard::new(ObserverPolicy::default());
    for probe in 0..n {
        it.outcome(Time::ZERO, &probe, &(probe % addresses), true, &mut Vec::new());
    }
    it
}

fn fall(it: &mut Guard, probes: std::ops::Range<u32>, addresses: u32, at: u64) -> Vec<GuardDecision> {
    let mut out = Vec::new();
    for probe in probes {
        it.outcome(Time::from_millis(at), &probe, &(probe % addresses), false, &mut out);
    }
    out
}

fn told(out: &[GuardDecision]) -> Vec<&Observer> {
    out.iter().filter_map(|it| if let GuardDecision::Tell(what) = it { Some(what) } else { None }).collect()
}

#[test]
fn most_probes_failing_at_once_make_it_check_itself() {
    let mut it = guard(10, 3);
    assert!(fall(&mut it, 0..5, 3, 1000).is_empty(), "half is not 60 %");
    let out = fall(&mut it, 5..6, 3, 1000);
    assert!(matches!(told(&out)[..], [Observer::Suspect { confirmed: false, .. }]));
    assert!(out.contains(&GuardDecision::CheckSelf));
}

#[rstest::rstest]
#[case::too_few(4, 3)]
#[case::one_machine(20, 1)]
#[case::two_machines(20, 2)]
fn few_probes_or_few_addresses_raise_no_suspicion(#[case] probes: u32, #[case] addresses: u32) {
    let mut it = guard(probes, addresses);
    assert!(fall(&mut it, 0..probes, addresses, 1000).is_empty());
}

#[test]
fn failures_further_apart_than_ten_seconds_do_not_add_up() {
    let mut it = guard(5, 5);
    fall(&mut it, 0..2, 5, 0);
    assert!(fall(&mut it, 2..5, 5, 10_001).is_empty());
    let mut it = guard(5, 5);
    fall(&mut it, 0..2, 5, 0);
    assert!(!fall(&mut it, 2..5, 5, 10_000).is_empty());
}

#[test]
fn what_was_never_healthy_or_came_back_or_is_gone_does_not_count() {
    let mut it = guard(5, 5);
    fall(&mut it, 5..9, 5, 0);
    fall(&mut it, 0..2, 5, 1);
    it.outcome(Time::from_millis(2), &0, &0, true, &mut Vec::new());
    it.forget(&1);
    it.forget(&77);
    it.forget(&4);
    assert!(fall(&mut it, 2..4, 5, 3).is_empty());
}

#[test]
fn a_node_that_is_well_believes_its_probes_and_is_not_suspect_twice_of_the_same() {
    let mut it = guard(5, 5);
    fall(&mut it, 0..5, 5, 0);
    let mut out = Vec::new();
    it.self_checked(Time::from_millis(200), Ok(()), &mut out);
    assert_eq!(told(&out), [&Observer::Sound]);
    assert_eq!(it.next_deadline(), None);
    assert!(fall(&mut it, 0..5, 5, 5000).is_empty());
    it.self_checked(Time::from_secs(6), Err("late".to_owned()), &mut out);
    assert_eq!(it.next_deadline(), None, "an answer nobody waits for changes nothing");
}

#[test]
fn a_node_that_is_unwell_holds_for_a_minute_and_is_blind_then() {
    let mut it = guard(5, 5);
    fall(&mut it, 0..5, 5, 0);
    let mut out = Vec::new();
    it.tick(Time::from_millis(999), &mut out);
    assert!(out.is_empty());
    it.tick(Time::from_secs(1), &mut out);
    assert!(matches!(told(&out)[..], [Observer::Suspect { confirmed: true, .. }]), "no answer is an answer");
    out.clear();
    let mut now = Time::from_secs(1);
    while let Some(due) = it.next_deadline().filter(|due| *due < Time::from_secs(60)) {
        now = due;
        it.tick(now, &mut out);
    }
    assert!(told(&out).is_empty() && now > Time::from_secs(50));
    it.tick(Time::from_secs(60), &mut out);
    assert!(matches!(told(&out)[..], [Observer::Blind { .. }]));
    while !out.ends_with(&[GuardDecision::CheckSelf]) {
        it.tick(it.next_deadline().unwrap(), &mut out);
    }
    it.self_checked(it.next_deadline().unwrap(), Ok(()), &mut out);
    assert!(matches!(told(&out)[..], [.., Observer::Sound]));
}

#[test]
fn with_references_one_failure_makes_it_check_itself_quietly_and_not_again_at_once() {
    let mut it = guard(3, 3);
    let mut out = fall(&mut it, 0..1, 3, 1000);
    it.doubt(Time::from_millis(1000), &0, &mut out);
    assert!(matches!(told(&out)[..], [Observer::Suspect { confirmed: false, .. }]));
    assert_eq!(out.last(), Some(&GuardDecision::CheckSelf));
    out.clear();
    it.self_checked(Time::from_millis(1100), Ok(()), &mut out);
    assert_eq!(out, [GuardDecision::Tell(Observer::Sound)], "nothing to note");
    out.clear();
    it.doubt(Time::from_millis(1900), &0, &mut out);
    assert!(out.is_empty(), "the check is believed for a second from its beginning");
    it.doubt(Time::from_millis(2000), &0, &mut out);
    it.self_checked(Time::from_millis(2100), Err("no reference answers".to_owned()), &mut out);
    assert!(matches!(told(&out)[..], [_, Observer::Suspect { confirmed: true, .. }]));
    assert!(out.iter().any(|it| matches!(it, GuardDecision::Note { .. })));
}

#[test]
fn a_probe_that_fails_for_long_is_no_news() {
    let mut it = guard(1, 1);
    for n in 0..NEWS + 5 {
        fall(&mut it, 0..1, 1, u64::from(n));
    }
    let mut out = Vec::new();
    it.doubt(Time::from_secs(60), &0, &mut out);
    it.doubt(Time::from_secs(60), &9, &mut out);
    assert!(out.is_empty());
}

#[test]
fn what_the_node_sees_of_itself_holds_at_once_and_is_told_once() {
    let mut it = guard(1, 1);
    let mut out = Vec::new();
    it.found_unwell(Time::from_secs(1), "its default route is gone".to_owned(), &mut out);
    it.found_unwell(Time::from_secs(2), "its default route is gone".to_owned(), &mut out);
    assert!(matches!(told(&out)[..], [Observer::Suspect { confirmed: true, .. }]));
    out.clear();
    it.tick(Time::from_secs(6), &mut out);
    assert_eq!(out, [GuardDecision::CheckSelf]);
    it.self_checked(Time::from_secs(6), Ok(()), &mut out);
    assert!(matches!(told(&out)[..], [Observer::Sound]));
}
