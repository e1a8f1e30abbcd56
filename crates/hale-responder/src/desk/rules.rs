//! Which rule takes an alert (R4).

use std::str::Chars;

use hale_api::runs::Alert;
use hale_model::spec::{AlertSeverity, Match, Rule};
use jiff::Timestamp;

use super::FilterReason;

/// Why a rule does not take an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Misfit {
    /// It is about something else.
    Other,
    /// All is right but the severity.
    Severity,
    /// All is right but the hour.
    Schedule,
}

/// The first rule that takes an alert, or why none does.
///
/// # Errors
/// The reason that says most, and a sentence: the hour, if a rule takes such alerts at other hours; else the severity, if a
/// rule takes such alerts when they are more severe, or all rules ask for more; else that no rule is about it.
pub(super) fn choose(rules: &[Rule], alert: &Alert, now: Timestamp) -> Result<usize, (FilterReason, String)> {
    let mut nearest: Option<(&Rule, Misfit)> = None;
    for (index, rule) in rules.iter().enumerate() {
        let Some(misfit) = misfit(&rule.matches, alert, now) else { return Ok(index) };
        let nearer = match nearest {
            None | Some((_, Misfit::Other)) => misfit != Misfit::Other,
            Some((_, Misfit::Severity)) => misfit == Misfit::Schedule,
            Some((_, Misfit::Schedule)) => false,
        };
        if nearer {
            nearest = Some((rule, misfit));
        }
    }
    let least = rules.iter().map(|it| it.matches.severity).min().unwrap_or_default();
    Err(match nearest {
        Some((rule, Misfit::Schedule)) => {
            (FilterReason::Schedule, format!("rule {} takes it at other hours", rule.name))
        }
        Some((rule, _)) => (FilterReason::Severity, asks_for(&rule.name, rule.matches.severity, alert)),
        None if !rules.is_empty() && alert.severity < least => (
            FilterReason::Severity,
            format!("it is {}, and no rule takes less than {}", alert.severity.as_str(), least.as_str()),
        ),
        None => (FilterReason::NoRule, "no rule matches it".to_owned()),
    })
}

fn asks_for(rule: &str, least: AlertSeverity, alert: &Alert) -> String {
    format!("it is {}, and rule {rule} takes nothing less than {}", alert.severity.as_str(), least.as_str())
}

fn misfit(matches: &Match, alert: &Alert, now: Timestamp) -> Option<Misfit> {
    if !is_about(matches, alert) {
        Some(Misfit::Other)
    } else if alert.severity < matches.severity {
        Some(Misfit::Severity)
    } else if !matches.schedule.is_empty() && !matches.schedule.iter().any(|it| it.ends(now).is_some()) {
        Some(Misfit::Schedule)
    } else {
        None
    }
}

fn is_about(matches: &Match, alert: &Alert) -> bool {
    let any = |globs: &[String], text: Option<&str>| {
        globs.is_empty() || text.is_some_and(|text| globs.iter().any(|it| glob(it, text)))
    };
    any(&matches.clusters, Some(&alert.cluster))
        && any(&matches.fault_types, Some(&alert.fault_type))
        && any(&matches.kinds, Some(&alert.resource.kind))
        && any(&matches.namespaces, alert.resource.namespace.as_deref())
        && any(&matches.names, Some(&alert.resource.name))
        && matches.labels.iter().all(|(key, value)| alert.labels.get(key).is_some_and(|it| glob(value, it)))
}

/// Whether a text is as a pattern says: `*` is any text, `?` any one character. Of all stars only the last one met is ever
/// tried again, so the work is at most length times length.
fn glob(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut given) = (pattern.chars(), text.chars());
    let mut again: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        let (mut w, mut g) = (wanted.clone(), given.clone());
        match (w.next(), g.next()) {
            (Some('*'), _) => {
                again = Some((w.clone(), given.clone()));
                wanted = w;
            }
            (Some(a), Some(b)) if a == '?' || a == b => (wanted, given) = (w, g),
            (None, None) => return true,
            _ => {
                // The last star takes one character more.
                let Some((after, from)) = &mut again else { return false };
                if from.next().is_none() {
                    return false;
                }
                (wanted, given) = (after.clone(), from.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::glob;

    #[rstest]
    #[case("", "", true)]
    #[case("", "a", false)]
    #[case("*", "", true)]
    #[case("?", "", false)]
    #[case("?", "ä", true)]
    #[case("shop-*", "shop-", true)]
    #[case("shop-*", "shop", false)]
    #[case("*-eu", "prod-eu-eu", true)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-b-b-", false)]
    #[case("**a**", "bab", true)]
    #[case("Pod", "pod", false)]
    fn globs_match_as_they_say(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
        assert_eq!(glob(pattern, text), expected);
    }

    /// The naive model: all that a star can stand for is tried.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|it| naive(rest, &text[it..])),
            Some((first, rest)) => text
                .split_first()
                .is_some_and(|(one, others)| (*first == '?' || first == one) && naive(rest, others)),
        }
    }

    proptest! {
        #[test]
        fn globs_match_what_trying_everything_finds(pattern in "[ab?*]{0,7}", text in "[ab]{0,9}") {
            let chars = |it: &str| it.chars().collect::<Vec<_>>();
            prop_assert_eq!(glob(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }

    #[test]
    fn many_stars_on_a_long_text_are_no_burden() {
        assert!(!glob(&"*a".repeat(100), &"a".repeat(99)));
        assert!(!glob(&format!("{}b", "a*".repeat(100)), &"a".repeat(10_000)));
    }
}
