//! Reading server-sent events.

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Message {
    pub(crate) event: String,
    pub(crate) data: String,
}

/// Turns pieces of a stream into messages, wherever the pieces break.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    after_cr: bool,
    message: Message,
    has_data: bool,
}

/// A line or message above this size is not one of ours.
const MAX_MESSAGE: usize = 4 << 20;

impl Decoder {
    /// Takes a piece; the messages it completes are added to `into`.
    ///
    /// # Errors
    /// When a message is larger than 4 MiB.
    pub(crate) fn feed(&mut self, piece: &[u8], into: &mut Vec<Message>) -> Result<(), &'static str> {
        for &byte in piece {
            let second_of_crlf = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                _ if second_of_crlf => {}
                b'\n' | b'\r' => self.end_line(into),
                _ if self.line.len() + self.message.data.len() >= MAX_MESSAGE => {
                    return Err("a message of the stream is larger than 4 MiB");
                }
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, into: &mut Vec<Message>) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            if std::mem::take(&mut self.has_data) {
                into.push(message);
            }
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if self.has_data {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
                self.has_data = true;
            }
            // Comments (no field name) are signs of life; ids stand in the data as well.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, data: &str) -> Message {
        Message { event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn messages_come_out_the_same_wherever_the_stream_is_broken() {
        let stream = b": hello\n\nid: 1\nevent: a\ndata: one\ndata: two\n\nretry: 5\n\r\ndata:three\r\n\r\nevent: lost\n\n";
        let expected = vec![message("a", "one\ntwo"), message("", "three")];
        for size in 1..stream.len() {
            let mut decoder = Decoder::default();
            let mut messages = Vec::new();
            for piece in stream.chunks(size) {
                decoder.feed(piece, &mut messages).unwrap();
            }
            assert_eq!(messages, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let mut decoder = Decoder::default();
        let piece = vec![b'x'; MAX_MESSAGE + 1];
        assert!(decoder.feed(&piece, &mut Vec::new()).is_err());
    }
}
