//! Questions that people ask of a node, and its answers.

use std::collections::HashMap;

use hale_api::proto::{self, answer, ask, server_message::Message};
use tokio::sync::mpsc;

use super::outbox::Outbox;

/// The most questions that one node is asked at a time.
const AT_ONCE: usize = 256;

/// A question, and where the answers go. The channel closes after the last; who asks says how long it waits.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) what: ask::What,
    pub(crate) answers: mpsc::Sender<answer::What>,
}

/// The questions that are open on one session.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    last: u64,
    open: HashMap<u64, mpsc::Sender<answer::What>>,
}

impl Asks {
    /// Passes a question on.
    pub(crate) fn begin(&mut self, asked: Asked, out: &mut Outbox) {
        self.look(out);
        if self.open.len() >= AT_ONCE {
            let detail = format!("the node is asked {AT_ONCE} things already; try again later");
            let refused = proto::Refused { code: "unavailable".to_owned(), detail };
            let _gone = asked.answers.try_send(answer::What::Refused(refused));
            return;
        }
        self.last += 1;
        self.open.insert(self.last, asked.answers);
        out.send(Message::Ask(proto::Ask { id: self.last, what: Some(asked.what) }));
    }

    /// Passes an answer back. A reader who is too slow for what he asked for is cut off, and the agent told so.
    pub(crate) fn answer(&mut self, answer: proto::Answer, out: &mut Outbox) {
        let Some(what) = answer.what else { return };
        let Some(reader) = self.open.get(&answer.id) else { return };
        let last = !matches!(what, answer::What::LogLines(_));
        let taken = reader.try_send(what).is_ok();
        if last || !taken {
            self.open.remove(&answer.id);
        }
        if !last && !taken {
            cancel(answer.id, out);
        }
    }

    /// Ends the questions whose askers have gone.
    pub(crate) fn look(&mut self, out: &mut Outbox) {
        self.open.retain(|id, reader| {
            let there = !reader.is_closed();
            if !there {
                cancel(*id, out);
            }
            there
        });
    }

    /// Nothing is answered any more.
    pub(crate) fn end(&mut self, why: &str) {
        for (_, reader) in self.open.drain() {
            let refused = proto::Refused { code: "unavailable".to_owned(), detail: why.to_owned() };
            let _gone = reader.try_send(answer::What::Refused(refused));
        }
    }
}

fn cancel(id: u64, out: &mut Outbox) {
    out.send(Message::Ask(proto::Ask { id, what: Some(ask::What::Cancel(proto::Cancel {})) }));
}
