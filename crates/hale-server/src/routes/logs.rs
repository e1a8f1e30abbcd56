//! What replicas print: the last lines, and what comes after them.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::SelectAll};
use hale_api::{
    Code,
    explain::SubjectKind,
    logs::{LogLine, LogQuery},
};
use http::{Uri, header};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Api,
    control::LogStream,
    problems::{Answer, Refusal, query},
    routes::explain,
    serve::{EMPTY_LINE, KEEP_ALIVE},
};

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
    let mut sources = Vec::new();
    for replica in replicas {
        sources.push(api.parts.control.logs(replica, asked.tail, asked.follow).await?);
    }
    let reading = Reading::new(sources, asked.follow, api.parts.end.clone(), permit);
    let pieces = stream::unfold(reading, |mut reading| async move { Some((reading.next().await?, reading)) });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pieces)).into_response())
}

/// The output of several replicas on its way to one reader, at that reader's pace: one replica after the other, or as
/// it comes when it is followed.
struct Reading {
    waiting: std::vec::IntoIter<LogStream>,
    together: SelectAll<LogStream>,
    end: CancellationToken,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reading {
    fn new(
        sources: Vec<LogStream>,
        follow: bool,
        end: CancellationToken,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let (waiting, together) = if follow { (Vec::new(), sources) } else { (sources, Vec::new()) };
        Self {
            waiting: waiting.into_iter(),
            together: together.into_iter().collect(),
            end,
            over: false,
            _permit: permit,
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        loop {
            if self.together.is_empty() {
                self.together.push(self.waiting.next()?);
            }
            tokio::select! {
                piece = self.together.next() => match piece {
                    Some(Ok(lines)) => return Some(Ok(told(&lines))),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "logs can't be read");
                        self.over = true;
                        return Some(Err(io::Error::other(error)));
                    }
                    // That one has told all; the next one's turn.
                    None => {}
                },
                () = self.end.cancelled() => return None,
                () = sleep(KEEP_ALIVE) => return Some(Ok(EMPTY_LINE)),
            }
        }
    }
}

fn told(lines: &[LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        if let Ok(json) = serde_json::to_vec(line) {
            text.extend_from_slice(&json);
            text.push(b'\n');
        }
    }
    Bytes::from(text)
}
