//! The end of a responder (R13).

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{
    Farewell,
    tasks::join,
    work::{Done, Round, Work},
};
use crate::exec::{Ended, How};

/// How long the last word may take to be written.
pub(super) const LAST_WRITES: Duration = Duration::from_secs(5);

/// How long programs have to be ended by force; the executor needs its grace and a little more.
const FORCED: Duration = Duration::from_secs(15);

impl Work {
    /// R13: nothing new is begun; what runs has its time, then its end.
    pub(super) async fn shut_down(mut self) -> Farewell {
        self.standing.send_modify(|it| it.ending = true);
        self.desk.hold();
        // Whoever waits for an answer is told that there will be none.
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
        self.take_the_rest().await;
        let in_flight = self.running.len();
        let (mut completed, mut interrupted) = (0, 0);
        let patience = sleep(self.settings.shutdown_timeout);
        tokio::pin!(patience);
        let mut hurried = false;
        let forced = sleep(Duration::MAX);
        tokio::pin!(forced);
        while !self.tasks.is_empty() {
            let done = tokio::select! {
                done = join(&mut self.tasks, &mut self.running) => done,
                () = &mut patience, if !self.stop.is_cancelled() => {
                    self.stop.cancel();
                    forced.as_mut().reset(Instant::now() + FORCED);
                    continue;
                }
                () = self.hurry.cancelled(), if !hurried => {
                    hurried = true;
                    self.stop.cancel();
                    self.executor.hurry();
                    forced.as_mut().reset(Instant::now() + FORCED);
                    continue;
                }
                () = &mut forced => break,
            };
            match &done {
                Done::Ran(_, Ended { how: How::Interrupted, .. }) => interrupted += 1,
                Done::Ran(..) => completed += 1,
                _ => {}
            }
            let mut round = Round::default();
            self.done(done, &mut round);
            if timeout(LAST_WRITES, self.settle(round)).await.is_err() {
                tracing::error!("the end of a run could not be written in time");
            }
        }
        Farewell { in_flight, completed, interrupted }
    }

    /// What was heard already is kept for the next start: not every source tells it again.
    async fn take_the_rest(&mut self) {
        self.heard.close();
        let mut round = Round::default();
        while let Ok(message) = self.heard.try_recv() {
            self.take(message, &mut round);
        }
        if timeout(LAST_WRITES, self.settle(round)).await.is_err() {
            tracing::error!("the last alerts could not be written in time");
        }
    }
}
