//! Asking about Kubernetes: what agents of clusters ask, and what people do.

mod people;

use std::{collections::VecDeque, time::Duration};

use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{Client, ClientError, decode, encode, with_query};
use crate::{
    kube::{
        Desired, DesiredQuery, Diagnostics, DiagnosticsResult, HealthReport, HealthReportAnswer,
        KubeAgentRegistered, KubeAgentRegistration, PendingDiagnostics, PendingRequest,
    },
    sse,
};

/// Signs of life come every 10 s; without one for this long the connection is dead.
const SILENCE: Duration = Duration::from_secs(30);

/// A long-poll is held for no longer.
const LONGEST_WAIT: Duration = Duration::from_secs(25);

/// What an agent is told on its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentPush {
    /// What is desired of it has changed.
    Desired {
        /// The new revision.
        revision: String,
    },
    /// A request for diagnostics can be taken.
    Diagnostics(PendingRequest),
}

/// What the server tells an agent as it happens. Ends with the connection: open another, and ask for what is desired
/// and pending meanwhile.
#[derive(Debug)]
pub struct AgentStream {
    body: Incoming,
    decoder: sse::Decoder,
    messages: Vec<sse::Message>,
    ready: VecDeque<AgentPush>,
}

#[derive(Deserialize)]
struct Revision {
    revision: String,
}

impl AgentStream {
    /// The next thing; what a newer server tells and this version does not know is left out.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the stream has ended, [`ClientError::Timeout`] when no sign of life comes.
    pub async fn next(&mut self) -> Result<AgentPush, ClientError> {
        loop {
            if let Some(push) = self.ready.pop_front() {
                return Ok(push);
            }
            let frame = timeout(SILENCE, self.body.frame())
                .await
                .map_err(|_| ClientError::Timeout(format!("no sign of life for {SILENCE:?}")))?;
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    return Err(ClientError::Unreachable(format!("the connection was lost: {error}")));
                }
                None => return Err(ClientError::Unreachable("the server has ended the stream".to_owned())),
            };
            let Some(piece) = frame.data_ref() else { continue };
            let fed = self.decoder.feed(piece, &mut self.messages);
            fed.map_err(|error| ClientError::Protocol(error.to_owned()))?;
            for message in self.messages.drain(..) {
                self.ready.extend(push(&message)?);
            }
        }
    }
}

fn push(message: &sse::Message) -> Result<Option<AgentPush>, ClientError> {
    let wrong = |error: serde_json::Error| {
        ClientError::Protocol(format!("the stream tells what makes no sense: {error}"))
    };
    Ok(match message.event.as_str() {
        "desired" => {
            let Revision { revision } = serde_json::from_str(&message.data).map_err(wrong)?;
            Some(AgentPush::Desired { revision })
        }
        "diagnostics" => Some(AgentPush::Diagnostics(serde_json::from_str(&message.data).map_err(wrong)?)),
        _ => None,
    })
}

/// `/api/v1/agents/{agent}` and what follows.
fn agent_path(agent: &str, rest: &str) -> String {
    format!("/api/v1/agents/{}{rest}", encode(agent))
}

impl Client {
    /// Registers the agent that this client's token is for. Doing so again changes only what it says of itself.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn register_kube_agent(
        &self,
        registration: &KubeAgentRegistration,
    ) -> Result<KubeAgentRegistered, ClientError> {
        self.post("/api/v1/agents/register", registration).await
    }

    /// What an agent is to see to. With `after`, waits until it is another revision, for `wait` at most (and no longer
    /// than 25 s); the same revision comes back when there is none.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn desired(
        &self,
        agent: &str,
        after: Option<&str>,
        wait: Duration,
    ) -> Result<Desired, ClientError> {
        let wait = wait.min(LONGEST_WAIT).as_millis();
        let query = DesiredQuery { after: after.map(str::to_owned), wait: Some(format!("{wait}ms")) };
        self.get(&with_query(&agent_path(agent, "/desired"), &query)).await
    }

    /// What an agent is told as it happens.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn agent_stream(&self, agent: &str) -> Result<AgentStream, ClientError> {
        let response = self.open(&agent_path(agent, "/stream"), Some("text/event-stream"), None).await?;
        Ok(AgentStream {
            body: response.into_body(),
            decoder: sse::Decoder::default(),
            messages: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// Tells how an agent's deployment objects are.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]. Single entries that are not taken stand in the answer.
    pub async fn report_health(
        &self,
        agent: &str,
        report: &HealthReport,
    ) -> Result<HealthReportAnswer, ClientError> {
        self.patch(&agent_path(agent, "/health-status"), report).await
    }

    /// Requests for diagnostics that an agent can take, oldest first.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn pending_diagnostics(&self, agent: &str) -> Result<PendingDiagnostics, ClientError> {
        self.get(&agent_path(agent, "/diagnostics/pending")).await
    }

    /// Takes a request: from then on there are two minutes to post its result.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when it is taken already; as every call: see [`ClientError`].
    pub async fn claim_diagnostics(&self, request: &str) -> Result<Diagnostics, ClientError> {
        let path = format!("/api/v1/diagnostics/{}/claim", encode(request));
        self.post(&path, &serde_json::json!({})).await
    }

    /// Posts what was collected. The same once more is no mistake.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn post_diagnostics_result(
        &self,
        request: &str,
        result: &DiagnosticsResult,
    ) -> Result<Diagnostics, ClientError> {
        let path = format!("/api/v1/diagnostics/{}/result", encode(request));
        self.post(&path, result).await
    }

    /// Changes part of something: sends JSON; the answer is JSON.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Protocol(error.to_string()))?;
        decode(self.send(Method::PATCH, path, Some(body), &[]).await?).await
    }
}
