//! What one webhook is sent next: a decision, without clock or socket.
//!
//! A lane goes through the events in their order, one at a time: an event that can't be delivered holds up those behind
//! it until it is given up, and no other lane. So a receiver gets events in order, and one that comes back after a
//! while has lost little. What was given up is kept and can be sent again by hand (S22).

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use hale_health::Time;
use hale_model::{
    cluster::{DeadDelivery, WebhookCursor},
    event::Event,
};
use jiff::Timestamp;

/// The waits after a failed attempt before the next one; after the last of them it is given up.
pub const WAITS: [Duration; 5] = [
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// The longest wait that a receiver can ask for by `Retry-After`.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How many events that were given up are kept to be sent again; of more the oldest are forgotten.
pub const DEAD: usize = 100;

/// The most events that one request can ask to be sent again.
pub const MOST_REPLAYED: usize = DEAD;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    /// It was taken.
    Delivered {
        /// The HTTP status.
        status: u16,
    },
    /// It was not, and will not be: there is no sense in asking again.
    Refused {
        /// Why.
        why: String,
    },
    /// It was not, and may be later.
    Failed {
        /// Why.
        why: String,
        /// When the receiver wants to be asked again, from now.
        retry_after: Option<Duration>,
    },
}

/// What the answer of a receiver means: 2xx is taken; 408, 425, 429 and 5xx may change; anything else will not, and
/// redirects are not followed.
#[must_use]
pub fn judge(status: u16, retry_after: Option<Duration>) -> Attempted {
    match status {
        200..=299 => Attempted::Delivered { status },
        408 | 425 | 429 | 500..=599 => Attempted::Failed { why: format!("answered {status}"), retry_after },
        300..=399 => Attempted::Refused { why: format!("answered {status}: redirects are not followed") },
        _ => Attempted::Refused { why: format!("answered {status}") },
    }
}

/// What a lane wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Send this event; tell what came of it by [`Lane::attempted`].
    Send {
        /// The event.
        event: Arc<Event>,
        /// The how manieth attempt it is, from 1.
        attempt: u32,
    },
    /// Nothing before this time.
    Wait {
        /// When to ask again.
        until: Time,
    },
    /// Get events after this id, and tell them by [`Lane::events`]. When there are none, wait until there are.
    Events {
        /// The id.
        after: u64,
    },
    /// Get the event of this id, to send it again, and tell it by [`Lane::found`].
    Find {
        /// The id.
        event: u64,
    },
    /// Nothing until something is changed.
    Nothing,
}

/// How soon what a lane knows must be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Unwritten {
    /// It is as it was written.
    #[default]
    No,
    /// Events were passed over: nothing is lost if they are looked at again.
    Passed,
    /// Events were delivered: they would be delivered again.
    Delivered,
    /// An event was given up, or a replay was done.
    Decided,
}

#[derive(Debug, Clone)]
struct Current {
    event: Arc<Event>,
    /// Attempts that failed.
    failed: u32,
    next_at: Option<Time>,
    again: bool,
}

/// One webhook's way through the events.
#[derive(Debug, Clone)]
pub struct Lane {
    cursor: WebhookCursor,
    /// Events that are wanted, in order.
    waiting: VecDeque<Arc<Event>>,
    /// Up to which events were looked at.
    seen: u64,
    current: Option<Current>,
    /// Events to be sent again, and the number of the request for it.
    again: BTreeSet<u64>,
    replay: u64,
    paused: bool,
    unwritten: Unwritten,
}

impl Lane {
    /// Goes on where the cursor stands.
    #[must_use]
    pub fn new(cursor: WebhookCursor) -> Self {
        Self {
            seen: cursor.after,
            replay: cursor.replayed,
            cursor,
            waiting: VecDeque::new(),
            current: None,
            again: BTreeSet::new(),
            paused: false,
            unwritten: Unwritten::No,
        }
    }

    /// What is to be written down.
    #[must_use]
    pub const fn cursor(&self) -> &WebhookCursor {
        &self.cursor
    }

    /// How soon.
    #[must_use]
    pub const fn unwritten(&self) -> Unwritten {
        self.unwritten
    }

    /// It was written.
    pub const fn written(&mut self) {
        self.unwritten = Unwritten::No;
    }

    /// How many events wait here.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len() + usize::from(self.current.is_some())
    }

    /// The webhook was changed: pauses or goes on, tries at once what waited to be tried again, and looks anew at what
    /// was not sent yet, as the filters may be others.
    pub fn changed(&mut self, paused: bool) {
        self.paused = paused;
        self.waiting.clear();
        match self.current.as_mut().filter(|it| it.again) {
            Some(current) => current.next_at = None,
            None => self.current = None,
        }
        self.seen = self.cursor.after;
    }

    /// Nothing can be sent, for a reason that is told; nothing is given up for that.
    pub fn blocked(&mut self, why: &str) {
        self.paused = true;
        if self.cursor.last.as_deref() != Some(why) {
            self.cursor.last = Some(why.to_owned());
            self.unwritten = Unwritten::Decided;
        }
    }

    /// Somebody asked, under a number that rises, that events be sent again.
    pub fn replay(&mut self, number: u64, events: &BTreeSet<u64>) {
        if number > self.replay {
            self.replay = number;
            self.again.extend(events.iter().copied().take(MOST_REPLAYED));
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&mut self, now: Time) -> Next {
        if self.paused {
            return Next::Nothing;
        }
        if self.current.is_none() {
            if let Some(event) = self.again.first() {
                return Next::Find { event: *event };
            }
            if self.cursor.replayed != self.replay {
                self.cursor.replayed = self.replay;
                self.unwritten = Unwritten::Decided;
            }
            let event = self.waiting.pop_front();
            self.current = event.map(|event| Current { event, failed: 0, next_at: None, again: false });
        }
        match &self.current {
            Some(Current { next_at: Some(at), .. }) if *at > now => Next::Wait { until: *at },
            Some(current) => Next::Send { event: Arc::clone(&current.event), attempt: current.failed + 1 },
            None => Next::Events { after: self.seen },
        }
    }

    /// The events after the id that was asked for, of those wanted, in order, and up to which were looked at.
    pub fn events(&mut self, events: Vec<Arc<Event>>, seen: u64) {
        let seen = seen.max(self.seen);
        if events.is_empty() && self.waiting.is_empty() && self.current.is_none() && seen > self.cursor.after
        {
            self.cursor.after = seen;
            self.unwritten = self.unwritten.max(Unwritten::Passed);
        }
        self.waiting.extend(events);
        self.seen = seen;
    }

    /// The event that was to be found; `None` when it is no longer kept.
    pub fn found(&mut self, id: u64, event: Option<Arc<Event>>) {
        self.again.remove(&id);
        match event {
            Some(event) => self.current = Some(Current { event, failed: 0, next_at: None, again: true }),
            None => {
                self.cursor.dead.retain(|it| it.event != id);
                self.cursor.last = Some(format!("event {id} is no longer kept: it can't be sent again"));
                self.unwritten = Unwritten::Decided;
            }
        }
    }

    /// What came of the attempt that [`Next::Send`] asked for.
    pub fn attempted(&mut self, now: Time, at: Timestamp, attempted: Attempted) {
        let Some(mut current) = self.current.take() else { return };
        self.cursor.last_at = Some(at);
        let id = current.event.id;
        match attempted {
            Attempted::Delivered { status } => {
                self.cursor.last = Some(format!("answered {status}"));
                self.cursor.dead.retain(|it| it.event != id);
                let done = if current.again { Unwritten::Decided } else { Unwritten::Delivered };
                self.done(&current, done);
            }
            Attempted::Refused { why } => self.give_up(&current, at, why),
            // By hand it is sent once, and others wait: when nobody is there now, the rest would fail like it.
            Attempted::Failed { why, .. } if current.again => {
                self.again.clear();
                self.give_up(&current, at, why);
            }
            Attempted::Failed { why, retry_after } => {
                let wait = usize::try_from(current.failed).ok().and_then(|it| WAITS.get(it));
                let Some(wait) = wait else { return self.give_up(&current, at, why) };
                let wait = retry_after.unwrap_or_default().clamp(*wait, LONGEST_WAIT);
                self.cursor.last = Some(why);
                current.failed += 1;
                current.next_at = Some(now + wait);
                self.current = Some(current);
            }
        }
    }

    fn give_up(&mut self, current: &Current, at: Timestamp, why: String) {
        let (event, dead) = (current.event.id, &mut self.cursor.dead);
        let before = dead.iter().position(|it| it.event == event).map(|at| dead.remove(at).attempts);
        self.cursor.last = Some(why.clone());
        let attempts = before.unwrap_or(0) + current.failed + 1;
        dead.push(DeadDelivery { event, attempts, reason: why, at });
        let surplus = dead.len().saturating_sub(DEAD);
        dead.drain(..surplus);
        self.done(current, Unwritten::Decided);
    }

    fn done(&mut self, current: &Current, unwritten: Unwritten) {
        self.unwritten = self.unwritten.max(unwritten);
        if !current.again {
            // What is between this and the next that is wanted was looked at, and was not.
            let next = self.waiting.front().map_or(self.seen, |next| next.id - 1);
            self.cursor.after = self.cursor.after.max(next.max(current.event.id));
        }
    }
}

#[cfg(test)]
mod tests;
