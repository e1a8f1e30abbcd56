//! In which form a request speaks.

use http::HeaderMap;
use serde_json::Value;

use super::{
    super::{What, http::is_media_type, plain},
    alertmanager, cloudevents,
};

/// The forms by their media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON: Alertmanager's, or our own, or the data of a CloudEvent whose attributes are headers.
    Json,
    /// A CloudEvent as JSON.
    CloudEvent,
    /// An array of those.
    CloudEvents,
}

impl Form {
    /// What the headers announce.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        [
            ("application/json", Self::Json),
            ("application/cloudevents+json", Self::CloudEvent),
            ("application/cloudevents-batch+json", Self::CloudEvents),
        ]
        .into_iter()
        .find_map(|(media_type, form)| is_media_type(headers, media_type).then_some(form))
    }
}

/// Reads a body.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(form: Form, headers: &HeaderMap, body: &[u8]) -> Result<Vec<What>, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let heard = match form {
        Form::CloudEvent => vec![cloudevents::read(&value)],
        Form::CloudEvents => each(&value, cloudevents::read)?,
        Form::Json if cloudevents::is_binary(headers) => {
            vec![cloudevents::read(&cloudevents::from_headers(headers, value))]
        }
        Form::Json if alertmanager::is_group(&value) => alertmanager::read(&value)?,
        Form::Json if value.is_array() => each(&value, plain::read)?,
        Form::Json => vec![plain::read(&value)],
    };
    // All or nothing: a sender that mends its message sends all of it again.
    match heard.iter().find_map(|it| if let What::Unreadable(why) = it { Some(why) } else { None }) {
        Some(why) => Err(why.clone()),
        None => Ok(heard),
    }
}

fn each(value: &Value, read: impl Fn(&Value) -> What) -> Result<Vec<What>, String> {
    let values = value.as_array().ok_or("an array is needed")?;
    Ok(values.iter().map(read).collect())
}
