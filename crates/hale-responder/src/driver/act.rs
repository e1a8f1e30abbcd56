//! Doing what was decided.

use std::time::Duration;

use hale_model::spec::{Program, SuccessWhen};

use super::{
    ask, send,
    work::{Done, Work},
};
use crate::{
    desk::{Effect, StartRun, WatchRun},
    exec::Job,
};

impl Work {
    /// Everything on record before this is durable by now.
    pub(super) fn act(&mut self, effect: Effect) {
        match effect {
            Effect::PutAlert(record) => self.notes.recorded(&record),
            Effect::PutRun(run) => {
                self.notes.changed(&run);
                if run.state.is_final() {
                    self.live.remove(&run.id);
                } else {
                    self.live.insert(run.id.clone());
                }
            }
            Effect::Start(start) => self.start(*start),
            Effect::Watch(watch) => self.watch(*watch),
            Effect::Unwatch { run } => {
                if let Some(watch) = self.watches.remove(&run) {
                    watch.cancel();
                }
            }
            Effect::Send { run, to } => {
                let (record, book) = (run, self.book());
                // At the end it is given up, and taken up again by the next start.
                let stop = self.end.child_token();
                self.tasks.spawn(async move {
                    match stop.run_until_cancelled(send::send(&book, &record, &to)).await {
                        Some(sent) => Done::Sent(record, sent),
                        None => Done::Off,
                    }
                });
            }
            Effect::Note(note) => self.notes.note(&note),
        }
    }

    fn start(&mut self, start: StartRun) {
        let StartRun { run, alert, program, success } = start;
        let id = run.id.clone();
        let job = Job {
            timeout: self.timeout_of(&program),
            kubeconfig: self.kubeconfig(&alert.cluster),
            artifact: artifact(&success),
            run,
            alert,
            program,
        };
        let (executor, stop, name) = (self.executor.clone(), self.stop.child_token(), id.clone());
        let task = self.tasks.spawn(async move { Done::Ran(name, executor.run(job, stop).await) });
        self.running.insert(task.id(), id);
    }

    /// R10: whoever can tell is asked whether the resource is well, until it is or the time is over. It holds no worker.
    fn watch(&mut self, watch: WatchRun) {
        let off = self.end.child_token();
        if let Some(earlier) = self.watches.insert(watch.run.id.clone(), off.clone()) {
            earlier.cancel();
        }
        let WatchRun { run, alert, when } = watch;
        let done = Done::Healthy(alert.cluster.clone(), alert.resource.clone());
        match when {
            Some(program) => {
                let job = Job {
                    timeout: self.timeout_of(&program).min(ask::LONGEST),
                    kubeconfig: self.kubeconfig(&alert.cluster),
                    artifact: None,
                    run,
                    alert,
                    program,
                };
                let executor = self.executor.clone();
                self.tasks.spawn(async move {
                    if ask::program(&executor, &job, &off).await { done } else { Done::Off }
                });
            }
            None => {
                let source = self.responder.sources.iter().find(|it| it.name == alert.cluster).cloned();
                let Some(source) = source else { return };
                let own_hale = self.own_hale.clone();
                self.tasks.spawn(async move {
                    if ask::source(&source, own_hale.as_ref(), &alert.resource, &off).await {
                        done
                    } else {
                        Done::Off
                    }
                });
            }
        }
    }

    fn timeout_of(&self, program: &Program) -> Duration {
        program.timeout.unwrap_or(self.settings.run_timeout)
    }

    fn kubeconfig(&self, cluster: &str) -> Option<std::path::PathBuf> {
        self.responder.sources.iter().find(|it| it.name == cluster)?.kubeconfig.clone()
    }
}

fn artifact(success: &SuccessWhen) -> Option<(std::path::PathBuf, u64)> {
    success.artifact.as_ref().map(|it| (it.path.clone(), it.min_bytes))
}
