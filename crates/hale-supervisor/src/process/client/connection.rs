//! One connection to the keeper: a line for each message.

use std::io;

use hale_keeper::{
    KeeperError, Launched, link,
    protocol::{Answer, Hello, Message, Op, Request, VERSION, Welcome},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(keeper: &Launched) -> Result<(Self, Welcome), KeeperError> {
        let what = "talk to the keeper";
        let failed = |source: io::Error| KeeperError::System { what, source };
        let stream = link::connect(keeper.dir())?;
        stream.set_nonblocking(true).map_err(failed)?;
        let (reader, writer) = UnixStream::from_std(stream).map_err(failed)?.into_split();
        let mut connection =
            Self { reader: BufReader::with_capacity(64 * 1024, reader), writer, line: Vec::new() };
        let end_with_agent = Some(keeper.options.keeper.end_with_agent);
        let release = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Op::Hello(Hello { version: VERSION, release, end_with_agent, only_asks: false });
        connection.send(0, hello).await.map_err(failed)?;
        loop {
            match connection.next().await.map_err(failed)? {
                Some(Message::Reply { answer: Answer::Welcome(welcome), .. }) => {
                    return Ok((connection, welcome));
                }
                Some(_) => {}
                None => return Err(failed(io::Error::from(io::ErrorKind::UnexpectedEof))),
            }
        }
    }

    pub(super) async fn send(&mut self, id: u64, op: Op) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Request { id, op })?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    /// The next message; `None` at the end. Can be cancelled: what was read stays.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            if self.reader.read_until(b'\n', &mut self.line).await? == 0 {
                return Ok(None);
            }
            if self.line.last() != Some(&b'\n') {
                return Ok(None);
            }
            let message = serde_json::from_slice(&self.line);
            self.line.clear();
            match message {
                Ok(message) => return Ok(Some(message)),
                // A newer keeper may say what this release does not know.
                Err(error) => tracing::debug!(%error, "passed over a message of the keeper"),
            }
        }
    }
}
