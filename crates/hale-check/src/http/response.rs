//! Reading an HTTP/1.1 answer (RFC 9112) as it comes in, without owning the bytes.
//!
//! The caller keeps what was received in one buffer, or, when the first read brought all of it, needs no buffer at
//! all. [`Parser::advance`] remembers how far it has looked. Everything is bounded: what does not fit is `protocol`,
//! and of a body no more than [`MAX_BODY`] is wanted (H7).

use hale_health::Reason;

use crate::result::Fault;

/// The most bytes of head (with any interim answers) that are accepted.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// The most header lines that are accepted.
const MAX_HEADERS: usize = 100;
/// How much of a body is read.
pub(crate) const MAX_BODY: usize = 10 * 1024;
/// The most bytes between two chunks: size, extensions, line ends.
const MAX_CHUNK_LINE: usize = 1024;
/// The most bytes of a chunked body with all that is between its chunks: room for chunks of a few bytes each, and a
/// bound on what a server can make the prober take.
const MAX_CODED: usize = 8 * MAX_BODY;

/// An answer being read.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Up to here there is no end of a head.
    scanned: usize,
    /// Where the head begins: after any interim answers.
    start: usize,
    head: Option<Head>,
    chunks: Option<Box<Chunks>>,
}

/// What the head of an answer says.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) minor: u8,
    pub(crate) location: Option<Box<str>>,
    body_at: usize,
    framing: Framing,
    keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

#[derive(Debug, Default)]
struct Chunks {
    body: Vec<u8>,
    /// Where the next chunk, or the rest of the present one, begins.
    at: usize,
    /// What is left of the present chunk.
    left: u64,
    /// The line end after a chunk is still to come.
    ending: bool,
    /// The last chunk has come; only trailers are left.
    last: bool,
}

impl Head {
    /// The length of the body, where the answer declares one.
    pub(crate) const fn content_length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

/// The whole answer is there, or as much of it as is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Complete {
    /// Whether the connection can carry another request.
    pub(crate) reusable: bool,
}

fn protocol(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::Protocol, detail)
}

fn cut_short(detail: impl Into<String>) -> Fault {
    Fault::new(Reason::ConnectionReset, detail)
}

impl Parser {
    /// Looks at all that was received so far. `eof`: no more will come. `None`: more is needed.
    pub(crate) fn advance(&mut self, bytes: &[u8], eof: bool) -> Result<Option<Complete>, Fault> {
        while self.head.is_none() {
            if !self.read_head(bytes)? {
                return if eof { Err(ended_in_head(&bytes[self.start..])) } else { Ok(None) };
            }
        }
        let Some(head) = &self.head else { return Ok(None) };
        let body = &bytes[head.body_at..];
        let done = match head.framing {
            Framing::Length(length) => {
                let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_BODY);
                if body.len() < wanted && eof {
                    return Err(cut_short(format!(
                        "the connection was closed after {} of {length} bytes of body",
                        body.len()
                    )));
                }
                // What follows the body was not asked for: such a connection is not used again.
                let whole = body.len() as u64 == length;
                (body.len() >= wanted).then_some(Complete { reusable: whole && head.keep })
            }
            Framing::UntilClose => (eof || body.len() >= MAX_BODY).then_some(Complete { reusable: false }),
            Framing::Chunked => {
                let chunks = self.chunks.get_or_insert_default();
                match chunks.advance(body)? {
                    None if eof => return Err(cut_short("the connection was closed within a chunked body")),
                    None => None,
                    Some(whole) => Some(Complete { reusable: whole && head.keep }),
                }
            }
        };
        Ok(done)
    }

    /// The head, once it is there.
    pub(crate) const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The body as far as it was read.
    pub(crate) fn body<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        let body = match (&self.chunks, &self.head) {
            (Some(chunks), _) => &chunks.body[..],
            (None, Some(head)) => match head.framing {
                Framing::Length(length) => {
                    let body = &bytes[head.body_at..];
                    &body[..usize::try_from(length).unwrap_or(usize::MAX).min(body.len())]
                }
                _ => &bytes[head.body_at..],
            },
            (None, None) => &[],
        };
        &body[..body.len().min(MAX_BODY)]
    }

    /// Reads a head if it is complete. Interim answers (1xx) are passed over.
    fn read_head(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let unread = &bytes[self.start..];
        let expected = b"HTTP/1.";
        let seen = unread.len().min(expected.len());
        if unread[..seen] != expected[..seen] {
            let began = crate::result::text(unread, 60);
            return Err(protocol(format!("not an HTTP/1 answer: it begins {began:?}")));
        }
        let from = self.scanned.max(self.start);
        let Some(end) = end_of_head(bytes, from) else {
            // The line end before the missing one may be there already.
            self.scanned = bytes.len().saturating_sub(3);
            if bytes.len() > MAX_HEAD {
                return Err(protocol(format!("more than {MAX_HEAD} bytes of headers")));
            }
            return Ok(false);
        };
        if end > MAX_HEAD {
            return Err(protocol(format!("more than {MAX_HEAD} bytes of headers")));
        }
        let head = parse_head(&bytes[self.start..end], end)?;
        if head.status == 101 {
            return Err(protocol("the server switched protocols (status 101)"));
        }
        if head.status < 200 {
            self.start = end;
            self.scanned = end;
            return self.read_head(bytes);
        }
        self.head = Some(head);
        Ok(true)
    }
}

fn ended_in_head(unread: &[u8]) -> Fault {
    if unread.is_empty() {
        cut_short("the connection was closed without an answer")
    } else {
        cut_short("the connection was closed within the headers of the answer")
    }
}

/// The position after the empty line that ends a head. A bare LF ends a line too (RFC 9112, 2.2).
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = bytes[at..].iter().position(|b| *b == b'\n') {
        let next = at + found + 1;
        match bytes.get(next..) {
            Some([b'\n', ..]) => return Some(next + 1),
            Some([b'\r', b'\n', ..]) => return Some(next + 2),
            _ => at = next,
        }
    }
    None
}

fn parse_head(head: &[u8], body_at: usize) -> Result<Head, Fault> {
    let mut lines = head.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (status, minor) = parse_status_line(lines.next().unwrap_or_default())?;
    let mut fields = Fields { length: None, chunked: false, coded: false, keep: minor >= 1, location: None };
    for (count, line) in lines.take_while(|line| !line.is_empty()).enumerate() {
        if count >= MAX_HEADERS {
            return Err(protocol(format!("more than {MAX_HEADERS} headers")));
        }
        let colon = line.iter().position(|b| *b == b':');
        let Some(colon) = colon.filter(|it| *it > 0 && !line[..*it].iter().any(u8::is_ascii_whitespace))
        else {
            return Err(protocol(format!("a header line is malformed: {:?}", crate::result::text(line, 60))));
        };
        fields.take(&line[..colon], line[colon + 1..].trim_ascii())?;
    }
    let framing = if status == 204 || status == 304 {
        Framing::Length(0)
    } else if fields.chunked {
        Framing::Chunked
    } else if fields.coded {
        Framing::UntilClose
    } else {
        fields.length.map_or(Framing::UntilClose, Framing::Length)
    };
    // Both lengths at once is how requests are smuggled: read it, but don't use the connection again.
    let keep = fields.keep && !(fields.chunked && fields.length.is_some());
    Ok(Head { status, minor, location: fields.location, body_at, framing, keep })
}

fn parse_status_line(line: &[u8]) -> Result<(u16, u8), Fault> {
    let malformed = || protocol(format!("the status line is malformed: {:?}", crate::result::text(line, 60)));
    let rest = line.strip_prefix(b"HTTP/1.").ok_or_else(malformed)?;
    let [minor @ b'0'..=b'9', b' ', digits @ ..] = rest else { return Err(malformed()) };
    let (digits, after) = digits.split_at_checked(3).ok_or_else(malformed)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(after.first(), None | Some(b' ')) {
        return Err(malformed());
    }
    let status = digits.iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if status < 100 { Err(malformed()) } else { Ok((status, minor - b'0')) }
}

/// The header fields that matter to a probe.
struct Fields {
    length: Option<u64>,
    chunked: bool,
    /// A transfer coding that is not understood: the body ends with the connection.
    coded: bool,
    keep: bool,
    location: Option<Box<str>>,
}

impl Fields {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().filter(|it| it.bytes().all(|b| b.is_ascii_digit()));
            let length = length.and_then(|it| it.parse().ok()).ok_or_else(|| {
                protocol(format!("the content-length is malformed: {:?}", crate::result::text(value, 40)))
            })?;
            if self.length.is_some_and(|before| before != length) {
                return Err(protocol("two content-lengths that differ"));
            }
            self.length = Some(length);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|b| *b == b',').next().unwrap_or_default().trim_ascii();
            self.chunked = last.eq_ignore_ascii_case(b"chunked");
            self.coded = !self.chunked;
        } else if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if option.eq_ignore_ascii_case(b"close") {
                    self.keep = false;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep = true;
                }
            }
        } else if name.eq_ignore_ascii_case(b"location") && self.location.is_none() {
            self.location = Some(crate::result::text(value, 2048).into());
        }
        Ok(())
    }
}

impl Chunks {
    /// Decodes what has come. `Some(true)`: the body is whole; `Some(false)`: enough of it was read.
    fn advance(&mut self, coded: &[u8]) -> Result<Option<bool>, Fault> {
        loop {
            if self.at > MAX_CODED {
                return Err(protocol(format!(
                    "more than {MAX_CODED} bytes for {} bytes of body",
                    self.body.len()
                )));
            }
            if self.left > 0 {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(coded.len() - self.at);
                self.body.extend_from_slice(&coded[self.at..self.at + here]);
                self.at += here;
                self.left -= here as u64;
                if self.body.len() >= MAX_BODY {
                    self.body.truncate(MAX_BODY);
                    return Ok(Some(false));
                }
                if self.left > 0 {
                    return Ok(None);
                }
                self.ending = true;
            }
            let rest = &coded[self.at..];
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                if rest.len() > MAX_CHUNK_LINE {
                    return Err(protocol("a chunk of the body has no size"));
                }
                return Ok(None);
            };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            if self.last {
                if line.is_empty() {
                    return Ok(Some(end + 1 == rest.len()));
                }
                if self.at + end > MAX_HEAD + MAX_BODY + MAX_CHUNK_LINE {
                    return Err(protocol("too many trailers"));
                }
            } else if self.ending {
                if !line.is_empty() {
                    return Err(protocol("a chunk of the body is longer than its size"));
                }
                self.ending = false;
            } else {
                self.left = chunk_size(line)?;
                self.last = self.left == 0;
            }
            self.at += end + 1;
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    std::str::from_utf8(digits)
        .ok()
        .filter(|it| !it.starts_with('+'))
        .and_then(|it| u64::from_str_radix(it, 16).ok())
        .ok_or_else(|| protocol(format!("a chunk's size is malformed: {:?}", crate::result::text(line, 40))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds an answer whole, byte by byte, and split at every place: all must agree.
    fn read(bytes: &[u8], eof: bool) -> Result<Option<(u16, Vec<u8>, bool)>, Reason> {
        let one_way = |cuts: &[usize]| {
            let mut parser = Parser::default();
            for (nth, cut) in cuts.iter().enumerate() {
                let last = nth + 1 == cuts.len();
                match parser.advance(&bytes[..*cut], eof && last) {
                    Ok(None) => {}
                    Ok(Some(done)) => {
                        let status = parser.head().unwrap().status;
                        return Ok(Some((status, parser.body(&bytes[..*cut]).to_vec(), done.reusable)));
                    }
                    Err(fault) => return Err(fault.reason),
                }
            }
            Ok(None)
        };
        let whole = one_way(&[bytes.len()]);
        let single: Vec<usize> = (0..=bytes.len()).collect();
        assert_eq!(one_way(&single), whole, "byte by byte");
        whole
    }

    fn ok(status: u16, body: &[u8], reusable: bool) -> Result<Option<(u16, Vec<u8>, bool)>, Reason> {
        Ok(Some((status, body.to_vec(), reusable)))
    }

    #[test]
    fn a_length_a_chunked_body_and_a_closed_connection_all_end_a_body() {
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false), ok(200, b"ok", true));
        assert_eq!(read(b"HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", false), ok(200, b"", true));
        assert_eq!(
            read(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n", false),
            ok(503, b"ok!", true)
        );
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nbye", true), ok(200, b"bye", false));
        assert_eq!(read(b"HTTP/1.1 204 No\r\n\r\n", false), ok(204, b"", true));
        assert_eq!(read(b"HTTP/1.1 200 OK\n\nbare line ends", true), ok(200, b"bare line ends", false));
    }

    #[test]
    fn a_connection_is_reusable_only_when_the_server_keeps_it() {
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false),
            ok(200, b"", false)
        );
        assert_eq!(read(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false), ok(200, b"", false));
        assert_eq!(
            read(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", false),
            ok(200, b"", true)
        );
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let early = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.";
        assert_eq!(read(early, false), ok(200, b".", true));
    }

    #[test]
    fn an_unfinished_answer_wants_more_and_its_end_is_a_reset() {
        for part in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"[..],
            b"HTTP/1.1 20",
            b"",
            b"HTTP/1.1 200 OK\r\nA: b\r\n",
        ] {
            assert_eq!(read(part, false), Ok(None));
            assert_eq!(read(part, true), Err(Reason::ConnectionReset));
        }
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
        assert_eq!(read(chunked, true), Err(Reason::ConnectionReset));
    }

    #[test]
    fn what_is_not_http_is_a_protocol_failure() {
        let long = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'a'; MAX_HEAD]].concat();
        let many =
            [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(MAX_HEADERS + 1), b"\r\n".to_vec()].concat();
        for bad in [
            &b"SSH-2.0-OpenSSH_9\r\n"[..],
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            &long,
            &many,
        ] {
            assert_eq!(read(bad, false), Err(Reason::Protocol), "{:?}", crate::result::text(bad, 60));
        }
    }

    #[test]
    fn no_more_than_ten_kibibytes_of_a_body_are_wanted() {
        let endless = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; MAX_BODY]].concat();
        assert_eq!(read(&endless, false), ok(200, &[b'x'; MAX_BODY], false));
        let huge = [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec(), vec![b'x'; MAX_BODY]]
            .concat();
        assert_eq!(read(&huge, false), ok(200, &[b'x'; MAX_BODY], false));
        let chunk = [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n".to_vec(),
            vec![b'x'; MAX_BODY],
        ]
        .concat();
        assert_eq!(read(&chunk, false), ok(200, &[b'x'; MAX_BODY], false));
    }

    #[test]
    fn bytes_after_the_body_spoil_the_connection() {
        let more = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n.HTTP/1.1 500";
        let mut parser = Parser::default();
        assert_eq!(parser.advance(more, false).unwrap(), Some(Complete { reusable: false }));
        assert_eq!(parser.body(more), b".");
    }
}
