//! What an HTTP answer must be to be a success (H7).

use hale_health::{Reason, Verdict};
use hale_model::spec::{BodyMatch, HttpGet};
use serde_json::Value;

use super::redirect::{self, Destination, Redirect};
use crate::{
    CompileError,
    result::{Fault, MAX_SNIPPET, text},
};

/// The statuses that are success unless the check says otherwise.
const USUAL: (u16, u16) = (200, 399);

/// What is expected of an answer.
#[derive(Debug)]
pub(crate) struct Expectation {
    /// The one range, in nearly all checks.
    first: (u16, u16),
    /// The other ranges.
    more: Box<[(u16, u16)]>,
    /// Whether a redirect is looked behind, or is itself the answer.
    follow: bool,
    content: Option<Box<Content>>,
}

#[derive(Debug)]
struct Content {
    body: Option<Body>,
    json: Vec<(String, Value)>,
}

#[derive(Debug)]
enum Body {
    Contains(String),
    Matches(regex::Regex),
}

/// An answer: the status and as much of the body as is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) location: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// What an answer means.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// It is decided.
    Decided { verdict: Verdict, snippet: Option<Box<str>>, warning: Option<Box<str>> },
    /// It is a redirect on the same host, to be followed.
    Follow(Redirect),
}

impl Expectation {
    /// Prepares what a check expects.
    pub(crate) fn compile(spec: &HttpGet) -> Result<Self, CompileError> {
        let ranges = &spec.expected_status;
        let body = match &spec.expected_body {
            None => None,
            Some(BodyMatch::Contains(part)) => Some(Body::Contains(part.clone())),
            Some(BodyMatch::Regex(pattern)) => {
                let compiled = regex::Regex::new(pattern)
                    .map_err(|error| CompileError::Pattern(pattern.clone(), error.to_string()))?;
                Some(Body::Matches(compiled))
            }
        };
        for (pointer, _) in &spec.expected_json {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(CompileError::Pointer(pointer.clone()));
            }
        }
        let content = (body.is_some() || !spec.expected_json.is_empty())
            .then(|| Box::new(Content { body, json: spec.expected_json.clone() }));
        Ok(Self {
            first: ranges.first().copied().unwrap_or(USUAL),
            more: ranges.iter().skip(1).copied().collect(),
            // A check that wants nothing but 3xx wants the redirect itself.
            follow: ranges.is_empty() || ranges.iter().any(|(low, _)| *low < 300),
            content,
        })
    }

    fn wants(&self, status: u16) -> bool {
        let within = |(low, high): &(u16, u16)| (*low..=*high).contains(&status);
        within(&self.first) || self.more.iter().any(within)
    }

    /// Judges an answer that came from `from`. Allocates only where something is wrong or redirected.
    pub(crate) fn judge(&self, answer: Answer<'_>, from: impl FnOnce() -> Destination) -> Judgement {
        if self.follow
            && matches!(answer.status, 301 | 302 | 303 | 307 | 308)
            && let Some(location) = answer.location
        {
            let from = from();
            return match redirect::resolve(&from, location) {
                Ok(Redirect::SameHost(to)) => Judgement::Follow(Redirect::SameHost(to)),
                Ok(Redirect::OtherHost(host)) => Judgement::Decided {
                    verdict: Verdict::Success,
                    snippet: None,
                    warning: Some(
                        format!("redirected to another host, {host}, which was not asked").into_boxed_str(),
                    ),
                },
                Err(detail) => failed(answer, Fault::new(Reason::Protocol, detail)),
            };
        }
        if !self.wants(answer.status) {
            return failed(answer, self.status_mismatch(answer));
        }
        match self.content.as_deref().and_then(|it| it.mismatch(answer.body)) {
            Some(detail) => failed(answer, Fault::new(Reason::BodyMismatch, detail)),
            None => Judgement::Decided { verdict: Verdict::Success, snippet: None, warning: None },
        }
    }

    fn status_mismatch(&self, answer: Answer<'_>) -> Fault {
        let ranges: Vec<String> = std::iter::once(&self.first)
            .chain(&self.more)
            .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") })
            .collect();
        let mut detail = format!("status {}, expected {}", answer.status, ranges.join(","));
        let body = text(answer.body, 256);
        if !body.trim().is_empty() {
            detail.push_str(": ");
            detail.push_str(body.trim());
        }
        Fault::new(Reason::StatusMismatch, detail)
    }
}

fn failed(answer: Answer<'_>, fault: Fault) -> Judgement {
    let snippet = text(answer.body, MAX_SNIPPET);
    Judgement::Decided {
        verdict: Verdict::failure(fault.reason, fault.detail),
        snippet: (!snippet.is_empty()).then(|| snippet.into_boxed_str()),
        warning: None,
    }
}

impl Content {
    fn mismatch(&self, body: &[u8]) -> Option<String> {
        let as_text = String::from_utf8_lossy(body);
        match &self.body {
            Some(Body::Contains(part)) if !as_text.contains(part.as_str()) => {
                return Some(format!("the body does not hold {part:?}: {:?}", text(body, 256)));
            }
            Some(Body::Matches(pattern)) if !pattern.is_match(&as_text) => {
                return Some(format!("the body does not match /{pattern}/: {:?}", text(body, 256)));
            }
            _ => {}
        }
        if self.json.is_empty() {
            return None;
        }
        let value: Value = match serde_json::from_slice(body) {
            Ok(value) => value,
            Err(error) => return Some(format!("the body is not JSON ({error}): {:?}", text(body, 256))),
        };
        self.json.iter().find_map(|(pointer, expected)| match value.pointer(pointer) {
            Some(found) if same(found, expected) => None,
            Some(found) => {
                let found = text(found.to_string().as_bytes(), 256);
                Some(format!("at {pointer:?} of the body stands {found}, expected {expected}"))
            }
            None => Some(format!("there is nothing at {pointer:?} of the body, expected {expected}")),
        })
    }
}

/// Equal as JSON values: 1 and 1.0 are the same number.
fn same(found: &Value, expected: &Value) -> bool {
    found == expected
        || matches!((found.as_f64(), expected.as_f64()), (Some(one), Some(other)) if one == other)
}
