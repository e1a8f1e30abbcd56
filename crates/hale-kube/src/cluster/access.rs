//! What the agent may ask, asked beforehand (`SelfSubjectAccessReview`): so that what is forbidden is said clearly at
//! the start, and not found out piece by piece.

use http::Method;
use kube::client::Body;
use serde_json::json;

use super::{ANSWER, Cluster, ClusterError, request};

/// What is done to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// All of a kind are read.
    List,
    /// One is read.
    Get,
    /// Changes are followed.
    Watch,
    /// It is applied.
    Patch,
}

impl Verb {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Watch => "watch",
            Self::Patch => "patch",
        }
    }
}

/// Something that the agent may be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// What is done.
    pub verb: Verb,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The resource: `pods`.
    pub resource: &'static str,
    /// A part of it: `log`.
    pub subresource: &'static str,
    /// Where; none for everywhere.
    pub namespace: Option<String>,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => f.write_str(" in all namespaces"),
        }
    }
}

impl Cluster {
    /// Whether the agent has a right, as the cluster itself says.
    ///
    /// # Errors
    /// It can't be asked.
    pub async fn may(&self, right: &Right) -> Result<bool, ClusterError> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "verb": right.verb.as_str(),
                "group": right.group,
                "resource": right.resource,
                "subresource": right.subresource,
                "namespace": right.namespace.as_deref().unwrap_or_default(),
            } },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = Body::from(review.to_string().into_bytes());
        let bytes = self.bytes(request(Method::POST, path, Some("application/json"), body)?, ANSWER).await?;
        let told = super::json(&bytes, path)?;
        Ok(told["status"]["allowed"].as_bool().unwrap_or(false))
    }
}
