//! From objects and a time to a status (K2, K4–K7): no clock, no socket, no state of its own.
//!
//! Objects go into a [`World`], in any order, any number of times; [`World::judge`] then says of each top-level
//! workload how it is, how many of its pods are ready, what conditions they are in, and why. What an object lacks, or
//! has in a shape that it should not have, counts as absent: no object is refused for it, and none harms another.
//!
//! Time is the wall clock here, unlike elsewhere: a cluster tells times in no other way.

mod batch;
mod container;
mod decide;
mod event;
mod finding;
mod kin;
mod look;
mod member;
mod objects;
mod other;
mod pod;
mod read;
mod replaced;
mod resources;
mod rollout;
mod verdict;
mod workload;
mod world;

use jiff::{SignedDuration, Timestamp};

pub use member::{Member, Part};
pub use objects::{Kind, OBJECT_LABEL};
pub use other::{Other, other};
pub(crate) use read::{list_items, parse_time};
pub use verdict::{PROGRESSING, Resource, Verdict};
pub use world::{Added, World};

/// What is judged against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a pod may be pending, or its containers be created, before that is a condition (K6).
    pub pending_grace: SignedDuration,
    /// How long a container has to run until it is forgotten that it was killed before: for want of memory, or by a
    /// liveness probe (K7).
    pub forget_kills_after: SignedDuration,
    /// How long a rollout may make no progress, where the object does not say.
    pub progress_deadline: SignedDuration,
}

impl Default for Settings {
    /// 15 s, 10 min, 10 min.
    fn default() -> Self {
        Self {
            pending_grace: SignedDuration::from_secs(15),
            forget_kills_after: SignedDuration::from_mins(10),
            progress_deadline: SignedDuration::from_mins(10),
        }
    }
}

/// The moment of a judgement, and what it is made by.
#[derive(Debug, Clone, Copy)]
struct Moment<'a> {
    now: Timestamp,
    settings: &'a Settings,
}

impl Moment<'_> {
    /// How long ago something was; nothing is in the future.
    fn since(&self, then: Timestamp) -> SignedDuration {
        self.now.duration_since(then).max(SignedDuration::ZERO)
    }

    /// Whether something lasts longer than it may. What began nobody knows when, does.
    fn lasts_longer(&self, began: Option<Timestamp>, than: SignedDuration) -> bool {
        began.is_none_or(|began| self.since(began) > than)
    }

    /// `Pending`, `ContainerCreating` and `PodInitializing` are conditions only after a while (K6).
    fn past_grace(&self, began: Option<Timestamp>) -> bool {
        self.lasts_longer(began, self.settings.pending_grace)
    }

    /// Whether a container has run so long that it is forgotten why it was killed before (K7). One that runs since
    /// nobody knows when is given no credit.
    fn forgets_kills(&self, running_since: Option<Timestamp>) -> bool {
        running_since.is_some_and(|it| self.since(it) >= self.settings.forget_kills_after)
    }
}
