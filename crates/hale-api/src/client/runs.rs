//! Asking about the runs of a responder (R11, R12).

use super::{Client, ClientError, encode, with_query};
use crate::runs::{AlertList, Run, RunDecision, RunDetail, RunPage, RunQuery};

impl Client {
    /// A page of runs, the newest first.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn runs(&self, query: &RunQuery) -> Result<RunPage, ClientError> {
        self.get(&with_query("/api/v1/runs", query)).await
    }

    /// One run, with its alert and the ends of its outputs.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn run(&self, id: &str) -> Result<RunDetail, ClientError> {
        self.get(&format!("/api/v1/runs/{}", encode(id))).await
    }

    /// Says that a run that waits for a person goes on, or does not; the run as it stands then.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]. [`ClientError::Refused`] when it does not wait for a person, or the other was
    /// said already.
    pub async fn decide_run(
        &self,
        id: &str,
        approve: bool,
        decision: &RunDecision,
    ) -> Result<Run, ClientError> {
        let verb = if approve { "approve" } else { "reject" };
        self.post(&format!("/api/v1/runs/{}/{verb}", encode(id)), decision).await
    }

    /// The newest alerts, and what became of each.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn alerts(&self) -> Result<AlertList, ClientError> {
        self.get("/api/v1/alerts").await
    }
}
