//! From records to what the API tells: pure.

use hale_api::kube::{
    AgentHealth, AgentHistory, DeploymentHealth, DeploymentHistory, DeploymentObject, Diagnostics,
    HealthSummary, KubeAgent, ReportedHealth, ReportedHealths, Stack, StackHealth,
};
use hale_model::{
    Status,
    cluster::{DeploymentObjectRecord, DiagnosticsRecord, KubeAgentRecord, ObjectHealthRecord, StackRecord},
};
use jiff::Timestamp;

use super::status::{sum, worst};
use crate::cluster::snapshot::KubeRecords;

pub(crate) fn stack(kube: &KubeRecords, it: &StackRecord) -> Stack {
    Stack {
        id: it.id.clone(),
        name: it.name.clone(),
        labels: it.labels.clone(),
        created_at: it.created_at,
        created_by: it.created_by.clone(),
        current: it.current().map(str::to_owned),
        agents: kube.agents_of(it).map(|it| it.name.clone()).collect(),
    }
}

pub(crate) fn object(
    it: &DeploymentObjectRecord,
    stack: &StackRecord,
    yaml: Option<String>,
) -> DeploymentObject {
    DeploymentObject {
        id: it.id.clone(),
        stack_id: it.stack_id.clone(),
        stack: stack.name.clone(),
        sequence: it.sequence,
        yaml,
        checksum: it.checksum.clone(),
        deletion_marker: it.deletion_marker,
        current: stack.current() == Some(&it.id),
        created_at: it.created_at,
        created_by: it.created_by.clone(),
    }
}

pub(crate) fn agent(kube: &KubeRecords, it: &KubeAgentRecord) -> KubeAgent {
    let seen = kube.seen.get(it.id.as_str());
    KubeAgent {
        id: it.id.clone(),
        name: it.name.clone(),
        labels: it.labels.clone(),
        mode: it.mode,
        stacks: it.stacks.clone(),
        match_labels: it.match_labels.clone(),
        version: it.version.clone(),
        health_enabled: it.health_enabled,
        diagnostics_enabled: it.diagnostics_enabled,
        check_interval_seconds: it.check_interval_seconds,
        stale_after_seconds: it.stale_after_seconds,
        registered_at: it.registered_at,
        last_seen: seen.map(|it| it.last_seen),
        silent: is_silent(kube, &it.id),
    }
}

pub(crate) fn is_silent(kube: &KubeRecords, agent_id: &str) -> bool {
    kube.seen.get(agent_id).is_none_or(|it| it.silent)
}

/// When an object was last looked at, whichever record says so.
pub(crate) fn checked_at(kube: &KubeRecords, it: &ObjectHealthRecord) -> Option<Timestamp> {
    let known = it.checked_at?;
    let later = kube.seen.get(it.agent_id.as_str()).and_then(|seen| seen.checked.get(&it.object_id));
    let later = later.and_then(|at| Timestamp::from_microsecond(*at).ok());
    Some(later.map_or(known, |it| it.max(known)))
}

/// How an object is with one agent that is given it.
fn agent_health(kube: &KubeRecords, agent: &KubeAgentRecord, object_id: &str) -> AgentHealth {
    let known = kube.health_at(object_id, &agent.id);
    AgentHealth {
        agent_id: agent.id.clone(),
        agent: agent.name.clone(),
        status: known.map_or(Status::Unknown, |it| it.status),
        summary: known.map(|it| it.summary.clone()).unwrap_or_default(),
        checked_at: known.and_then(|it| checked_at(kube, it)),
        since: known.map(|it| it.since),
        stale: is_silent(kube, &agent.id),
        clock_skew: known.is_some_and(|it| it.clock_skew),
    }
}

/// The worst of what the agents say of an object.
pub(crate) fn object_status(
    kube: &KubeRecords,
    stack: &StackRecord,
    object: &DeploymentObjectRecord,
) -> Status {
    let of = |agent: &KubeAgentRecord| {
        kube.health_at(&object.id, &agent.id).map_or(Status::Unknown, |it| it.status)
    };
    worst(kube.agents_of(stack).map(|it| of(it)))
}

/// How an object is. `only`: as one agent sees it, which is told of no other (K14).
pub(crate) fn object_health(
    kube: &KubeRecords,
    stack: &StackRecord,
    object: &DeploymentObjectRecord,
    only: Option<&KubeAgentRecord>,
) -> DeploymentHealth {
    let agents: Vec<AgentHealth> = kube
        .agents_of(stack)
        .filter(|it| only.is_none_or(|only| only.id == it.id))
        .map(|it| agent_health(kube, it, &object.id))
        .collect();
    let summaries: Vec<&HealthSummary> = agents.iter().map(|it| &it.summary).collect();
    let oldest = agents.iter().map(|it| it.checked_at).min().flatten();
    DeploymentHealth {
        deployment_object_id: object.id.clone(),
        stack: stack.name.clone(),
        status: worst(agents.iter().map(|it| it.status)),
        summary: sum(summaries),
        checked_at: oldest,
        stale: agents.iter().any(|it| it.stale),
        agents,
    }
}

pub(crate) fn stack_health(kube: &KubeRecords, stack: &StackRecord, status: Option<Status>) -> StackHealth {
    let current = stack.current().and_then(|id| kube.objects.get(id));
    let mut objects: Vec<DeploymentHealth> =
        current.into_iter().map(|it| object_health(kube, stack, it, None)).collect();
    let overall_status = worst(objects.iter().map(|it| it.status));
    objects.retain(|it| status.is_none_or(|status| it.status == status));
    StackHealth {
        stack_id: stack.id.clone(),
        stack: stack.name.clone(),
        overall_status,
        deployment_objects: objects,
    }
}

/// What an agent told, of what it is still given.
pub(crate) fn reported(
    kube: &KubeRecords,
    agent: &KubeAgentRecord,
    status: Option<Status>,
) -> ReportedHealths {
    let stale = is_silent(kube, &agent.id);
    let given = kube.stacks.values().filter(|it| agent.is_given(it));
    let known = given.filter_map(|it| kube.health_at(it.current()?, &agent.id));
    let mut deployment_objects: Vec<ReportedHealth> = known
        .filter(|it| it.checked_at.is_some() && status.is_none_or(|status| it.status == status))
        .map(|it| ReportedHealth {
            id: it.object_id.clone(),
            status: it.status,
            summary: it.summary.clone(),
            checked_at: checked_at(kube, it),
            since: it.since,
            stale,
            clock_skew: it.clock_skew,
        })
        .collect();
    deployment_objects.sort_by(|a, b| a.id.cmp(&b.id));
    ReportedHealths { deployment_objects }
}

pub(crate) fn history(kube: &KubeRecords, object: &DeploymentObjectRecord) -> DeploymentHistory {
    let of = |it: &ObjectHealthRecord| AgentHistory {
        agent_id: it.agent_id.clone(),
        agent: kube.agent(&it.agent_id).map(|it| it.name.clone()).unwrap_or_default(),
        changes: it.history.clone(),
    };
    DeploymentHistory {
        deployment_object_id: object.id.clone(),
        agents: kube.health_of(&object.id).map(|it| of(it)).collect(),
    }
}

pub(crate) fn diagnostics(it: &DiagnosticsRecord, result: Option<serde_json::Value>) -> Diagnostics {
    Diagnostics {
        request_id: it.id.clone(),
        deployment_object_id: it.object_id.clone(),
        replica: it.replica.clone(),
        agent_id: it.agent_id.clone(),
        status: it.status,
        requested_by: it.requested_by.clone(),
        created_at: it.created_at,
        claimed_at: it.claimed_at,
        completed_at: it.completed_at,
        expires_at: it.expires_at,
        error: it.error.clone(),
        claims: it.claims,
        result,
    }
}
