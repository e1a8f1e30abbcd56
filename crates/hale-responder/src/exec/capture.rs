//! Output to files, bounded (R8): what comes after the bound is read and thrown away, so that nothing blocks the program.

use std::{fs::File, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
};
use tokio_util::sync::CancellationToken;

/// How much is taken from a pipe at once.
const CHUNK: usize = 64 * 1024;
/// How much is taken from a pipe once the run is over: what was in it, and not what somebody goes on writing.
const LAST_CHUNKS: usize = 32;

/// One stream on its way to its file.
struct Stream {
    file: tokio::fs::File,
    room: u64,
    dropped: u64,
    /// Whether what was written last did not end a line.
    open_line: bool,
    failed: Option<io::Error>,
}

/// Captures until nobody can write any more, or `end`. A disk that is full is told, and harms nothing else.
pub(super) async fn capture(mut pipe: pipe::Receiver, file: File, max: u64, end: CancellationToken) {
    let mut stream = Stream {
        file: tokio::fs::File::from_std(file),
        room: max,
        dropped: 0,
        open_line: false,
        failed: None,
    };
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            () = end.cancelled() => break,
            read = pipe.read(&mut buffer) => read,
        };
        match read {
            Ok(0) | Err(_) => return stream.finish().await,
            Ok(count) => stream.take(&buffer[..count]).await,
        }
    }
    for _ in 0..LAST_CHUNKS {
        match pipe.try_read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => stream.take(&buffer[..count]).await,
        }
    }
    stream.finish().await;
}

impl Stream {
    async fn take(&mut self, bytes: &[u8]) {
        let kept = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        self.dropped += (bytes.len() - kept) as u64;
        if kept == 0 {
            return;
        }
        let written = match self.file.write_all(&bytes[..kept]).await {
            Ok(()) => self.file.flush().await,
            error => error,
        };
        match written {
            Ok(()) => {
                self.room -= kept as u64;
                self.open_line = bytes[kept - 1] != b'\n';
            }
            Err(error) => {
                self.dropped += kept as u64;
                self.room = 0;
                self.failed = Some(error);
            }
        }
    }

    /// Says how much is missing.
    async fn finish(mut self) {
        if self.dropped == 0 {
            return;
        }
        let why = self.failed.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        if let Some(error) = &self.failed {
            tracing::warn!(%error, "the output of a run can't be written; what is left of it is thrown away");
        }
        let line = if self.open_line { "\n" } else { "" };
        let last = format!("{line}[hale: {} more bytes were thrown away{why}]\n", self.dropped);
        let _ = self.file.write_all(last.as_bytes()).await;
        let _ = self.file.flush().await;
    }
}
