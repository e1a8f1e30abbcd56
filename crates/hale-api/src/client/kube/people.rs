//! What people ask: stacks, deployment objects, agents, health, diagnostics.

use super::{Client, ClientError, agent_path, encode, with_query};
use crate::kube::{
    DeploymentHealth, DeploymentHistory, DeploymentObject, DeploymentObjectRequest, Diagnostics,
    DiagnosticsAccepted, DiagnosticsQuery, DiagnosticsRequest, KubeAgent, KubeAgentPatch, ReportedHealths,
    Stack, StackHealth, StackPatch, StackRequest, StatusQuery,
};

const STACKS: &str = "/api/v1/stacks";

fn stack_path(stack: &str, rest: &str) -> String {
    format!("{STACKS}/{}{rest}", encode(stack))
}

fn object_path(object: &str, rest: &str) -> String {
    format!("/api/v1/deployment-objects/{}{rest}", encode(object))
}

impl Client {
    /// All stacks, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn stacks(&self) -> Result<Vec<Stack>, ClientError> {
        self.list(STACKS).await
    }

    /// A stack, by id or name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn stack(&self, stack: &str) -> Result<Stack, ClientError> {
        self.get(&stack_path(stack, "")).await
    }

    /// Makes a stack, or finds the one that is just so.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when one of its name has other labels; as every call: see [`ClientError`].
    pub async fn create_stack(&self, request: &StackRequest) -> Result<Stack, ClientError> {
        self.post(STACKS, request).await
    }

    /// Gives a stack other labels.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn change_stack(&self, stack: &str, patch: &StackPatch) -> Result<Stack, ClientError> {
        self.patch(&stack_path(stack, ""), patch).await
    }

    /// Takes a stack away, with its deployment objects, their statuses and requests.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_stack(&self, stack: &str) -> Result<(), ClientError> {
        self.delete(&stack_path(stack, "")).await
    }

    /// The deployment objects of a stack, newest first, without their manifests.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn deployment_objects(&self, stack: &str) -> Result<Vec<DeploymentObject>, ClientError> {
        self.list(&stack_path(stack, "/deployment-objects")).await
    }

    /// A deployment object, with its manifests.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn deployment_object(&self, object: &str) -> Result<DeploymentObject, ClientError> {
        self.get(&object_path(object, "")).await
    }

    /// Gives a stack new manifests: a new deployment object that supersedes the ones before.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] when the manifests are none; as every call: see [`ClientError`].
    pub async fn create_deployment_object(
        &self,
        stack: &str,
        request: &DeploymentObjectRequest,
    ) -> Result<DeploymentObject, ClientError> {
        self.post(&stack_path(stack, "/deployment-objects"), request).await
    }

    /// Takes a deployment object away; the one before it is the newest then.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_deployment_object(&self, object: &str) -> Result<(), ClientError> {
        self.delete(&object_path(object, "")).await
    }

    /// How a deployment object is.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn deployment_health(&self, object: &str) -> Result<DeploymentHealth, ClientError> {
        self.get(&object_path(object, "/health")).await
    }

    /// How a deployment object was.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn deployment_history(&self, object: &str) -> Result<DeploymentHistory, ClientError> {
        self.get(&object_path(object, "/history")).await
    }

    /// How a stack is.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn stack_health(&self, stack: &str, query: &StatusQuery) -> Result<StackHealth, ClientError> {
        self.get(&with_query(&stack_path(stack, "/health"), query)).await
    }

    /// All agents of clusters, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn kube_agents(&self) -> Result<Vec<KubeAgent>, ClientError> {
        self.list("/api/v1/agents").await
    }

    /// The agent of a cluster, by id or name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn kube_agent(&self, agent: &str) -> Result<KubeAgent, ClientError> {
        self.get(&agent_path(agent, "")).await
    }

    /// Says which stacks an agent is given, and whether it changes its cluster.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn change_kube_agent(
        &self,
        agent: &str,
        patch: &KubeAgentPatch,
    ) -> Result<KubeAgent, ClientError> {
        self.patch(&agent_path(agent, ""), patch).await
    }

    /// Forgets an agent, with what it told and what was asked of it. One that still runs registers again.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_kube_agent(&self, agent: &str) -> Result<(), ClientError> {
        self.delete(&agent_path(agent, "")).await
    }

    /// What an agent last told of its deployment objects.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn agent_health(
        &self,
        agent: &str,
        query: &StatusQuery,
    ) -> Result<ReportedHealths, ClientError> {
        self.get(&with_query(&agent_path(agent, "/health-status"), query)).await
    }

    /// Asks for diagnostics of a deployment object.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when several agents hold it and none is named; as every call: see [`ClientError`].
    pub async fn request_diagnostics(
        &self,
        object: &str,
        request: &DiagnosticsRequest,
    ) -> Result<DiagnosticsAccepted, ClientError> {
        self.post(&object_path(object, "/diagnostics"), request).await
    }

    /// Asks for diagnostics of a replica or target on a node (K12).
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn request_replica_diagnostics(&self, name: &str) -> Result<DiagnosticsAccepted, ClientError> {
        let path = format!("/api/v1/replicas/{}/diagnostics", encode(name));
        self.post(&path, &serde_json::json!({})).await
    }

    /// A request for diagnostics, with its result once there is one.
    ///
    /// # Errors
    /// [`ClientError::NotFound`] when it has expired; as every call: see [`ClientError`].
    pub async fn diagnostics(&self, request: &str) -> Result<Diagnostics, ClientError> {
        self.get(&format!("/api/v1/diagnostics/{}", encode(request))).await
    }

    /// Requests for diagnostics, newest first, without their results.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn all_diagnostics(&self, query: &DiagnosticsQuery) -> Result<Vec<Diagnostics>, ClientError> {
        self.list(&with_query("/api/v1/diagnostics", query)).await
    }
}
