//! Asking about webhooks.

use http::Method;

use super::{Client, ClientError, encode};
use crate::webhooks::{ReplayRequest, Webhook, WebhookMade, WebhookRequest, WebhookTested};

const ALL: &str = "/api/v1/webhooks";

impl Client {
    /// All webhooks, by name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn webhooks(&self) -> Result<Vec<Webhook>, ClientError> {
        self.get(ALL).await
    }

    /// One webhook.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn webhook(&self, name: &str) -> Result<Webhook, ClientError> {
        self.get(&format!("{ALL}/{}", encode(name))).await
    }

    /// Makes a webhook, or changes the one of its name.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn put_webhook(&self, request: &WebhookRequest) -> Result<WebhookMade, ClientError> {
        self.post(ALL, request).await
    }

    /// Takes a webhook away.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn delete_webhook(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("{ALL}/{}", encode(name));
        let response = self.send(Method::DELETE, &path, None, &[]).await?;
        if response.status().is_success() { Ok(()) } else { Err(super::refusal(response).await) }
    }

    /// Delivers nothing to a webhook until it is resumed, or goes on with what has waited.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn pause_webhook(&self, name: &str, paused: bool) -> Result<Webhook, ClientError> {
        let verb = if paused { "pause" } else { "resume" };
        self.post(&format!("{ALL}/{}/{verb}", encode(name)), &serde_json::json!({})).await
    }

    /// Sends events to a webhook again.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn replay_webhook(&self, name: &str, request: &ReplayRequest) -> Result<Webhook, ClientError> {
        self.post(&format!("{ALL}/{}/replay", encode(name)), request).await
    }

    /// Sends one message to a webhook, and tells what came of it.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn test_webhook(&self, name: &str) -> Result<WebhookTested, ClientError> {
        self.post(&format!("{ALL}/{}/test", encode(name)), &serde_json::json!({})).await
    }
}
