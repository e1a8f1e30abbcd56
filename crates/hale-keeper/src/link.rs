//! A blocking connection to a keeper, for tools and tests; the agent has its own, asynchronous one.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::{
    KeeperError,
    protocol::{Answer, Event, Hello, Message, Op, Request, VERSION},
    setup,
};

/// Connects to the keeper of a data directory, however long that one's path is.
///
/// # Errors
/// No keeper listens there.
pub fn connect(dir: &Path) -> Result<UnixStream, KeeperError> {
    let run = dir.join("run");
    let opened = setup::open_dir(&run)?;
    UnixStream::connect(setup::short_path(&opened))
        .map_err(KeeperError::path("connect to", run.join(setup::SOCKET)))
}

/// A connection that waits for each answer.
#[derive(Debug)]
pub struct Link {
    reader: BufReader<UnixStream>,
    next_id: u64,
    events: std::collections::VecDeque<Event>,
}

impl Link {
    /// Connects; a wait for an answer or an event lasts no longer than `timeout`.
    ///
    /// # Errors
    /// No keeper listens there.
    pub fn connect(dir: &Path, timeout: Duration) -> Result<Self, KeeperError> {
        let stream = connect(dir)?;
        stream.set_read_timeout(Some(timeout)).map_err(KeeperError::system("set a timeout"))?;
        Ok(Self { reader: BufReader::new(stream), next_id: 0, events: std::collections::VecDeque::new() })
    }

    /// Says hello as the agent.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn hello(&mut self) -> Result<Answer, KeeperError> {
        self.greet(false)
    }

    /// Asks who is there, and leaves the agent in its place.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn look(&mut self) -> Result<Answer, KeeperError> {
        self.greet(true)
    }

    fn greet(&mut self, only_asks: bool) -> Result<Answer, KeeperError> {
        let release = env!("CARGO_PKG_VERSION").to_owned();
        self.ask(Op::Hello(Hello { version: VERSION, release, end_with_agent: None, only_asks }))
    }

    /// Asks and waits for the answer; events that come before it are kept for [`Self::event`].
    ///
    /// # Errors
    /// The keeper does not answer in time.
    pub fn ask(&mut self, op: Op) -> Result<Answer, KeeperError> {
        self.next_id += 1;
        let id = self.next_id;
        let mut line = serde_json::to_vec(&Request { id, op })
            .map_err(|error| KeeperError::NotStarted(error.to_string()))?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).map_err(KeeperError::system("ask the keeper"))?;
        loop {
            match self.message()? {
                Message::Reply { id: of, answer } if of == id => return Ok(answer),
                Message::Reply { .. } => {}
                Message::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// None comes in time.
    pub fn event(&mut self) -> Result<Event, KeeperError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Message::Event(event) = self.message()? {
                return Ok(event);
            }
        }
    }

    /// Waits until the keeper has closed the connection: until it has ended.
    ///
    /// # Errors
    /// It does not within the timeout.
    pub fn wait_closed(&mut self) -> Result<(), KeeperError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = self.reader.read_until(b'\n', &mut line);
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(KeeperError::system("wait for the keeper's end")(error)),
            }
        }
    }

    fn message(&mut self) -> Result<Message, KeeperError> {
        let mut line = Vec::new();
        let hear = KeeperError::system("hear the keeper");
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => Err(hear(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))),
            Ok(_) => serde_json::from_slice(&line).map_err(|error| hear(std::io::Error::other(error))),
            Err(error) => Err(hear(error)),
        }
    }
}
