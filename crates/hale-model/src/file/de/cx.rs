//! What a document is read with, and the mistakes on their way into it.

use std::{cell::RefCell, fmt, path::Path};

use serde::de;

use super::words::shorten;
use crate::file::error::{Code, Problem, Span};

/// What a document is read with: where relative paths begin, and the mistakes found so far.
pub(in crate::file) struct Cx<'a> {
    /// The directory of the file, absolute.
    pub(in crate::file) dir: &'a Path,
    problems: RefCell<Vec<Problem>>,
    path: RefCell<Vec<String>>,
}

impl<'a> Cx<'a> {
    pub(in crate::file) fn new(dir: &'a Path) -> Self {
        Self { dir, problems: RefCell::default(), path: RefCell::default() }
    }

    pub(in crate::file) fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The mistakes, in the order of the text.
    pub(in crate::file) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.span);
        problems
    }

    pub(super) fn place(&self) -> String {
        self.path.borrow().concat().trim_start_matches('.').to_owned()
    }

    pub(super) fn within<T>(&self, segment: String, work: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(segment);
        let done = work();
        self.path.borrow_mut().pop();
        done
    }

    pub(super) fn note_error(&self, span: Span, error: Error) {
        let place = error.place.unwrap_or_else(|| self.place());
        let message = if place.is_empty() { error.message } else { format!("{place}: {}", error.message) };
        let mut problem = Problem::new(error.span.unwrap_or(span), error.code, message);
        problem.help = error.help;
        self.note(problem);
    }
}

/// A mistake on its way to the field it belongs to.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) message: String,
    pub(super) code: Code,
    pub(super) help: Option<String>,
    pub(super) span: Option<Span>,
    pub(super) place: Option<String>,
}

impl Error {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, help: None, span: None, place: None }
    }

    /// Fixes where it happened; the innermost place wins.
    pub(super) fn at(mut self, span: Span, cx: &Cx<'_>) -> Self {
        if self.span.is_none() {
            self.span = Some(span);
            self.place = Some(cx.place());
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    /// Text of the form `message (help: …)` is taken apart, so that scalar types can give advice.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let message = message.to_string();
        match message.split_once("\nhelp: ") {
            Some((message, help)) => {
                Self { help: Some(help.to_owned()), ..Self::new(Code::InvalidValue, message) }
            }
            None => Self::new(Code::InvalidValue, message),
        }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Map => "a mapping".to_owned(),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Str(text) => format!("text `{}`", shorten(text)),
            de::Unexpected::Unit => "nothing".to_owned(),
            other => other.to_string(),
        };
        Self::new(Code::WrongType, format!("expected {expected}, found {found}"))
    }
}
