//! Diagnostics on request (K9): asked for by people, taken and answered by agents, read, and gone.
//!
//! What is asked and how far it is stands in a record that every server follows; the result, which may be large, stands
//! beside it and is read when it is asked for. All times are by the database's clock.

use hale_api::{
    Code,
    kube::{
        Diagnostics, DiagnosticsAccepted, DiagnosticsQuery, DiagnosticsRequest, DiagnosticsResult,
        PendingDiagnostics, PendingRequest,
    },
    problem::Mistake,
};
use hale_model::{
    cluster::{DiagnosticsRecord, DiagnosticsStatus, KubeAgentRecord},
    event::{DiagnosticsCompleted, EventData, NewEvent},
};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{
    Kube, new_id,
    queue::{self, Posted, StepError},
    stacks::find_object,
    unchanged, view,
};
use crate::{
    asker::Asker,
    cluster::snapshot::{Kept, KubeRecords},
    problems::{Answer, Refusal},
};

/// Requests of one agent that may wait for their end at once, and of all: more are refused, so that a script that asks
/// without end costs the agent and the database no more than that.
const MOST_OPEN: usize = 100;
const MOST: usize = 10_000;

/// Why a request fails at once (K9).
const DISABLED: &str = "diagnostics_disabled";

/// The longest reason of a failure that is kept.
const LONGEST_ERROR: usize = 2000;

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        let code = match error {
            StepError::Expired => Code::NotFound,
            StepError::Taken { .. } | StepError::Over(_) => Code::NotApplicable,
        };
        Self::new(code, error.to_string())
    }
}

/// What diagnostics are asked of.
#[derive(Debug, Clone)]
pub(crate) enum Of {
    /// A deployment object.
    Object(String),
    /// A replica or target on a node (K12).
    Replica(String),
}

fn expired_or_none(id: &str) -> Refusal {
    Refusal::new(
        Code::NotFound,
        format!("there is no request {:?}, or it has expired", crate::cluster::short(id)),
    )
}

impl Kube {
    /// Asks for diagnostics of a deployment object.
    ///
    /// # Errors
    /// When there is none, it is superseded, nobody holds it, several do and none is named, too many wait, or the
    /// database takes nothing.
    pub(crate) async fn ask(
        &self,
        object: &str,
        request: &DiagnosticsRequest,
        asker: &Asker,
    ) -> Answer<DiagnosticsAccepted> {
        find_object(&self.fresh().await.kube, object)?;
        let (id, now) = (new_id()?, self.store.now().await?);
        let (_, record) = self
            .attempt(|kube| {
                let (object, stack) = find_object(kube, object)?;
                if stack.current() != Some(&object.id) {
                    let detail = format!("it is superseded: the newest of stack {} is another", stack.name);
                    return Err(Refusal::new(Code::NotApplicable, detail));
                }
                let holders: Vec<&KubeAgentRecord> = kube.agents_of(stack).map(|it| &*it.record).collect();
                let agent = choose(&holders, request.agent_id.as_deref())?;
                let off = (!agent.diagnostics_enabled).then_some(DISABLED);
                self.queued(kube, &id, Of::Object(object.id.clone()), (&agent.id, off), asker, now)
            })
            .await?;
        self.counted.asked.inc();
        Ok(DiagnosticsAccepted {
            request_id: record.id,
            status: record.status,
            expires_at: record.expires_at,
        })
    }

    /// The write of a new request; `off`: why it fails at once.
    pub(crate) fn queued(
        &self,
        kube: &KubeRecords,
        id: &str,
        of: Of,
        (agent_id, off): (&str, Option<&str>),
        asker: &Asker,
        now: Timestamp,
    ) -> Answer<(Write, DiagnosticsRecord)> {
        let open = kube.diagnostics.values().filter(|it| it.agent_id == agent_id && !it.status.is_final());
        if open.count() >= MOST_OPEN || kube.diagnostics.len() >= MOST {
            return Err(Refusal::too_often(10));
        }
        let retention = SignedDuration::try_from(self.options.retention).unwrap_or(SignedDuration::MAX);
        let (subject, object_id, replica) = match of {
            Of::Object(id) => (format!("deployment-objects/{id}"), Some(id), None),
            Of::Replica(name) => (format!("replicas/{name}"), None, Some(name)),
        };
        let record = DiagnosticsRecord {
            id: id.to_owned(),
            object_id,
            replica,
            agent_id: agent_id.to_owned(),
            status: if off.is_some() { DiagnosticsStatus::Failed } else { DiagnosticsStatus::Pending },
            requested_by: asker.name().to_owned(),
            created_at: now,
            claimed_at: None,
            completed_at: off.map(|_| now),
            expires_at: now.saturating_add(retention).unwrap_or(Timestamp::MAX),
            error: off.map(str::to_owned),
            claims: 0,
            digest: None,
        };
        let audit = asker.audit(asker.name(), "diagnose", subject, vec![format!("request {id}")]);
        let guards = vec![Guard::Absent(Key::new(Kind::Diagnostics, id))];
        let mut changes =
            vec![Change::Put(Record::Diagnostics(Box::new(record.clone()))), Change::Audit(Box::new(audit))];
        changes.extend(off.map(|_| ended(kube, &record, now)));
        Ok((Write { changes, guards }, record))
    }

    /// A request, with its result once there is one.
    ///
    /// # Errors
    /// When there is none, it has expired, or the database can't be read.
    pub(crate) async fn diagnostics(&self, id: &str) -> Answer<Diagnostics> {
        let record = self.request(id).await?;
        let result = match record.status {
            DiagnosticsStatus::Completed => {
                let mut texts = self.store.texts(Kind::Diagnostics, std::slice::from_ref(&record.id)).await?;
                let text = texts.remove(&record.id).ok_or_else(|| expired_or_none(id))?;
                Some(crate::problems::parse(text.as_bytes())?)
            }
            _ => None,
        };
        Ok(view::diagnostics(&record, result))
    }

    /// The record of a request, wherever it was made.
    ///
    /// # Errors
    /// When there is none, or it has expired.
    pub(crate) async fn request(&self, id: &str) -> Answer<DiagnosticsRecord> {
        let mut snapshot = self.snapshot();
        if !snapshot.kube.diagnostics.contains_key(id) {
            snapshot = self.fresh().await;
        }
        let kept = snapshot.kube.diagnostics.get(id).ok_or_else(|| expired_or_none(id))?;
        let now = self.store.now().await?;
        if queue::has_expired(kept, now) {
            return Err(expired_or_none(id));
        }
        Ok((*kept.record).clone())
    }

    /// Requests that have not expired, newest first, without their results.
    ///
    /// # Errors
    /// When the database does not tell the time.
    pub(crate) async fn all_diagnostics(&self, query: &DiagnosticsQuery) -> Answer<Vec<Diagnostics>> {
        let now = self.store.now().await?;
        let snapshot = self.snapshot();
        let wanted = |it: &&Kept<DiagnosticsRecord>| {
            !queue::has_expired(it, now)
                && query.status.is_none_or(|status| it.status == status)
                && query.deployment_object_id.as_ref().is_none_or(|id| it.object_id.as_ref() == Some(id))
        };
        let mut all: Vec<Diagnostics> =
            snapshot.kube.diagnostics.values().filter(wanted).map(|it| view::diagnostics(it, None)).collect();
        all.sort_by(|a, b| (b.created_at, &b.request_id).cmp(&(a.created_at, &a.request_id)));
        Ok(all)
    }

    /// What an agent can take now, oldest first.
    ///
    /// # Errors
    /// When the database does not tell the time.
    pub(crate) async fn pending(&self, agent_id: &str) -> Answer<PendingDiagnostics> {
        let now = self.store.now().await?;
        let snapshot = self.fresh().await;
        let mut found: Vec<&Kept<DiagnosticsRecord>> = snapshot
            .kube
            .diagnostics
            .values()
            .filter(|it| it.agent_id == agent_id && queue::is_claimable(it, self.options.claim, now))
            .collect();
        found.sort_by_key(|it| (it.created_at, it.id.clone()));
        Ok(PendingDiagnostics { requests: found.into_iter().filter_map(|it| pending_request(it)).collect() })
    }

    /// Takes a request for its agent.
    ///
    /// # Errors
    /// When it is taken, over, or the database takes nothing. Whose it is was looked at before.
    pub(crate) async fn claim(&self, id: &str) -> Answer<Diagnostics> {
        let now = self.store.now().await?;
        let (_, record) = self
            .attempt(|kube| {
                let kept = kube.diagnostics.get(id).ok_or_else(|| expired_or_none(id))?;
                let next = queue::claim(kept, self.options.claim, now)?;
                let changes = vec![Change::Put(Record::Diagnostics(Box::new(next.clone())))];
                let guards = vec![unchanged(kept, Key::new(Kind::Diagnostics, id))];
                Ok((Write { changes, guards }, next))
            })
            .await?;
        self.counted.claimed.inc();
        Ok(view::diagnostics(&record, None))
    }

    /// Takes a result for a request. The same once more changes nothing.
    ///
    /// # Errors
    /// When the request is over, or the database takes nothing. Whose it is was looked at before.
    pub(crate) async fn post(&self, id: &str, result: &DiagnosticsResult) -> Answer<Diagnostics> {
        let wrong = |error: serde_json::Error| Refusal::new(Code::BadRequest, error.to_string());
        let whole = serde_json::to_vec(result).map_err(wrong)?;
        let digest: String = Sha256::digest(&whole).iter().map(|it| format!("{it:02x}")).collect();
        let (text, error) = match result {
            DiagnosticsResult::Completed { result } => {
                (Some(serde_json::to_string(result).map_err(wrong)?), None)
            }
            DiagnosticsResult::Failed { error } => {
                (None, Some(error.chars().take(LONGEST_ERROR).collect::<String>()))
            }
        };
        self.end(id, text, error, digest).await
    }

    /// Gives a request its end: what was collected, or why nothing was. The same once more, by its digest, changes nothing.
    ///
    /// # Errors
    /// When the request is over, or the database takes nothing.
    pub(super) async fn end(
        &self,
        id: &str,
        text: Option<String>,
        error: Option<String>,
        digest: String,
    ) -> Answer<Diagnostics> {
        let now = self.store.now().await?;
        let (_, (record, is_new)) = self
            .attempt(|kube| {
                let kept = kube.diagnostics.get(id).ok_or_else(|| expired_or_none(id))?;
                let next = match queue::post(kept, error.clone(), digest.clone(), now)? {
                    Posted::Ended(next) => next,
                    Posted::Again => return Ok((Write::default(), ((*kept.record).clone(), false))),
                };
                let key = Key::new(Kind::Diagnostics, id);
                let guards = vec![unchanged(kept, key.clone())];
                let mut changes =
                    vec![Change::Put(Record::Diagnostics(next.clone())), ended(kube, &next, now)];
                changes.extend(text.clone().map(|it| Change::Text(key, it)));
                Ok((Write { changes, guards }, (*next, true)))
            })
            .await?;
        if is_new {
            self.counted.ended(record.status);
        }
        Ok(view::diagnostics(&record, None))
    }
}

/// A request as an agent of a cluster is told of it; those of nodes are not its business.
pub(crate) fn pending_request(it: &DiagnosticsRecord) -> Option<PendingRequest> {
    Some(PendingRequest { id: it.id.clone(), deployment_object_id: it.object_id.clone()? })
}

/// The event of a request that has come to its end.
pub(super) fn ended(kube: &KubeRecords, it: &DiagnosticsRecord, now: Timestamp) -> Change {
    let stack = it.object_id.as_ref().and_then(|id| kube.objects.get(id.as_str()));
    let stack = stack.and_then(|it| kube.stack(&it.stack_id)).map(|it| it.name.clone());
    let subject = it.replica.clone().or(stack).unwrap_or_else(|| it.id.clone());
    let data = EventData::DiagnosticsCompleted(DiagnosticsCompleted {
        request_id: it.id.clone(),
        deployment_object_id: it.object_id.clone(),
        replica: it.replica.clone(),
        agent_id: it.agent_id.clone(),
        requested_by: it.requested_by.clone(),
        status: it.status,
        error: it.error.clone(),
    });
    let source = "/server/diagnostics".to_owned();
    Change::Event(Box::new(NewEvent { time: now, source, subject, data }))
}

/// Who collects: the one that is named, or the only one.
fn choose<'a>(holders: &[&'a KubeAgentRecord], named: Option<&str>) -> Answer<&'a KubeAgentRecord> {
    if let Some(named) = named {
        let found = holders.iter().find(|it| it.id == named || it.name == named);
        return found
            .copied()
            .ok_or_else(|| several(holders, "the agent that is named does not hold this object"));
    }
    match holders {
        [] => Err(Refusal::new(Code::NotApplicable, "no agent is given the stack of this object")),
        [only] => Ok(only),
        _ => Err(several(holders, "several agents hold this object: name one as `agent_id`")),
    }
}

fn several(holders: &[&KubeAgentRecord], detail: &str) -> Refusal {
    let names: Vec<&str> = holders.iter().map(|it| it.name.as_str()).collect();
    let mut refusal = Refusal::new(Code::NotApplicable, format!("{detail}; there are {}", names.join(", ")));
    let agent =
        |it: &&KubeAgentRecord| Mistake { place: it.id.clone(), message: it.name.clone(), help: None };
    refusal.problem.errors = holders.iter().map(agent).collect();
    refusal
}
