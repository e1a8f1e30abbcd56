//! Telling somebody of a run: a step of an escalation (R10).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hale_model::spec::Remote;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::sleep;

use crate::{book::Book, source::http::Endpoint};

/// The waits before another attempt; after the last one it is given up.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

/// Sends the run's record, with the alert, as JSON. Four attempts; the error is that of the last.
pub(super) async fn send(book: &Arc<Book>, run: &str, to: &Remote) -> Result<(), String> {
    let body = record(book, run).await?;
    let mut waits = AGAIN.into_iter();
    loop {
        let error = match attempt(to, body.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Some(wait) = waits.next() else { return Err(error) };
        tracing::warn!(run, error, retry_in = wait.as_secs(), "a run's record could not be sent");
        sleep(wait).await;
    }
}

async fn record(book: &Arc<Book>, run: &str) -> Result<Bytes, String> {
    let run = book.run(run).await.map_err(|error| error.to_string())?.ok_or("its record is gone")?;
    let escalates = match &run.escalates {
        Some(earlier) => book.run(earlier).await.map_err(|error| error.to_string())?,
        None => None,
    };
    let (alert, _) = book.alerts_of(&run).await.map_err(|error| error.to_string())?;
    let told = serde_json::json!({"run": run, "escalates": escalates, "alert": alert});
    Ok(told.to_string().into())
}

async fn attempt(to: &Remote, body: Bytes) -> Result<(), String> {
    let endpoint = Endpoint::open(to).await.map_err(|failure| failure.error)?;
    let headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let answer = endpoint.send(Method::POST, headers, body).await.map_err(|failure| failure.error)?;
    if answer.status().is_success() { Ok(()) } else { Err(endpoint.refused(answer).await.error) }
}
