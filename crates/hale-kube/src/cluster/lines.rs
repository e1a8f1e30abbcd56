//! Lines of an answer that goes on, wherever its pieces break.

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::client::Body;

/// Reads an answer line by line.
pub(crate) struct Lines {
    body: Body,
    pending: Vec<u8>,
    /// How far `pending` has been searched for an end of line.
    searched: usize,
    longest: usize,
}

impl Lines {
    /// Reads this answer, no line of which is longer than so many bytes.
    pub(crate) fn new(body: Body, longest: usize) -> Self {
        Self { body, pending: Vec::new(), searched: 0, longest }
    }

    /// The next line, without its end; none at the end. A last line that has no end is none: it may be half of one.
    ///
    /// # Errors
    /// The answer broke off, or a line is too long.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(at) = self.pending[self.searched..].iter().position(|it| *it == b'\n') {
                let rest = self.pending.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.pending.len();
            if self.pending.len() > self.longest {
                return Err(format!("a line is longer than {} bytes", self.longest));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        let data: Bytes = data;
                        self.pending.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
