//! Reading server-sent events that strangers send.
//!
//! A message above the bound is skipped, not an end: a stream that resumes would send it again for ever.

/// The largest message that is read; what is above it is skipped.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;

/// The longest id that is gone on after: a longer one would fit no request, and is no id.
const MAX_ID: usize = 1024;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Message {
    /// Its type; empty: `message`.
    pub(crate) event: String,
    /// What it says.
    pub(crate) data: String,
    /// The last id that the stream gave, with this message or before it.
    pub(crate) id: Option<String>,
    /// It was larger than the bound: [`Self::data`] is not what it says.
    pub(crate) too_large: bool,
}

/// Turns pieces of a stream into messages, wherever the pieces break.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    line_too_large: bool,
    after_cr: bool,
    begun: bool,
    has_data: bool,
    message: Message,
    next_id: Option<String>,
    last_id: Option<String>,
    retry: Option<u64>,
}

impl Decoder {
    /// One that goes on from an id.
    pub(crate) fn after(id: Option<String>) -> Self {
        Self { last_id: id, ..Self::default() }
    }

    /// Takes a piece; the messages it completes are added to `into`.
    pub(crate) fn feed(&mut self, piece: &[u8], into: &mut impl Extend<Message>) {
        for &byte in piece {
            let second_of_crlf = byte == b'\n' && self.after_cr;
            self.after_cr = byte == b'\r';
            match byte {
                _ if second_of_crlf => {}
                b'\n' | b'\r' => into.extend(self.end_line()),
                _ if self.line.len() >= MAX_MESSAGE => self.line_too_large = true,
                _ => self.line.push(byte),
            }
        }
    }

    /// How long to wait before connecting again, in milliseconds, as the stream asked.
    pub(crate) const fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The last id that the stream gave, with a message or alone.
    pub(crate) fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    fn end_line(&mut self) -> Option<Message> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(.."\u{feff}".len());
        }
        let whole = !std::mem::take(&mut self.line_too_large);
        if line.is_empty() {
            // Not before the end of its message: who goes on after an id has had what belongs to it.
            self.last_id = self.next_id.take().or(self.last_id.take());
            let message = std::mem::take(&mut self.message);
            let told = std::mem::take(&mut self.has_data);
            return told.then(|| Message { id: self.last_id.clone(), ..message });
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if !whole || self.message.data.len() + value.len() >= MAX_MESSAGE {
                    self.message.too_large = true;
                    self.message.data = String::new();
                }
                if !self.message.too_large {
                    if self.has_data {
                        self.message.data.push('\n');
                    }
                    self.message.data.push_str(value);
                }
                self.has_data = true;
            }
            "id" if value.len() <= MAX_ID && !value.contains('\0') => self.next_id = Some(value.to_owned()),
            "retry" if value.bytes().all(|it| it.is_ascii_digit()) => self.retry = value.parse().ok(),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, data: &str, id: Option<&str>) -> Message {
        Message { event: event.into(), data: data.into(), id: id.map(Into::into), too_large: false }
    }

    #[test]
    fn messages_come_out_the_same_wherever_the_stream_is_broken() {
        let stream = "\u{feff}: hello\n\nid: 1\nevent: a\ndata: one\ndata: two\n\nretry: 5\n\r\ndata:three\r\n\r\nid\n\
                      event: lost\n\nid:9\n\n";
        let expected = vec![message("a", "one\ntwo", Some("1")), message("", "three", Some("1"))];
        for size in 1..stream.len() {
            let mut decoder = Decoder::default();
            let mut messages = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                decoder.feed(piece, &mut messages);
            }
            assert_eq!(messages, expected, "in pieces of {size}");
            assert_eq!((decoder.retry(), decoder.last_id()), (Some(5), Some("9")));
            decoder.feed(b"id: 10\ndata: no end", &mut messages);
            assert_eq!(decoder.last_id(), Some("9"));
        }
    }

    #[test]
    fn an_id_above_the_bound_is_none() {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        for length in [MAX_ID, MAX_ID + 1] {
            decoder.feed(format!("id: {}\ndata: a\n\n", "x".repeat(length)).as_bytes(), &mut messages);
        }
        let longest = "x".repeat(MAX_ID);
        assert_eq!(messages, [message("", "a", Some(&longest)), message("", "a", Some(&longest))]);
        assert_eq!(decoder.last_id(), Some(&*longest));
    }

    #[test]
    fn a_message_above_the_bound_is_skipped_and_its_id_kept() {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        decoder.feed(b"id: 1\ndata: ", &mut messages);
        decoder.feed(&vec![b'x'; MAX_MESSAGE * 2], &mut messages);
        decoder.feed(b"\n\nid: 2\n", &mut messages);
        for _ in 0..3 {
            decoder.feed(b"data: ", &mut messages);
            decoder.feed(&vec![b'y'; MAX_MESSAGE / 2], &mut messages);
            decoder.feed(b"\n", &mut messages);
        }
        decoder.feed(b"\nid: 3\ndata: small\n\n", &mut messages);
        let large = |id: &str| Message { too_large: true, ..message("", "", Some(id)) };
        assert_eq!(messages, [large("1"), large("2"), message("", "small", Some("3"))]);
    }
}
