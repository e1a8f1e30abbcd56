//! What keeps a decision from being carried out.

use std::{fmt, str::FromStr};

use crate::{Time, UnknownWord};

/// Who holds, in order of precedence: the first that holds is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum HoldBy {
    /// A person stopped it.
    Person,
    /// A person paused it (H24).
    Pause,
    /// The workload is only observed (H27).
    Observe,
    /// The node doubts its own probes (H22).
    Observer,
    /// A dependency is known to be failing, or has not come up yet (H21).
    Dependency,
    /// The restart budget is used up (H16).
    Budget,
    /// Too few others are ready, or too many are restarting (H20).
    Disruption,
    /// The wait before a restart (H15).
    Backoff,
}

impl HoldBy {
    /// All of them, in order of precedence.
    pub const ALL: [Self; 8] = [
        Self::Person,
        Self::Pause,
        Self::Observe,
        Self::Observer,
        Self::Dependency,
        Self::Budget,
        Self::Disruption,
        Self::Backoff,
    ];

    /// The word for it in status, events and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Pause => "pause",
            Self::Observe => "observe",
            Self::Observer => "observer",
            Self::Dependency => "dependency",
            Self::Budget => "budget",
            Self::Disruption => "disruption",
            Self::Backoff => "backoff",
        }
    }
}

impl fmt::Display for HoldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for HoldBy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|it| it.as_str() == word).ok_or(UnknownWord)
    }
}

/// One thing that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Hold {
    /// Who.
    pub by: HoldBy,
    /// Since when.
    pub since: Time,
    /// Until when at the latest, where that is known.
    pub until: Option<Time>,
    /// Why, in words.
    pub reason: String,
}

/// Everything that holds one decision, in order of precedence; at most one of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Holds(Vec<Hold>);

impl Holds {
    /// Nothing holds.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a hold. One of the same kind is renewed: it keeps its `since`.
    pub fn add(&mut self, hold: Hold) {
        match self.0.binary_search_by_key(&hold.by, |it| it.by) {
            Ok(at) => {
                if let Some(old) = self.0.get_mut(at) {
                    *old = Hold { since: old.since, ..hold };
                }
            }
            Err(at) => self.0.insert(at, hold),
        }
    }

    /// Ends one; returns it.
    pub fn remove(&mut self, by: HoldBy) -> Option<Hold> {
        let at = self.0.iter().position(|it| it.by == by)?;
        Some(self.0.remove(at))
    }

    /// The holds of `new` in the place of these; those that go on keep their `since`.
    pub fn replace(&mut self, new: Vec<Hold>) {
        let old = std::mem::take(&mut self.0);
        for mut hold in new {
            if let Some(before) = old.iter().find(|it| it.by == hold.by) {
                hold.since = before.since;
            }
            self.add(hold);
        }
    }

    /// The first: the one that status and events name.
    #[must_use]
    pub fn first(&self) -> Option<&Hold> {
        self.0.first()
    }

    /// The one of this kind.
    #[must_use]
    pub fn get(&self, by: HoldBy) -> Option<&Hold> {
        self.0.iter().find(|it| it.by == by)
    }

    /// All, in order of precedence.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.0.iter()
    }

    /// Whether nothing holds.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first moment at which one of them ends by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.0.iter().filter_map(|it| it.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(by: HoldBy, since: u64) -> Hold {
        Hold { by, since: Time::from_secs(since), until: None, reason: by.to_string() }
    }

    #[test]
    fn the_first_is_named_whatever_the_order_they_came_in() {
        let mut holds = Holds::new();
        for by in HoldBy::ALL.into_iter().rev() {
            holds.add(hold(by, 0));
            assert_eq!(holds.first().map(|it| it.by), Some(by));
        }
        assert!(holds.iter().map(|it| it.by).eq(HoldBy::ALL));
    }

    #[test]
    fn a_renewed_hold_keeps_its_beginning() {
        let mut holds = Holds::new();
        holds.add(hold(HoldBy::Pause, 1));
        holds.add(Hold { until: Some(Time::from_secs(9)), ..hold(HoldBy::Pause, 5) });
        assert_eq!(holds.get(HoldBy::Pause).map(|it| it.since), Some(Time::from_secs(1)));
        assert_eq!(holds.next_deadline(), Some(Time::from_secs(9)));
        holds.replace(vec![hold(HoldBy::Budget, 7), hold(HoldBy::Pause, 7)]);
        let since: Vec<_> = holds.iter().map(|it| (it.by, it.since)).collect();
        assert_eq!(since, [(HoldBy::Pause, Time::from_secs(1)), (HoldBy::Budget, Time::from_secs(7))]);
    }

    #[test]
    fn removing_gives_it_back_once() {
        let mut holds = Holds::new();
        holds.add(hold(HoldBy::Observer, 1));
        assert!(holds.remove(HoldBy::Observer).is_some());
        assert!(holds.remove(HoldBy::Observer).is_none() && holds.is_empty());
    }

    #[test]
    fn words_read_back() {
        for by in HoldBy::ALL {
            assert_eq!(by.to_string().parse(), Ok(by));
        }
        assert_eq!("nobody".parse::<HoldBy>(), Err(UnknownWord));
    }
}
