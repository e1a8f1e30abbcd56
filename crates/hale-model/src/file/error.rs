//! What is wrong with a file: where, what was found, what was expected, and a code that stays.

use std::{fmt, path::PathBuf, sync::Arc};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

/// What kind of mistake it is. The words are stable: scripts and the documentation use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The file can't be read.
    Unreadable,
    /// The file is not UTF-8.
    NotUtf8,
    /// The file, or a document in it, is larger than any that was meant.
    TooBig,
    /// It is not YAML.
    Syntax,
    /// Nothing is declared in it.
    Empty,
    /// A key stands twice in one mapping.
    DuplicateField,
    /// A field that does not exist there.
    UnknownField,
    /// A `kind` that does not exist.
    UnknownKind,
    /// Text where a number was expected, a list where a mapping was, and the like.
    WrongType,
    /// The right type, but a value that can't be.
    InvalidValue,
    /// A field that must be there is not.
    MissingField,
    /// Fields that do not go together.
    Conflict,
    /// Two things of one name, or on one address.
    Duplicate,
    /// A name that nothing has.
    UnknownName,
    /// Dependencies that wait for each other.
    Cycle,
    /// Something this build of hale can't do yet.
    NotSupported,
}

impl Code {
    /// The stable word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "hale::file::unreadable",
            Self::NotUtf8 => "hale::file::not_utf8",
            Self::TooBig => "hale::file::too_big",
            Self::Syntax => "hale::file::syntax",
            Self::Empty => "hale::file::empty",
            Self::DuplicateField => "hale::file::duplicate_field",
            Self::UnknownField => "hale::file::unknown_field",
            Self::UnknownKind => "hale::file::unknown_kind",
            Self::WrongType => "hale::file::wrong_type",
            Self::InvalidValue => "hale::file::invalid_value",
            Self::MissingField => "hale::file::missing_field",
            Self::Conflict => "hale::file::conflict",
            Self::Duplicate => "hale::file::duplicate",
            Self::UnknownName => "hale::file::unknown_name",
            Self::Cycle => "hale::file::cycle",
            Self::NotSupported => "hale::file::not_supported",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A stretch of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A mistake before it is known which file it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) span: Span,
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) label: Option<String>,
    pub(crate) help: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Span, code: Code, message: impl Into<String>) -> Self {
        Self { span, code, message: message.into(), label: None, help: None }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A mistake in a file (N2): rendered by miette with the offending lines, or told in one line by `Display`.
#[derive(Debug, Clone)]
pub struct FileError {
    /// The file, as it was given.
    pub path: PathBuf,
    /// What kind of mistake it is.
    pub code: Code,
    /// What is wrong, and where in the document: `livenessProb: unknown field, did you mean livenessProbe?`.
    pub message: String,
    /// What was expected, or what to try.
    pub help: Option<String>,
    /// The line, from 1; `None` when the file could not be read as text.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The offending text, cut to a line.
    pub found: Option<String>,
    label: Option<String>,
    span: Option<Span>,
    source: Option<Arc<NamedSource<String>>>,
}

impl FileError {
    /// A mistake that has no place in the text.
    pub(crate) fn whole(path: PathBuf, code: Code, message: impl Into<String>) -> Self {
        Self {
            path,
            code,
            message: message.into(),
            help: None,
            line: None,
            column: None,
            found: None,
            label: None,
            span: None,
            source: None,
        }
    }

    pub(crate) fn at(path: PathBuf, source: Arc<NamedSource<String>>, problem: Problem) -> Self {
        let text = source.inner();
        let start = text.floor_char_boundary(problem.span.start.min(text.len()));
        let first_line = text[start..].lines().next().unwrap_or("");
        let line_end = start + first_line.len();
        // One line is enough to show the place: a label over a whole block hides more than it tells.
        let end = text.ceil_char_boundary(problem.span.end.clamp(start, line_end));
        let end = start + text[start..end].trim_end().len();
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        Self {
            path,
            code: problem.code,
            message: problem.message,
            help: problem.help,
            line: Some(text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1),
            column: Some(text[line_start..start].chars().count() + 1),
            found: (end > start).then(|| text[start..end].to_owned()),
            label: problem.label,
            span: Some(Span { start, end }),
            source: Some(source),
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// File, line and column in the form that editors and terminals understand: `web.yaml:4:1`.
    #[must_use]
    pub fn place(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.path.display()),
            _ => self.path.display().to_string(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FileError {}

impl Diagnostic for FileError {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_deref().map(|source| source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span?;
        let place = SourceSpan::from((span.start, span.end - span.start));
        let label = self.label.clone().unwrap_or_else(|| "here".to_owned());
        Some(Box::new(std::iter::once(LabeledSpan::new_primary_with_span(Some(label), place))))
    }
}
