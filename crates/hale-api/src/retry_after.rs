//! The header by which a server says when to come again.

use std::time::Duration;

use http::{HeaderMap, header};
use jiff::Timestamp;

/// How long `Retry-After` asks to wait: seconds, or a date (RFC 9110, 10.2.3), which may be over. `None` without one that
/// can be read.
#[must_use]
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn it_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Thu, 01 Jan 2026 00:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(read("Thu, 01 Jan 2015 00:01:30 GMT"), Some(Duration::ZERO));
        for none in ["", "soon", "-1", "Thu, 01 Jan"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
