//! What comes out of a judgement.

use std::collections::BTreeSet;

use hale_model::Status;
use serde::Serialize;

use super::objects::Kind;

/// The condition of what is on its way and may be (K6, K7).
pub const PROGRESSING: &str = "progressing";

/// How one top-level workload is, and why (C11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `Deployment`, `Pod`, …
    pub kind: &'static str,
    /// Where it is; none for an object that says none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// In one word.
    pub status: Status,
    /// Of the pods it should have: those that are ready, or are done well.
    pub pods_ready: u32,
    /// The pods it should have.
    pub pods_total: u32,
    /// What its pods are in: sorted, each once. An open set of words (K6).
    pub conditions: Vec<String>,
    /// What it is made of.
    pub resources: Vec<Resource>,
    /// Why, in words: the count first.
    pub reasons: Vec<String>,
}

/// One of the objects that a workload is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resource {
    /// `ReplicaSet`, `Pod`, …
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub namespace: Option<String>,
    /// Whether it is as it should be.
    pub ready: bool,
    /// What is to be said of it.
    pub message: Option<String>,
}

impl Resource {
    pub(super) fn new(kind: Kind, namespace: &str, name: &str, ready: bool, message: &str) -> Self {
        Self {
            kind: kind.as_str(),
            name: name.to_owned(),
            namespace: named(namespace),
            ready,
            message: named(message),
        }
    }
}

/// An empty word is none.
pub(super) fn named(word: &str) -> Option<String> {
    (!word.is_empty()).then(|| word.to_owned())
}

/// A verdict before it is told: it only ever gets worse (K7).
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) status: Status,
    pub(super) ready: u32,
    pub(super) total: u32,
    pub(super) conditions: BTreeSet<String>,
    pub(super) resources: Vec<Resource>,
    pub(super) reasons: Vec<String>,
}

impl Draft {
    pub(super) fn new(ready: u32, total: u32) -> Self {
        Self {
            status: Status::Healthy,
            ready: ready.min(total),
            total,
            conditions: BTreeSet::new(),
            resources: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// It is at least as bad as this.
    pub(super) fn at_least(&mut self, status: Status) {
        self.status = self.status.max(status);
    }

    /// Says why, once.
    pub(super) fn because(&mut self, why: impl Into<String>) {
        let why = why.into();
        if !why.is_empty() && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }

    /// Takes in what a part of it is.
    pub(super) fn take_in(&mut self, part: Self) {
        self.at_least(part.status);
        self.ready = self.ready.saturating_add(part.ready);
        self.total = self.total.saturating_add(part.total);
        self.conditions.extend(part.conditions);
        self.resources.extend(part.resources);
        for reason in part.reasons {
            self.because(reason);
        }
    }

    /// Tells it, of that object. That something is only on its way is not said where more is wrong.
    pub(super) fn of(mut self, kind: Kind, namespace: &str, name: &str) -> Verdict {
        if self.conditions.len() > 1 {
            self.conditions.remove(PROGRESSING);
        }
        self.resources.sort();
        self.resources.dedup();
        Verdict {
            kind: kind.as_str(),
            namespace: named(namespace),
            name: name.to_owned(),
            status: self.status,
            pods_ready: self.ready,
            pods_total: self.total,
            conditions: self.conditions.into_iter().collect(),
            resources: self.resources,
            reasons: self.reasons,
        }
    }
}
