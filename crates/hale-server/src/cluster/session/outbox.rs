//! What goes to the agent.

use hale_api::proto::{self, ServerMessage, server_message::Message};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tonic::Status;

/// The bounded queue to one agent, and the next acknowledgement.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: Option<mpsc::Sender<Result<ServerMessage, Status>>>,
    /// What the next acknowledgement says: cumulative numbers, and what is said once.
    pub(crate) ack: proto::Ack,
    stuck: bool,
}

impl Outbox {
    pub(crate) fn new(sender: mpsc::Sender<Result<ServerMessage, Status>>, events_durable: u64) -> Self {
        let ack = proto::Ack { events_durable, ..Default::default() };
        Self { sender: Some(sender), ack, stuck: false }
    }

    /// Sends a message. When the queue is full the agent does not read: the session is to end.
    pub(crate) fn send(&mut self, message: Message) {
        if let Some(sender) = &self.sender {
            self.stuck |= sender.try_send(Ok(ServerMessage { message: Some(message) })).is_err();
        }
    }

    /// Sends the acknowledgement as it stands.
    pub(crate) fn acknowledge(&mut self) {
        self.ack.server_time = Timestamp::now().as_microsecond();
        let ack = proto::Ack {
            rejected: std::mem::take(&mut self.ack.rejected),
            drained: std::mem::take(&mut self.ack.drained),
            want_full: std::mem::take(&mut self.ack.want_full),
            ..self.ack
        };
        self.send(Message::Ack(ack));
    }

    /// Whether the agent does not read what it is sent.
    pub(crate) const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&mut self, status: Status) {
        if let Some(sender) = self.sender.take() {
            // An agent that reads nothing does not read this either.
            let _unread = sender.try_send(Err(status));
        }
    }

    /// Ends the stream once what was sent has been read.
    pub(crate) fn close(&mut self) {
        self.sender = None;
    }
}
