//! What replicas print: the last lines, and what comes after them.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use hale_api::{
    Code,
    explain::SubjectKind,
    logs::{LogLine, LogQuery},
};
use http::{Uri, header};
use tokio::sync::mpsc;

use crate::{
    api::Api,
    control::{Control, LogFollow},
    problems::{Answer, Refusal, query},
    routes::explain,
    serve::{EMPTY_LINE, KEEP_ALIVE},
};

/// How often files are looked at for more.
const EVERY: Duration = Duration::from_millis(100);

/// Lines that wait for a reader who is slower than the disk, in pieces.
const PIECES: usize = 8;

/// The most lines in one piece.
const PIECE: usize = 500;

pub(crate) async fn logs(State(api): State<Api>, Path(name): Path<String>, uri: Uri) -> Answer<Response> {
    let asked: LogQuery = query(&uri)?;
    let overview = api.parts.control.overview().await?;
    let (kind, replicas) = explain::find(&overview, &name)?;
    if kind == SubjectKind::Target {
        let detail = format!("{name} is a target: hale does not run it, and has no output of it");
        return Err(Refusal::new(Code::NotApplicable, detail));
    }
    let permit = Arc::clone(&api.log_streams)
        .try_acquire_owned()
        .map_err(|_| Refusal::new(Code::Unavailable, "too many log streams at once; try again later"))?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let source = Source { control: Arc::clone(&api.parts.control), replicas, asked, sender };
    let end = api.parts.end.clone();
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        // An error is on its way to the reader; a reader who has gone needs none.
        let _done = source.run(|| end.is_cancelled());
    });
    let pieces =
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response())
}

/// Reads files, in a thread of its own, at the reader's pace.
struct Source {
    control: Arc<dyn Control>,
    replicas: Vec<String>,
    asked: LogQuery,
    sender: mpsc::Sender<io::Result<Bytes>>,
}

/// The reader has gone.
struct Gone;

impl Source {
    fn run(self, ended: impl Fn() -> bool) -> Result<(), Gone> {
        let most = self.asked.tail.map_or(usize::MAX, |it| it as usize);
        let mut followed: Vec<Followed> = Vec::new();
        for replica in &self.replicas {
            // Follows from before the tail is read: a line between the two comes twice rather than never, and the
            // second time is left out.
            let follow = self.asked.follow.then(|| self.control.log_follow(replica));
            let lines = self.or_tell(self.control.log_tail(replica, most))?;
            let last = lines.last().map(|it| it.time.clone()).unwrap_or_default();
            for piece in lines.chunks(PIECE) {
                self.send(piece)?;
            }
            followed.extend(follow.map(|follow| Followed { follow, after: last }));
        }
        let mut silent = Duration::ZERO;
        while !followed.is_empty() && !ended() {
            let mut idle = true;
            for one in &mut followed {
                let lines = self.or_tell(one.more())?;
                idle &= lines.is_empty();
                self.send(&lines)?;
            }
            if !idle {
                silent = Duration::ZERO;
                continue;
            }
            std::thread::sleep(EVERY);
            silent += EVERY;
            if silent >= KEEP_ALIVE {
                silent = Duration::ZERO;
                self.sender.blocking_send(Ok(EMPTY_LINE)).map_err(|_| Gone)?;
            }
            if self.sender.is_closed() {
                return Err(Gone);
            }
        }
        Ok(())
    }

    fn or_tell<T>(&self, result: io::Result<T>) -> Result<T, Gone> {
        result.map_err(|error| {
            tracing::warn!(%error, "logs can't be read");
            let _gone = self.sender.blocking_send(Err(error));
            Gone
        })
    }

    fn send(&self, lines: &[LogLine]) -> Result<(), Gone> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for line in lines {
            if let Ok(json) = serde_json::to_vec(line) {
                text.extend_from_slice(&json);
                text.push(b'\n');
            }
        }
        self.sender.blocking_send(Ok(Bytes::from(text))).map_err(|_| Gone)
    }
}

struct Followed {
    follow: Box<dyn LogFollow>,
    /// Lines up to this time were told already.
    after: String,
}

impl Followed {
    fn more(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = self.follow.more()?;
        if !self.after.is_empty() {
            lines.retain(|line| line.time > self.after);
            if !lines.is_empty() {
                self.after.clear();
            }
        }
        Ok(lines)
    }
}
