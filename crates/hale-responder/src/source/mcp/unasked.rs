//! What a server says unasked: which of its messages are for whom, and how much it may ask us.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::super::decode::Message;

/// The most requests of a server, each of which the SDK answers with a task and a request of its own, within…
pub(super) const MAX_REQUESTS: u32 = 1000;

/// …this time.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// What a server says unasked.
#[derive(Debug)]
pub(super) enum Note {
    /// `notifications/message`.
    Log {
        /// The word of syslog.
        level: String,
        /// Who says it.
        logger: Option<String>,
        /// What.
        data: Value,
    },
    /// Something too large to be read.
    TooLarge,
}

/// How many requests a server made of late.
#[derive(Debug, Clone, Default)]
pub(super) struct Requests {
    since: Option<Instant>,
    count: u32,
}

impl Requests {
    /// Counts one; says whether it is still within the bound.
    pub(super) fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MAX_REQUESTS
    }
}

/// Whom a message is for.
#[derive(Debug)]
pub(super) enum For {
    /// An answer.
    Sdk,
    /// A request of the server, which the SDK answers.
    Answering,
    /// A notification that is needed.
    Ear(Note),
    /// Any other, and what is no message at all.
    Nobody,
}

/// What says whom a message is for; the rest of it is passed over.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    id: Option<Id<'a>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id<'a> {
    Number(#[expect(dead_code, reason = "only whether it is one counts")] i64),
    Text(
        #[serde(borrow)]
        #[expect(dead_code, reason = "only whether it is one counts")]
        Cow<'a, str>,
    ),
}

/// Looks at the head of a message only, but of a notification that is needed.
pub(super) fn sort(message: &Message) -> For {
    if message.too_large {
        return For::Ear(Note::TooLarge);
    }
    let Ok(head) = serde_json::from_str::<Head<'_>>(&message.data) else { return For::Nobody };
    match (head.method.as_deref(), head.id) {
        (None, Some(_)) => For::Sdk,
        (Some(_), Some(_)) => For::Answering,
        (Some("notifications/message"), None) => note(message).map_or(For::Nobody, For::Ear),
        (_, None) => For::Nobody,
    }
}

fn note(message: &Message) -> Option<Note> {
    let mut value: Value = serde_json::from_str(&message.data).ok()?;
    let params = value.get_mut("params")?;
    let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
    let (level, logger) = (text("level").unwrap_or_default(), text("logger"));
    Some(Note::Log { level, logger, data: params.get_mut("data").map(Value::take).unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &str) -> For {
        sort(&Message { data: data.to_owned(), ..Message::default() })
    }

    #[test]
    fn notifications_are_taken_out_and_only_answers_and_requests_go_on() {
        let told = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"warning","logger":"kubernetes/faults","data":{"a":1}}}"#;
        let For::Ear(Note::Log { level, logger, data }) = of(told) else { panic!("no note") };
        assert_eq!((level.as_str(), logger.as_deref()), ("warning", Some("kubernetes/faults")));
        assert_eq!(data, serde_json::json!({"a": 1}));
        for answer in [
            r#"{"jsonrpc":"2.0","id":1,"result":{"text":"notifications/message"}}"#,
            r#"{"jsonrpc":"2.0","id":"a\n","error":{"code":1,"message":"no"}}"#,
        ] {
            assert!(matches!(of(answer), For::Sdk), "{answer}");
        }
        assert!(matches!(of(r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#), For::Answering));
        for other in [
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"message":"notifications/message"}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"notifications/cancelled"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
            "notifications/message",
            "",
        ] {
            assert!(matches!(of(other), For::Nobody), "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_asks_so_much_within_a_minute_and_no_more() {
        let mut requests = Requests::default();
        assert!((0..MAX_REQUESTS).all(|_| requests.count(Instant::now())));
        assert!(!requests.count(Instant::now()));
        tokio::time::advance(WINDOW).await;
        assert!(requests.count(Instant::now()));
    }
}
