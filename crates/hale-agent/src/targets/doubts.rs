//! What the node thinks of its own probes (H22): of all of them, and of those of other machines.

use hale_check::Finished;
use hale_health::{Observer, Verdict};
use hale_supervisor::{guard::Guard, outside::Outside};
use tokio::sync::watch;

use super::{
    runner::{Runner, Touched},
    watched::Watched,
};

/// Who doubts, and what was heard of it last.
pub(super) struct Doubts {
    guard: Option<Guard>,
    outside: Option<Outside>,
    heard: [Option<watch::Receiver<Observer>>; 2],
    last: [Observer; 2],
}

impl Doubts {
    pub(super) fn new(guard: Option<Guard>, outside: Option<Outside>) -> Self {
        let heard = [guard.as_ref().map(Guard::observer), outside.as_ref().map(Outside::observer)];
        Self { guard, outside, heard, last: [Observer::Sound, Observer::Sound] }
    }

    /// Waits until somebody thinks otherwise.
    pub(super) async fn changed(&mut self) {
        let [all, elsewhere] = &mut self.heard;
        tokio::select! {
            () = change(all) => {}
            () = change(elsewhere) => {}
        }
    }

    /// What is thought now of a probe, of another machine or of this one.
    pub(super) fn now(&self, elsewhere: bool) -> Observer {
        let [all, there] =
            [0, 1].map(|at: usize| self.heard[at].as_ref().map_or(Observer::Sound, |it| it.borrow().clone()));
        worse(all, there, elsewhere)
    }

    fn before(&self, elsewhere: bool) -> Observer {
        let [all, there] = self.last.clone();
        worse(all, there, elsewhere)
    }

    fn take(&mut self) {
        for (last, heard) in self.last.iter_mut().zip(&mut self.heard) {
            if let Some(heard) = heard {
                last.clone_from(&heard.borrow_and_update());
            }
        }
    }

    /// Shows an outcome to those who doubt, first: the failure that makes them suspicious is held already.
    pub(super) fn show(&self, name: &str, host: &str, finished: &Finished) {
        match &finished.result.verdict {
            Verdict::Failure { reason, .. } if reason.is_prober_error() => {}
            verdict => {
                let (probe, healthy) = (probe_name(name), verdict.is_success());
                if let Some(guard) = &self.guard {
                    guard.outcome(&probe, host, healthy);
                }
                if let Some(outside) = &self.outside {
                    outside.outcome(&probe, host, healthy);
                }
            }
        }
    }

    pub(super) fn forget(&self, name: &str) {
        let probe = probe_name(name);
        if let Some(guard) = &self.guard {
            guard.forget(&probe);
        }
        if let Some(outside) = &self.outside {
            outside.forget(&probe);
        }
    }
}

async fn change(heard: &mut Option<watch::Receiver<Observer>>) {
    if let Some(receiver) = heard {
        if receiver.changed().await.is_ok() {
            return;
        }
        *heard = None;
    }
    std::future::pending().await
}

/// The worse of what is thought of all probes and of those elsewhere.
fn worse(all: Observer, there: Observer, elsewhere: bool) -> Observer {
    let rank = |it: &Observer| match it {
        Observer::Sound => 0,
        Observer::Suspect { confirmed: false, .. } => 1,
        Observer::Suspect { confirmed: true, .. } => 2,
        Observer::Blind { .. } => 3,
    };
    if elsewhere && rank(&there) > rank(&all) { there } else { all }
}

/// Whether the node has found itself unwell.
const fn is_unwell(observer: &Observer) -> bool {
    matches!(observer, Observer::Blind { .. } | Observer::Suspect { confirmed: true, .. })
}

/// What the guards know a target by.
fn probe_name(name: &str) -> String {
    format!("target {name}")
}

impl Runner {
    /// What is thought now of the checks of a target.
    pub(super) fn observer_of(&self, watched: &Watched) -> Observer {
        self.doubts.now(watched.elsewhere)
    }

    pub(super) fn on_observer(&mut self) -> Touched {
        let before = [false, true].map(|elsewhere| self.doubts.before(elsewhere));
        self.doubts.take();
        let after = [false, true].map(|elsewhere| self.doubts.before(elsewhere));
        let now = self.clock.now();
        let mut notes = Vec::new();
        for (name, watched) in &mut self.watched {
            let (was, is) = (&before[usize::from(watched.elsewhere)], &after[usize::from(watched.elsewhere)]);
            if was == is {
                continue;
            }
            let blind = matches!(is, Observer::Blind { .. });
            let was_blind = matches!(was, Observer::Blind { .. });
            // What an unwell node saw is forgotten when it goes blind, and when it is well again.
            if blind != was_blind || (is_unwell(was) && !is_unwell(is)) {
                watched.machine.observer_changed(now, blind);
            }
            notes.push((name.clone(), watched.machine.settle(now, is)));
        }
        for (name, note) in notes {
            self.tell(&name, note);
        }
        Touched::All
    }
}
