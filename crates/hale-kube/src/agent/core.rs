//! The task that owns what is known.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Mode, Shared, Told, brain::Brain};
use crate::{
    cluster::{ClusterError, Seen, Watch},
    health,
};

/// How long changes are collected before they are judged: a rollout changes many pods at once.
const TOGETHER: Duration = Duration::from_millis(200);

/// How often it comes round at least, so that others see that it lives.
const ROUND: Duration = Duration::from_secs(5);

/// How often old events are forgotten.
const FORGET: Duration = Duration::from_secs(300);

/// Runs until the end.
pub(super) async fn run(
    shared: Arc<Shared>,
    watches: Vec<Watch>,
    mut seen: mpsc::Receiver<(Watch, Seen)>,
    mut inbox: mpsc::Receiver<Told>,
) {
    let namespaces = shared.options.namespaces.clone();
    let brain = Brain::new(&watches, namespaces, &shared.namespace);
    let now = Instant::now();
    let mut core = Core { shared, brain, all_told: now, forgotten: now, turn: now, counted: false };
    let mut desired = core.shared.desired.subscribe();
    let end = core.shared.end.clone();
    let mut watching = true;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = sleep_until(core.turn) => core.turn(),
            one = seen.recv(), if watching => match one {
                Some((watch, seen)) => core.seen(&watch, seen),
                None => watching = false,
            },
            told = inbox.recv() => if let Some(told) = told { core.told(told) },
            changed = desired.changed() => {
                if changed.is_ok() {
                    let wanted = Arc::clone(&desired.borrow_and_update());
                    core.brain.wanted(&wanted.objects, wanted.mode == Mode::Apply);
                    let ids = wanted.objects.iter().map(|it| it.id.as_str()).collect();
                    core.shared.outbox.keep_only(&ids);
                    core.all_told = Instant::now();
                    core.counted = false;
                    if !core.shared.options.health {
                        core.tell_disabled();
                    }
                    core.soon();
                }
            }
        }
    }
}

struct Core {
    shared: Arc<Shared>,
    brain: Brain,
    all_told: Instant,
    forgotten: Instant,
    /// When it judges next: soon after a change, and otherwise when time alone may change something.
    turn: Instant,
    /// Whether the metrics have the statuses of all objects as they are.
    counted: bool,
}

impl Core {
    fn seen(&mut self, watch: &Watch, seen: Seen) {
        if let Seen::Broken(error) = &seen {
            let (kind, namespace) = (watch.kind.as_str(), &watch.namespace);
            // It is tried for ever: once is enough to hear of it, unless what may not be seen has another reason now.
            let refused = matches!(error, ClusterError::Forbidden(_) | ClusterError::NotFound(_));
            let before = self.brain.broken_by(watch);
            if before.is_some_and(|it| !refused || it == error.to_string()) {
                tracing::debug!(kind, namespace, %error, "a watch is still broken");
            } else {
                tracing::warn!(kind, namespace, %error, "a watch is broken");
            }
        }
        self.shared.metrics.seen(watch.kind, &seen);
        let now = self.shared.now();
        self.brain.seen(watch, seen, now);
        self.soon();
    }

    /// Something has changed: others that change with it are judged together.
    fn soon(&mut self) {
        self.turn = self.turn.min(Instant::now() + TOGETHER);
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Outcome(id, outcome) => {
                let now = self.shared.now();
                self.brain.applied(&id, outcome, now);
                self.soon();
            }
            Told::Family(id, answer) => {
                // Nobody waits for it any more: that is theirs to know.
                let _ = answer.send(self.brain.family(&id));
            }
        }
    }

    fn turn(&mut self) {
        self.judge();
        let begun = Instant::now();
        let left = |since: Instant, every: Duration| every.saturating_sub(since.elapsed());
        let interval = self.shared.options.interval;
        let mut wait = ROUND.min(left(self.all_told, interval)).min(left(self.forgotten, FORGET));
        let next = self.brain.next().filter(|_| self.shared.options.health);
        if let Some(next) = next {
            wait = wait.min(next.since(self.shared.now()));
        }
        // Not at once again either: there may be more due than is judged at one time.
        self.turn = begun + wait.max(TOGETHER);
    }

    fn judge(&mut self) {
        let (now, at) = (Timestamp::now(), self.shared.now());
        let interval = self.shared.options.interval;
        if self.shared.options.health {
            let begun = Instant::now();
            let news = self.brain.judge(now, at, interval);
            if !news.is_empty() {
                self.shared.metrics.judged(news.len(), begun.elapsed());
                self.counted = false;
            }
            for (id, health) in &news {
                tracing::info!(
                    deployment_object = id, status = %health.status, pods_ready = health.pods_ready,
                    pods_total = health.pods_total, conditions = ?health.conditions, "health changed"
                );
            }
            self.shared.outbox.put(news, now, true);
        }
        if self.all_told.elapsed() >= interval {
            self.all_told = Instant::now();
            if self.shared.options.health {
                self.shared.outbox.put(self.brain.all(), now, false);
            } else {
                self.tell_disabled();
            }
            self.shared.outbox.beat();
        }
        if self.forgotten.elapsed() >= FORGET {
            self.forgotten = Instant::now();
            self.brain.forget(now);
        }
        self.tell_state();
    }

    fn tell_disabled(&self) {
        let desired = Arc::clone(&self.shared.desired.borrow());
        let all = desired.objects.iter().map(|it| (it.id.clone(), health::disabled())).collect();
        self.shared.outbox.put(all, Timestamp::now(), true);
    }

    fn tell_state(&mut self) {
        let (ready, gaps) = (self.brain.ready(), self.brain.gaps());
        self.shared.metrics.held(self.brain.held());
        if !std::mem::replace(&mut self.counted, true) {
            self.shared.metrics.statuses(&self.brain.statuses());
        }
        self.shared.state.send_modify(|state| {
            state.turned = Instant::now();
            state.ready = ready;
            state.gaps = gaps;
        });
    }
}
