//! Reading one JSON value a line.

use serde::de::DeserializeOwned;

/// A line above this size is not one of ours.
const MAX_LINE: usize = 4 << 20;

/// Turns pieces of a stream into lines, wherever the pieces break. Empty lines are signs of life.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
}

impl Decoder {
    /// Takes a piece; the values of the lines it completes are added to `into`.
    ///
    /// # Errors
    /// When a line is not such a value, or larger than 4 MiB.
    pub(crate) fn feed<T: DeserializeOwned>(
        &mut self,
        piece: &[u8],
        into: &mut Vec<T>,
    ) -> Result<(), String> {
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > MAX_LINE {
                return Err("a line of the stream is larger than 4 MiB".to_owned());
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if !line.trim_ascii().is_empty() {
                into.push(serde_json::from_slice(&line).map_err(|error| error.to_string())?);
            }
        }
        Ok(())
    }
}
