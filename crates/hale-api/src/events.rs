//! Pages of the event stream (S21).

use hale_model::event::{Event, Severity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most events of one page.
pub const MAX_PAGE: u32 = 1000;

/// Which events are wanted: the query of `GET /api/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventQuery {
    /// Only those with a higher id. As a stream without it: only those from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Only of these types, comma separated: a full one (`dev.hale.replica.restarted`), or the end of one
    /// (`restarted`, `replica.restarted`).
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only about this: a replica, a target, a node, or a workload with all of its replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only those that matter at least so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// At most so many, up to 1000; 100 when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The newest ones instead of the oldest; still told oldest first. Pages only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub newest: bool,
}

/// A page of events, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// What to ask `after` for the page that follows; absent when this was the last for now.
    pub next: Option<u64>,
    /// The id of the newest event of the stream, whatever the filter; 0 when there is none.
    pub latest: u64,
}

/// Whether a type is one of those asked for by `type=` (see [`EventQuery::kind`]).
#[must_use]
pub fn type_matches(wanted: &str, kind: &str) -> bool {
    wanted.split(',').map(str::trim).any(|word| {
        kind == word || kind.strip_suffix(word).is_some_and(|rest| !word.is_empty() && rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_found_by_its_whole_name_or_the_end_of_it_at_a_dot() {
        let kind = "dev.hale.replica.not_ready";
        for wanted in [kind, "not_ready", "replica.not_ready", "ready,not_ready", "failed, not_ready"] {
            assert!(type_matches(wanted, kind), "{wanted}");
        }
        for wanted in ["ready", "", ",", "replica", "dev.hale.replica"] {
            assert!(!type_matches(wanted, kind), "{wanted}");
        }
    }
}
