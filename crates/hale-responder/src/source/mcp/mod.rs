//! Model Context Protocol over Streamable HTTP, as the Kubernetes MCP server with events speaks it (R2).
//!
//! ```text
//! initialize ─► initialized ─► GET stream open ─► logging/setLevel ─► tools/list ─► events_subscribe ─► listen
//!      ▲                                                                                  ▲     │ every 30 s:
//!      └───────── 404, the stream ends, any failure (R3) ◄────────────────────────────────┼─────┤ is it still there?
//!                                                                                          └─────┘ no: subscribe again
//! ```
//!
//! A quiet cluster says nothing for hours, and a server may drop a subscription without a word. So silence is no sign:
//! the list of subscriptions is, and TCP's own keep-alive tells when the server is gone.

mod alerts;
#[cfg(test)]
mod real;
mod session;
mod tools;
mod unasked;
mod wire;

use std::{future::Future, time::Duration};

use hale_model::spec::McpSource;
use rmcp::ServiceError;
#[expect(deprecated, reason = "R2: alerts are log messages of these servers")]
use rmcp::model::{LoggingLevel, SetLevelRequestParams};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::{
    What,
    connect::{Connector, Failure, Line},
    http,
};
use alerts::{Meaning, subscription_ids};
use session::{Session, call, step};
use tools::Tools;
use unasked::Note;

const SUBSCRIBE: &str = "events_subscribe";
const LIST: &str = "events_list_subscriptions";

/// The wait before subscribing again after the server said that a subscription failed, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Speaks to one server.
pub(crate) struct Mcp {
    source: McpSource,
    check_every: Duration,
}

impl Mcp {
    pub(crate) const fn new(source: McpSource, check_every: Duration) -> Self {
        Self { source, check_every }
    }
}

impl Connector for Mcp {
    async fn connect(&mut self, line: &mut Line) -> Failure {
        match self.run(line).await {
            Ok(()) => Failure::network(format!("{}: the session ended", http::name(&self.source.remote.url))),
            Err(failure) => failure,
        }
    }
}

impl Mcp {
    async fn run(&self, line: &mut Line) -> Result<(), Failure> {
        let session = Session::open(&self.source.remote).await?;
        let server = session.server();
        let logs = session.logs();
        let mut talk = Talk { session, server: server.0, any: false, id: None, lost: None };
        let tools = talk.tools(line, logs).await?;
        tracing::info!(
            source = line.source(),
            server = talk.server,
            version = server.1,
            tools = tools.as_ref().map(|it| it.count),
            "MCP server"
        );
        // Where nobody tells the tools, asking for one shows whether it is there.
        let mut subscribed = tools.as_ref().is_none_or(|it| it.subscribe);
        let check = tools.as_ref().is_none_or(|it| it.list);
        if subscribed {
            match self.subscribe(&mut talk, line).await {
                Err(failure) if tools.is_none() && logs && failure.class == super::ErrorClass::Protocol => {
                    subscribed = false;
                }
                other => other?,
            }
        }
        if !subscribed && logs {
            tracing::warn!(
                source = line.source(),
                "the MCP server has no tool {SUBSCRIBE}: everything it logs is taken for an alert"
            );
            talk.any = true;
        } else if !subscribed {
            let error =
                format!("the server has no tool {SUBSCRIBE} and does not log: it has no way to tell alerts");
            return Err(talk.session.protocol(&error));
        }
        line.up().await;
        self.listen(&mut talk, line, subscribed && check, tools.is_some()).await
    }

    /// Hears what is told, and looks now and then whether the subscription is still there. `sure`: there is a tool for
    /// that, and not only perhaps.
    async fn listen(
        &self,
        talk: &mut Talk,
        line: &mut Line,
        mut check: bool,
        sure: bool,
    ) -> Result<(), Failure> {
        let mut ticks = interval_at(Instant::now() + self.check_every, self.check_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again: Option<Instant> = None;
        let mut wait = AGAIN.0;
        loop {
            tokio::select! {
                note = talk.session.next() => {
                    let note = note?;
                    line.works();
                    talk.take(note, line).await;
                }
                _ = ticks.tick(), if check && again.is_none() => {
                    match talk.is_subscribed(line).await {
                        Ok(true) => {
                            line.works();
                            wait = AGAIN.0;
                        }
                        Ok(false) => {
                            talk.lost = Some("the server does not list it any more".to_owned());
                            wait = Duration::ZERO;
                        }
                        Err(failure) if !sure && failure.class == super::ErrorClass::Protocol => {
                            tracing::warn!(source = line.source(), error = failure.error, "subscriptions can't be checked");
                            check = false;
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    again = None;
                    self.subscribe(talk, line).await?;
                }
            }
            if let Some(why) = talk.lost.take().filter(|_| again.is_none()) {
                tracing::warn!(
                    source = line.source(),
                    why,
                    ?wait,
                    "the subscription is lost; subscribing again"
                );
                again = Some(Instant::now() + wait);
                wait = (wait * 2).clamp(AGAIN.0, AGAIN.1);
            }
        }
    }

    async fn subscribe(&self, talk: &mut Talk, line: &Line) -> Result<(), Failure> {
        let mut arguments = Map::new();
        arguments.insert("mode".to_owned(), json!(self.source.mode));
        if !self.source.namespaces.is_empty() {
            arguments.insert("namespaces".to_owned(), json!(self.source.namespaces));
        }
        arguments.extend(self.source.filters.clone());
        let asked = call(talk.session.peer(), SUBSCRIBE, arguments);
        let answer = talk.during(line, SUBSCRIBE, asked).await?;
        let answer = answer.map_err(|why| talk.session.protocol(&format!("{SUBSCRIBE}: {why}")))?;
        talk.id = id_in(&answer);
        talk.lost = None;
        tracing::info!(source = line.source(), id = talk.id, "subscribed");
        Ok(())
    }
}

/// A session in use.
struct Talk {
    session: Session,
    server: String,
    /// Whether every notification is an alert.
    any: bool,
    /// The subscription's id, if the server told one.
    id: Option<String>,
    /// Why there is no subscription any more.
    lost: Option<String>,
}

impl Talk {
    /// Asks the server to tell what it has from `info` on, and which tools it has; `None`: it does not tell.
    async fn tools(&mut self, line: &Line, logs: bool) -> Result<Option<Tools>, Failure> {
        let peer = self.session.peer();
        #[expect(deprecated, reason = "R2: alerts are log messages of these servers")]
        let asked = async move { peer.set_level(SetLevelRequestParams::new(LoggingLevel::Info)).await };
        match self.during(line, "logging/setLevel", asked).await {
            Err(failure) if logs || failure.class != super::ErrorClass::Protocol => return Err(failure),
            // Who does not log may not know the request.
            Ok(_) | Err(_) => {}
        }
        if !self.session.has_tools() {
            return Ok(if logs { None } else { Some(Tools::default()) });
        }
        let peer = self.session.peer();
        match self.during(line, "tools/list", tools::list(peer)).await {
            Ok(tools) => Ok(tools.known()),
            Err(failure) if failure.class == super::ErrorClass::Protocol => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the server still lists our subscription.
    async fn is_subscribed(&mut self, line: &Line) -> Result<bool, Failure> {
        let asked = call(self.session.peer(), LIST, Map::new());
        let answer = self.during(line, LIST, asked).await?;
        let answer = answer.map_err(|why| self.session.protocol(&format!("{LIST}: {why}")))?;
        let listed = subscription_ids(&answer);
        Ok(match (&self.id, &answer) {
            (Some(id), Value::String(text)) => text.contains(id.as_str()),
            (Some(id), _) => listed.contains(id),
            (None, Value::String(_)) => true,
            (None, _) => !listed.is_empty(),
        })
    }

    /// Waits for an answer, and hears what is told meanwhile: a server may tell it before it answers.
    async fn during<T>(
        &mut self,
        line: &Line,
        what: &str,
        asked: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, Failure> {
        let mut asked = std::pin::pin!(timeout(step(), asked));
        loop {
            tokio::select! {
                answer = asked.as_mut() => {
                    let answer = answer.map_err(|_| self.session.late(what))?;
                    return answer.map_err(|error| self.session.failed(what, &error));
                }
                note = self.session.next() => self.take(note?, line).await,
            }
        }
    }

    async fn take(&mut self, note: Note, line: &Line) {
        let (level, logger, data) = match note {
            Note::Log { level, logger, data } => (level, logger, data),
            Note::TooLarge => {
                return line.hear(What::Unreadable("a message of more than 1 MiB".to_owned()), None).await;
            }
        };
        match alerts::read(&level, logger.as_deref(), data, &self.server, self.any) {
            Meaning::Heard(what) => line.hear(what, None).await,
            Meaning::SubscriptionLost { id, why } => {
                // One of an earlier subscription is of no interest.
                if id.is_none() || self.id.is_none() || id == self.id {
                    self.lost = Some(why);
                }
            }
            Meaning::Chatter => tracing::debug!(source = line.source(), level, logger, "the MCP server logs"),
        }
    }
}

/// The id of a new subscription in what the tool answered: a field, or a word of a sentence.
fn id_in(answer: &Value) -> Option<String> {
    if let Some(id) = subscription_ids(answer).into_iter().next() {
        return Some(id);
    }
    let text = answer.as_str()?;
    let at = text.to_ascii_lowercase().find("subscription")?;
    let words = text.get(at..)?.split(|it: char| !(it.is_ascii_alphanumeric() || "-_.".contains(it)));
    // An id has a digit; the words around it have none.
    let id = words
        .map(|it| it.trim_matches(|it| it == '.' || it == '-'))
        .find(|it| it.len() > 3 && it.contains(|it: char| it.is_ascii_digit()))?;
    Some(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_subscription_is_a_field_or_a_word() {
        for (answer, expected) in [
            (json!({"subscriptionId": "sub-7f3", "mode": "faults"}), Some("sub-7f3")),
            (json!({"subscription": {"id": "s1"}}), Some("s1")),
            (json!("Subscribed to faults. Subscription ID: sub-42."), Some("sub-42")),
            (json!("Created subscription \"6f1e2d3c-0000\" (mode faults)"), Some("6f1e2d3c-0000")),
            (json!("done"), None),
        ] {
            assert_eq!(id_in(&answer).as_deref(), expected, "{answer}");
        }
    }
}
