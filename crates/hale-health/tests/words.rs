//! The closed lists: every word is its own, and reads back.

use std::{collections::BTreeSet, fmt::Display, str::FromStr, time::Duration};

use hale_health::{
    Exit, Generation, HoldBy, Incarnation, Phase, ProbeKind, Reason, RestartCause, Status, Time, UnknownWord,
};

fn reads_back<T>(all: &[T])
where
    T: Copy + PartialEq + std::fmt::Debug + Display + FromStr<Err = UnknownWord>,
{
    for it in all {
        assert_eq!(it.to_string().parse(), Ok(*it));
    }
    let words: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), all.len());
    assert_eq!("no such word".parse::<T>(), Err(UnknownWord));
}

#[test]
fn every_word_reads_back() {
    reads_back(&Phase::ALL);
    reads_back(&ProbeKind::ALL);
    reads_back(&Reason::ALL);
    reads_back(&Status::ALL);
    reads_back(&HoldBy::ALL);
    assert_eq!(UnknownWord.to_string(), "not a word of this list");
}

#[test]
fn every_cause_of_a_restart_has_its_word_and_only_hales_own_cost_budget() {
    let words: BTreeSet<String> = RestartCause::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), RestartCause::ALL.len());
    let automatic: Vec<_> = RestartCause::ALL.into_iter().filter(|it| it.is_automatic()).collect();
    assert_eq!(automatic, [RestartCause::LivenessFailure, RestartCause::StartupFailure, RestartCause::Exit]);
    assert!(RestartCause::ALL.into_iter().filter(|it| it.is_probe()).all(RestartCause::is_automatic));
}

#[test]
fn an_end_is_told_as_people_say_it() {
    let oom = Exit { oom: true, ..Exit::signal(9) };
    let told: Vec<String> =
        [Exit::code(3), Exit::signal(15), Exit::default(), oom].iter().map(ToString::to_string).collect();
    assert_eq!(told, ["exit 3", "signal 15", "exit status lost", "out of memory, signal 9"]);
    assert!(Exit::code(0).is_success() && !oom.is_success() && !Exit::signal(0).is_success());
}

#[test]
fn time_saturates_at_both_ends() {
    let end = Time::from_nanos(u64::MAX);
    assert_eq!(end + Duration::MAX, end);
    assert_eq!(Time::from_secs(1) - Duration::MAX, Time::ZERO);
    assert_eq!((Time::ZERO.since(end), Time::from_millis(5).as_nanos()), (Duration::ZERO, 5_000_000));
}

#[test]
fn numbers_are_shown_as_numbers() {
    assert_eq!(
        (Generation(3).to_string(), Incarnation(3).next().to_string()),
        ("3".to_owned(), "4".to_owned())
    );
}
