//! Answers that go on: events and log lines.

use std::{collections::VecDeque, time::Duration};

use hale_model::event::Event;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use super::{Client, ClientError, with_query};
use crate::{events::EventQuery, logs::LogLine, ndjson, sse};

/// Signs of life come every 15 s; without one for this long the connection is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a lost stream is tried for again before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    query: EventQuery,
    body: Option<Incoming>,
    decoder: sse::Decoder,
    messages: Vec<sse::Message>,
    ready: VecDeque<sse::Message>,
    last: Option<u64>,
}

/// What an [`EventStream`] tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next event.
    Event(Box<Event>),
    /// The id asked for is beyond the end of the stream (a restored database, S20): it goes on from the beginning.
    Reset,
}

/// What one connection of an [`EventStream`] tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The next event.
    Event(Box<Event>),
    /// An event of a kind that only a newer hale knows.
    Unknown {
        /// Its id.
        id: u64,
        /// The event as it came.
        event: serde_json::Value,
    },
    /// See [`Followed::Reset`].
    Reset,
}

impl EventStream {
    pub(super) async fn open(client: Client, query: EventQuery) -> Result<Self, ClientError> {
        let mut stream = Self {
            last: query.after,
            client,
            query,
            body: None,
            decoder: sse::Decoder::default(),
            messages: Vec::new(),
            ready: VecDeque::new(),
        };
        stream.connect().await?;
        Ok(stream)
    }

    /// The next event. Waits for as long as it takes; a lost connection is made anew and misses nothing.
    ///
    /// # Errors
    /// When the connection is lost and hale can't be reached for 30 s, or refuses.
    pub async fn next(&mut self) -> Result<Followed, ClientError> {
        loop {
            match self.next_of_connection().await? {
                Some(Told::Event(event)) => return Ok(Followed::Event(event)),
                Some(Told::Reset) => return Ok(Followed::Reset),
                Some(Told::Unknown { id, .. }) => {
                    return Err(ClientError::Protocol(format!("event {id} is none that is known here")));
                }
                None => self.reconnect().await?,
            }
        }
    }

    /// Like [`Self::next`], of this connection alone: `None` once it is lost. For those who have waits of their own.
    ///
    /// # Errors
    /// What is told makes no sense.
    pub async fn next_of_connection(&mut self) -> Result<Option<Told>, ClientError> {
        loop {
            while let Some(message) = self.ready.pop_front() {
                if let Some(item) = self.take(&message)? {
                    return Ok(Some(item));
                }
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            if let Ok(Some(Ok(frame))) = timeout(SILENCE, body.frame()).await {
                if let Some(piece) = frame.data_ref() {
                    let fed = self.decoder.feed(piece, &mut self.messages);
                    fed.map_err(|error| ClientError::Protocol(error.to_owned()))?;
                    self.ready.extend(self.messages.drain(..));
                }
            } else {
                self.body = None;
            }
        }
    }

    fn take(&mut self, message: &sse::Message) -> Result<Option<Told>, ClientError> {
        match message.event.as_str() {
            "reset" => {
                self.last = Some(0);
                Ok(Some(Told::Reset))
            }
            // Where the stream stands, told once at its beginning: what happens before the first event is not lost
            // to a reconnection.
            "position" => {
                self.last = message.data.parse().ok().or(self.last);
                Ok(None)
            }
            _ => {
                let event: Event = match serde_json::from_str(&message.data) {
                    Ok(event) => event,
                    Err(error) => {
                        return unknown(&message.data)
                            .map(Some)
                            .ok_or_else(|| ClientError::Protocol(format!("an event that is none: {error}")));
                    }
                };
                self.last = Some(event.id);
                Ok(Some(Told::Event(Box::new(event))))
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let path = with_query("/api/v1/events", &EventQuery { after: None, ..self.query.clone() });
        let response = self.client.open(&path, Some("text/event-stream"), self.last).await?;
        self.decoder = sse::Decoder::default();
        self.messages.clear();
        self.body = Some(response.into_body());
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<(), ClientError> {
        let until = Instant::now() + PATIENCE;
        let mut wait = Duration::from_millis(200);
        loop {
            match self.connect().await {
                Err(error @ (ClientError::Unreachable(_) | ClientError::Timeout(_))) => {
                    if Instant::now() + wait > until {
                        return Err(error);
                    }
                    sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                other => return other,
            }
        }
    }
}

/// An event of a kind that is not known here: it has a number and a type of ours at least.
fn unknown(data: &str) -> Option<Told> {
    let value: serde_json::Value = serde_json::from_str(data).ok()?;
    let _ours = value.get("type")?.as_str()?.strip_prefix("dev.hale.")?;
    Some(Told::Unknown { id: value.get("id")?.as_str()?.parse().ok()?, event: value })
}

/// Log lines.
#[derive(Debug)]
pub struct LogStream {
    body: Incoming,
    decoder: ndjson::Decoder,
    lines: Vec<LogLine>,
    ready: VecDeque<LogLine>,
}

impl LogStream {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        let decoder = ndjson::Decoder::default();
        Self { body: response.into_body(), decoder, lines: Vec::new(), ready: VecDeque::new() }
    }

    /// A line that has come already, without waiting for one.
    pub fn take_ready(&mut self) -> Option<LogLine> {
        self.ready.pop_front()
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// When the connection is lost in the middle.
    pub async fn next(&mut self) -> Result<Option<LogLine>, ClientError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            match timeout(SILENCE, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Some(piece) = frame.data_ref() {
                        self.decoder.feed(piece, &mut self.lines).map_err(ClientError::Protocol)?;
                        self.ready.extend(self.lines.drain(..));
                    }
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    return Err(ClientError::Unreachable(format!("the connection was lost: {error}")));
                }
                Err(_) => return Err(ClientError::Timeout(format!("no sign of life for {SILENCE:?}"))),
            }
        }
    }
}
