//! Errors over the wire: RFC 9457 problem details with a stable code (S23).

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words; the same for every one of its kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to try.
    pub detail: String,
    /// The stable code: what programs decide by.
    pub code: Code,
    /// Of a declaration: every mistake, with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Mistake>,
    /// How long the server asks to be left alone: its header `Retry-After`, not a part of the body.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

/// One mistake in a declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mistake {
    /// File, line and column: `app.yaml:3:9`.
    pub place: String,
    /// What is wrong there.
    pub message: String,
    /// What to try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:hale:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            errors: Vec::new(),
            retry_after: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.detail.is_empty() { &self.title } else { &self.detail })?;
        for it in &self.errors {
            write!(f, "\n{}: {}", it.place, it.message)?;
            if let Some(help) = &it.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal, $title:literal;)*) => {
        /// The closed list of what can be wrong with a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know: the other side is newer.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Every known code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* Self::Unknown => "unknown" }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* Self::Unknown => 500 }
            }

            /// It in words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* Self::Unknown => "something went wrong" }
            }
        }
    };
}

codes! {
    /// A parameter or the body is not as it should be.
    BadRequest = "bad_request", 400, "the request is not valid";
    /// No token, or one that is not known.
    Unauthorized = "unauthorized", 401, "a valid token is needed";
    /// The token is known but does not allow this.
    Forbidden = "forbidden", 403, "not allowed";
    /// There is no such thing.
    NotFound = "not_found", 404, "not found";
    /// The path exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, "method not allowed";
    /// The request did not come in time.
    RequestTimeout = "request_timeout", 408, "the request took too long";
    /// Others changed the same meanwhile, or something of this name was made.
    Conflict = "conflict", 409, "changed meanwhile";
    /// It makes no sense for this thing, or not now.
    NotApplicable = "not_applicable", 409, "not applicable";
    /// The body is above 1 MiB; of manifests and diagnostics, above 8 MiB.
    BodyTooLarge = "body_too_large", 413, "the body is too large";
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "the body must be JSON";
    /// A declaration is wrong; `errors` says what, and where.
    InvalidDocument = "invalid_document", 422, "the declaration is not valid";
    /// The `Host` header names another host: a page elsewhere may be trying to reach in.
    HostNotAllowed = "host_not_allowed", 421, "host not allowed";
    /// Too many requests with this token; `Retry-After` says when the next is taken.
    TooManyRequests = "too_many_requests", 429, "too many requests";
    /// The server's own fault.
    Internal = "internal", 500, "internal error";
    /// A part that is needed does not answer now.
    Unavailable = "unavailable", 503, "not available now";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_code_is_what_stands_in_json() {
        for &code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_code_of_a_newer_server_is_unknown_rather_than_an_error() {
        let code: Code = serde_json::from_str("\"quota_exceeded\"").unwrap();
        assert_eq!(code, Code::Unknown);
    }
}
