//! What administrators ask for: declaring, nodes, tokens, the record.

use hale_model::status::NodeStatus;
use http::{Method, header};
use serde::{Serialize, de::DeserializeOwned};

use super::{Client, ClientError, decode, encode, refusal, with_query};
use crate::{
    audit::{AuditPage, AuditQuery},
    declare::{Applied, ApplyRequest, ScaleRequest},
    endpoints::EndpointSet,
    nodes::{NodeRequest, NodeVerb},
    tokens::{NewToken, RotateRequest, Token, TokenRequest},
};

impl Client {
    /// Declares workloads and targets: all of them or none. Durable when it returns.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn apply(&self, request: &ApplyRequest) -> Result<Applied, ClientError> {
        self.post("/api/v1/apply", request).await
    }

    /// Changes how many replicas of a workload are wanted.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn scale(&self, name: &str, replicas: u32) -> Result<Applied, ClientError> {
        let path = format!("/api/v1/workloads/{}/scale", encode(name));
        self.post(&path, &ScaleRequest { replicas }).await
    }

    /// Takes the declaration of a workload (`workloads`) or target (`targets`) away.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn undeclare(&self, collection: &str, name: &str) -> Result<Applied, ClientError> {
        let path = format!("/api/v1/{collection}/{}", encode(name));
        decode(self.send(Method::DELETE, &path, None, &[]).await?).await
    }

    /// The nodes, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn nodes(&self) -> Result<Vec<NodeStatus>, ClientError> {
        self.list("/api/v1/nodes").await
    }

    /// Cordons, drains or uncordons a node.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn node(&self, name: &str, verb: NodeVerb, reason: &str) -> Result<NodeStatus, ClientError> {
        let path = format!("/api/v1/nodes/{}/{}", encode(name), verb.as_str());
        self.post(&path, &NodeRequest { reason: reason.to_owned() }).await
    }

    /// Forgets a node.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_node(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/api/v1/nodes/{}", encode(name))).await
    }

    /// The services with their endpoints, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn services(&self) -> Result<Vec<EndpointSet>, ClientError> {
        self.list("/api/v1/services").await
    }

    /// The tokens, by id.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        self.list("/api/v1/tokens").await
    }

    /// Makes a token. What comes back is the only time that its secret is told.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn create_token(&self, request: &TokenRequest) -> Result<NewToken, ClientError> {
        self.post("/api/v1/tokens", request).await
    }

    /// Gives a token a new secret.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn rotate_token(&self, id: &str, request: &RotateRequest) -> Result<NewToken, ClientError> {
        self.post(&format!("/api/v1/tokens/{}/rotate", encode(id)), request).await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn revoke_token(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/api/v1/tokens/{}", encode(id))).await
    }

    /// A page of the record of who did what.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.get(&with_query("/api/v1/audit", query)).await
    }

    /// One thing, as the API tells it.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn show<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get(path).await
    }

    /// Sends JSON; the answer is JSON.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Protocol(error.to_string()))?;
        decode(self.send(Method::POST, path, Some(body), &[]).await?).await
    }

    /// Takes something away; there is no answer but that it is gone.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let response = self.send(Method::DELETE, path, None, &[]).await?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
    }

    /// A whole list, however many pieces it comes in.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let mut all = Vec::new();
        let mut path = path.to_owned();
        loop {
            let response = self.send(Method::GET, &path, None, &[]).await?;
            let next = response.headers().get(header::LINK).and_then(|it| next(it.to_str().ok()?));
            all.extend(decode::<Vec<T>>(response).await?);
            match next {
                // A list that leads in a circle has no end.
                Some(next) if next != path => path = next,
                _ => return Ok(all),
            }
        }
    }
}

/// Where a list goes on: `</api/v1/nodes?cursor=n9>; rel="next"`.
fn next(link: &str) -> Option<String> {
    let (path, rest) = link.strip_prefix('<')?.split_once('>')?;
    (rest.contains("rel=\"next\"") && path.starts_with('/')).then(|| path.to_owned())
}
