//! The keeper's side of the socket: connections, requests, answers.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use rustix::event::epoll::{self, EventFlags};
use serde::Deserialize;

use crate::{
    keeper::{About, Keeper},
    protocol::{
        Answer, Empty, Event, Hello, InstanceState, MAX_LINE, Message, Op, Request, SpawnFailure, VERSION,
        Welcome,
    },
    setup,
};

/// With so much unsent, what a replica reports by itself is dropped: a later report says the same.
const UNSENT_NOTIFY_MAX: usize = 1 << 20;
/// With so much unsent, nobody reads at the other end any more.
const UNSENT_MAX: usize = 64 << 20;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Whether epoll is asked for room to write.
    wants_room: bool,
    /// Whether whole requests are waiting in `input`.
    pub(crate) waiting: bool,
    broken: bool,
}

impl Connection {
    fn send(&mut self, message: &Message) {
        match serde_json::to_vec(message) {
            Ok(line) if self.output.len() + line.len() < UNSENT_MAX => {
                self.output.extend_from_slice(&line);
                self.output.push(b'\n');
            }
            Ok(_) => self.broken = true,
            Err(error) => setup::note(&format!("can't write a message: {error}")),
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let dropped = matches!(event, Event::Notify { .. }) && self.output.len() > UNSENT_NOTIFY_MAX;
        if !dropped {
            self.send(&Message::Event(event));
        }
    }

    /// Reads what is there.
    fn read(&mut self, buffer: &mut [u8]) {
        while self.input.len() <= MAX_LINE {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.broken = true;
                    break;
                }
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        self.waiting = self.input.contains(&b'\n');
        self.broken |= !self.waiting && self.input.len() > MAX_LINE;
    }

    /// Takes one request out of what was read.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        if self.input.is_empty() {
            self.input.shrink_to(64 * 1024);
        }
        self.waiting = self.input.contains(&b'\n');
        Some(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.output.is_empty() {
            self.output.shrink_to(64 * 1024);
        }
        Ok(())
    }
}

impl Keeper {
    pub(crate) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let number = self.number();
            let watched = stream.set_nonblocking(true).is_ok()
                && epoll::add(&self.epoll, &stream, About::Connection(number).pack(), EventFlags::IN).is_ok();
            if watched {
                let connection = Connection {
                    stream,
                    input: Vec::new(),
                    output: Vec::new(),
                    wants_room: false,
                    waiting: false,
                    broken: false,
                };
                self.connections.insert(number, connection);
            }
        }
    }

    pub(crate) fn receive(&mut self, number: u64, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            connection.read(&mut self.buffer);
        }
    }

    /// Answers one waiting request of each connection: a thousand starts at once must not keep exits waiting.
    pub(crate) fn serve_waiting(&mut self) {
        let waiting: Vec<u64> = self.connections.iter().filter(|it| it.1.waiting).map(|it| *it.0).collect();
        for number in waiting {
            let Some(line) = self.connections.get_mut(&number).and_then(Connection::next_line) else {
                continue;
            };
            let (id, answer) = match serde_json::from_slice::<Request>(&line) {
                Ok(request) => (request.id, self.answer(number, request.op)),
                Err(error) => (id_of(&line), refuse("unsupported", format!("not understood: {error}"))),
            };
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.send(&Message::Reply { id, answer });
            }
        }
    }

    fn answer(&mut self, number: u64, op: Op) -> Answer {
        match op {
            Op::Hello(hello) => self.greet(number, &hello),
            Op::Start(_) if self.ending.is_some() => refuse("internal", "the keeper is ending".to_owned()),
            Op::Start(start) => match self.start(&start) {
                Ok(running) => Answer::Started(running),
                Err(failure) => Answer::Failed(failure),
            },
            Op::Outside(_) if self.ending.is_some() => refuse("internal", "the keeper is ending".to_owned()),
            Op::Outside(told) => match self.enter_outside(*told) {
                Ok(()) => Answer::Done(Empty {}),
                Err(detail) => refuse("limits", detail),
            },
            Op::Stop(stop) => {
                self.stop_key(&stop.key, stop.signal, Duration::from_millis(stop.grace_ms));
                Answer::Done(Empty {})
            }
            Op::Deadline(deadline) => {
                self.set_deadlines(&deadline);
                Answer::Done(Empty {})
            }
            Op::Upgrade(order) => {
                // Whoever else is connected hears what was told until now.
                self.flush();
                Answer::Error(self.upgrade(&order))
            }
            Op::List(_) => Answer::Instances(self.list()),
            Op::Forget(key) => {
                self.forget(&key);
                Answer::Done(Empty {})
            }
            Op::End(end) => {
                self.end_all(Duration::from_millis(end.grace_ms));
                Answer::Done(Empty {})
            }
        }
    }

    fn greet(&mut self, number: u64, hello: &Hello) -> Answer {
        if !hello.only_asks {
            self.become_agent(number, hello);
        }
        Answer::Welcome(Welcome {
            version: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: self.pid.unsigned_abs(),
            boot_id: self.boot_id.clone(),
            mark: self.mark.clone(),
            ending: self.ending.is_some(),
            cgroups: self.cgroups.describe(),
        })
    }

    /// From now on events are told there.
    fn become_agent(&mut self, number: u64, hello: &Hello) {
        if let Some(old) = self.agent.replace(number).filter(|old| *old != number) {
            // What a dead agent had asked for and was not begun is not done, what is still in its socket neither: its
            // successor does not know of it, and would start the same beside it.
            self.connections.remove(&old);
        }
        self.agent_by = None;
        if let Some(end) = hello.end_with_agent {
            self.options.end_with_agent = end;
        }
    }

    fn list(&self) -> Vec<InstanceState> {
        let state = |it: &crate::instance::Instance| it.state(self.logs.dropped(&it.key.replica));
        let mut all: Vec<InstanceState> = self.instances.values().map(state).collect();
        all.sort_by(|one, other| one.key.cmp(&other.key));
        all
    }

    /// Sends what waits, and lets go of who is no longer there.
    pub(crate) fn flush(&mut self) {
        let mut lost = Vec::new();
        for (number, connection) in &mut self.connections {
            if connection.flush().is_err() || (connection.broken && !connection.waiting) {
                lost.push(*number);
                continue;
            }
            let wants_room = !connection.output.is_empty();
            if wants_room != connection.wants_room {
                let flags = if wants_room { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
                let about = About::Connection(*number).pack();
                connection.wants_room =
                    epoll::modify(&self.epoll, &connection.stream, about, flags).is_ok() && wants_room;
            }
        }
        for number in lost {
            self.connections.remove(&number);
            if self.agent == Some(number) {
                self.agent = None;
                if self.options.end_with_agent {
                    self.end_all(Duration::from_millis(self.options.end_grace_ms));
                }
            }
        }
    }
}

/// The id of a request that is not understood as a whole.
fn id_of(line: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Id {
        id: u64,
    }
    serde_json::from_slice::<Id>(line).map_or(0, |it| it.id)
}

fn refuse(code: &str, detail: String) -> Answer {
    Answer::Error(SpawnFailure { code: code.to_owned(), detail })
}
