//! A connection that broke while the keeper lives: made anew, with what happened meanwhile.

use std::{collections::HashMap, io, sync::PoisonError, time::Duration};

use hale_health::Exit;
use hale_keeper::protocol::{Empty, Event, InstanceState, Op};
use tokio::time::timeout;

use super::{Connection, Live, Task, exited, id_of, now};
use crate::runtime::{InstanceId, RuntimeEvent};

/// How long a keeper that lives may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

impl Task {
    /// Connects again, if the keeper lives; false: it does not.
    pub(super) async fn connect_again(&mut self) -> bool {
        let Some(keeper) = &mut self.keeper else { return false };
        if keeper.has_ended() {
            return false;
        }
        let Ok(Ok((connection, welcome))) = timeout(ANSWERS_WITHIN, Connection::open(keeper)).await else {
            return false;
        };
        tracing::warn!(
            pid = welcome.pid,
            "the connection to the keeper was lost; it lives and is connected again"
        );
        self.connection = connection;
        *self.welcome.lock().unwrap_or_else(PoisonError::into_inner) = welcome;
        self.next_id += 1;
        self.missed = Some(self.next_id);
        let asked = self.connection.send(self.next_id, Op::List(Empty {})).await.is_ok();
        // An order on its way may have been lost; one that has been told twice stands once.
        asked && self.tell_outside_again().await.is_ok()
    }

    /// Tells what happened while there was no connection. What was asked and not begun then is asked again; what was
    /// begun and not heard of is ended.
    pub(super) async fn take_missed(&mut self, all: Vec<InstanceState>) -> io::Result<()> {
        let mut unheard: HashMap<InstanceId, Live> = self.table.lock().clone();
        for state in all {
            let id = id_of(state.key.clone());
            let Some(live) = unheard.remove(&id).filter(|live| !live.starting) else {
                if !state.gone {
                    self.stops
                        .wanted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(id, (9, Duration::ZERO));
                }
                continue;
            };
            if let Some(exit) = &state.exit {
                self.push(exited(id.clone(), exit));
            }
            if state.gone {
                self.take_event(Event::Gone { key: state.key }).await?;
            } else if let Some(stop) = live.stop_sent.filter(|_| !state.stopping) {
                self.stops.wanted.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(stop);
            }
        }
        let at = now();
        for (id, _) in unheard.into_iter().filter(|(_, live)| !live.starting) {
            self.table.lock().remove(&id);
            self.push(RuntimeEvent::Exited { id: id.clone(), exit: Exit::default(), at });
            self.push(RuntimeEvent::Gone { id });
        }
        self.send_stops().await
    }
}
