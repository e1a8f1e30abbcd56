//! Events: what the parts of a cluster say about objects, by either of the two APIs that events have.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    kin::{Key, key_of},
    objects::{Kind, Meta},
    read::{count, owned, text, tidy, time},
};

/// One event, or many of the same that were counted together.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) reason: String,
    pub(super) message: String,
    /// What it is about.
    pub(super) about: Key,
    about_uid: Option<String>,
    /// The container it is about, where it is about one.
    container: Option<String>,
    pub(super) count: u32,
    pub(super) last: Option<Timestamp>,
}

impl Event {
    /// Reads either form. None when it is about nothing that is judged.
    ///
    /// The scheduler's have null `firstTimestamp` and `lastTimestamp` and no `count`: then `eventTime` and `series`
    /// say it.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let about = ["involvedObject", "regarding"].into_iter().find(|it| value.get(it).is_some())?;
        let version = text(value, &[about, "apiVersion"]);
        let kind = Kind::of(version, text(value, &[about, "kind"])?)?;
        let namespace = text(value, &[about, "namespace"]).unwrap_or_default();
        let times: [&[&str]; 6] = [
            &["lastTimestamp"],
            &["deprecatedLastTimestamp"],
            &["series", "lastObservedTime"],
            &["eventTime"],
            &["firstTimestamp"],
            &["deprecatedFirstTimestamp"],
        ];
        let last = times.into_iter().filter_map(|it| time(value, it)).max();
        let counts: [&[&str]; 3] = [&["count"], &["deprecatedCount"], &["series", "count"]];
        Some(Self {
            reason: owned(value, &["reason"])?,
            message: text(value, &["message"])
                .or_else(|| text(value, &["note"]))
                .map(tidy)
                .unwrap_or_default(),
            about: (namespace.to_owned(), kind, owned(value, &[about, "name"])?),
            about_uid: owned(value, &[about, "uid"]),
            container: text(value, &[about, "fieldPath"]).and_then(container_of),
            count: counts.into_iter().filter_map(|it| count(value, it)).max().unwrap_or(1).max(1),
            last: last.or_else(|| time(value, &["metadata", "creationTimestamp"])),
        })
    }

    /// Whether it was last seen at some time or after. One without a time may have been.
    pub(super) fn seen_from(&self, time: Option<Timestamp>) -> bool {
        match (self.last, time) {
            (Some(last), Some(time)) => last >= time,
            _ => true,
        }
    }

    /// Whether it is about a container, or says not about which.
    pub(super) fn is_about(&self, container: &str) -> bool {
        self.container.as_deref().is_none_or(|it| it == container)
    }
}

/// `spec.containers{web}` is about `web`.
fn container_of(path: &str) -> Option<String> {
    let (_, rest) = path.split_once('{')?;
    let name = rest.strip_suffix('}')?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Events, by what they are about.
#[derive(Debug, Default)]
pub(super) struct Events<'w>(HashMap<&'w Key, Vec<&'w Event>>);

impl<'w> Events<'w> {
    /// Sorts them.
    pub(super) fn of(events: impl Iterator<Item = &'w Event>) -> Self {
        let mut sorted: HashMap<&Key, Vec<&Event>> = HashMap::new();
        for event in events {
            sorted.entry(&event.about).or_default().push(event);
        }
        Self(sorted)
    }

    /// Those about an object, and not about one that had its name before.
    pub(super) fn about<'s>(&'s self, kind: Kind, meta: &'s Meta) -> impl Iterator<Item = &'w Event> + 's {
        let key = key_of(kind, meta);
        self.0.get(&key).into_iter().flatten().copied().filter(|event| {
            match (event.about_uid.as_deref(), meta.uid.as_deref()) {
                (Some(about), Some(uid)) => about == uid,
                _ => true,
            }
        })
    }
}
