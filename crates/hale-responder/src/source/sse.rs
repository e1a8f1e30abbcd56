//! Any SSE stream of JSON: where the parts of an alert stand in a message is said by JSON pointers (R1).

use std::time::Duration;

use bytes::Bytes;
use hale_api::runs::Resource;
use hale_model::spec::{SseFields, SseSource};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body_util::BodyExt;
use serde_json::Value;

use super::{
    What,
    connect::{Connector, Failure, Line},
    decode::{Decoder, Message},
    http::{Endpoint, chain, is_media_type},
    plain,
};
use crate::alert::RawAlert;

/// Reads one stream.
pub(crate) struct Sse {
    source: SseSource,
    /// The last id that went to the driver; what comes after it is asked for (R3).
    cursor: Option<String>,
}

impl Sse {
    pub(crate) const fn new(source: SseSource, cursor: Option<String>) -> Self {
        Self { source, cursor }
    }

    async fn run(&mut self, line: &mut Line) -> Result<(), Failure> {
        let endpoint = Endpoint::open(&self.source.remote).await?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // An empty id is the stream's way to say that there is none.
        if let Some(id) = self.cursor.as_deref().filter(|it| !it.is_empty()) {
            // An id that no header can carry can't be resumed from.
            if let Ok(id) = HeaderValue::from_str(id) {
                headers.insert(HeaderName::from_static("last-event-id"), id);
            }
        }
        let response = endpoint.ask(Method::GET, headers).await?;
        if !is_media_type(response.headers(), "text/event-stream") {
            let what = response.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
            return Err(Failure::protocol(format!(
                "{} answered {} with {}, and no text/event-stream; is it the URL of a stream?",
                endpoint.url(),
                response.status(),
                what.unwrap_or("no content type")
            )));
        }
        line.up().await;
        let mut body = response.into_body();
        let mut decoder = Decoder::after(self.cursor.clone());
        loop {
            match body.frame().await {
                None => return Err(Failure::network(format!("{}: the stream ended", endpoint.url()))),
                Some(Err(error)) => {
                    return Err(Failure::network(format!("{}: {}", endpoint.url(), chain(&error))));
                }
                Some(Ok(frame)) => {
                    let piece = frame.into_data().unwrap_or_default();
                    self.take(&mut decoder, &piece, line).await;
                }
            }
        }
    }

    async fn take(&mut self, decoder: &mut Decoder, piece: &Bytes, line: &mut Line) {
        let mut messages = Vec::new();
        decoder.feed(piece, &mut messages);
        // A comment shows nothing: who only greets and goes is waited for longer each time.
        if !messages.is_empty() {
            line.works();
        }
        for message in messages {
            self.cursor.clone_from(&message.id);
            line.hear(read(&self.source.fields, &message), message.id).await;
        }
        // An id without a message moves on all the same.
        if decoder.last_id() != self.cursor.as_deref() {
            self.cursor = decoder.last_id().map(str::to_owned);
            line.hear(What::Nothing, self.cursor.clone()).await;
        }
        if let Some(milliseconds) = decoder.retry() {
            line.first_wait(Duration::from_millis(milliseconds));
        }
    }
}

impl Connector for Sse {
    async fn connect(&mut self, line: &mut Line) -> Failure {
        match self.run(line).await {
            Ok(()) => Failure::network("the stream ended"),
            Err(failure) => failure,
        }
    }
}

fn read(fields: &SseFields, message: &Message) -> What {
    if message.too_large {
        return What::Unreadable("a message of more than 1 MiB".to_owned());
    }
    let Ok(value) = serde_json::from_str::<Value>(&message.data) else {
        return What::Unreadable(format!("no JSON: {}", plain::quote(&message.data)));
    };
    let at = |pointer: &Option<String>| value.pointer(pointer.as_deref()?);
    let text = |pointer: &Option<String>| match at(pointer)? {
        Value::String(text) => Some(text.clone()).filter(|it| !it.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let Some(name) = text(&Some(fields.name.clone())) else {
        return What::Unreadable(format!("no name at {} in {}", fields.name, plain::quote(&message.data)));
    };
    let resource = Resource {
        name,
        kind: text(&fields.kind).unwrap_or_else(|| "Resource".to_owned()),
        namespace: text(&fields.namespace),
        api_version: None,
        uid: None,
    };
    if at(&fields.resolved).is_some_and(plain::resolved) {
        return What::Recovered(resource);
    }
    let event = if message.event.is_empty() { "message" } else { &message.event };
    What::Alert(Box::new(RawAlert {
        source_id: message.id.clone().filter(|it| !it.is_empty()),
        severity: text(&fields.severity).as_deref().map(plain::severity),
        fault_type: text(&fields.fault_type).unwrap_or_else(|| event.to_owned()),
        resource,
        message: text(&fields.message).unwrap_or_default(),
        timestamp: text(&fields.timestamp).as_deref().and_then(plain::timestamp),
        labels: [].into(),
        context: value,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> SseFields {
        let at = |pointer: &str| Some(pointer.to_owned());
        SseFields {
            severity: at("/level"),
            fault_type: at("/what/0"),
            kind: None,
            name: "/who/name".to_owned(),
            namespace: at("/who/ns"),
            message: at("/text"),
            timestamp: at("/at"),
            resolved: at("/state"),
        }
    }

    fn read_one(data: &str) -> What {
        read(&fields(), &Message { data: data.to_owned(), id: Some("7".to_owned()), ..Message::default() })
    }

    #[test]
    fn the_parts_of_an_alert_are_found_where_the_pointers_say() {
        let data = r#"{"level":"PAGE","what":["Down"],"who":{"name":12,"ns":"shop"},"text":"t","at":"2026-01-01T00:00:00Z"}"#;
        let What::Alert(alert) = read_one(data) else { panic!("no alert") };
        let expected = RawAlert {
            source_id: Some("7".into()),
            severity: Some("critical".into()),
            fault_type: "Down".into(),
            resource: Resource {
                kind: "Resource".into(),
                name: "12".into(),
                namespace: Some("shop".into()),
                ..Resource::default()
            },
            message: "t".into(),
            labels: [].into(),
            context: serde_json::from_str(data).unwrap(),
            timestamp: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        };
        assert_eq!(*alert, expected);
    }

    #[test]
    fn what_is_resolved_is_a_recovery() {
        for state in ["true", "\"resolved\""] {
            let data = format!(r#"{{"who":{{"name":"a"}},"state":{state}}}"#);
            assert!(matches!(read_one(&data), What::Recovered(it) if it.name == "a"), "{data}");
        }
        assert!(matches!(read_one(r#"{"who":{"name":"a"},"state":false}"#), What::Alert(_)));
    }

    #[test]
    fn garbage_is_said_to_be_unreadable() {
        for data in ["", "{", "[]", "nonsense", r#"{"who":{}}"#, r#"{"who":{"name":""}}"#] {
            assert!(matches!(read_one(data), What::Unreadable(_)), "{data}");
        }
    }
}
