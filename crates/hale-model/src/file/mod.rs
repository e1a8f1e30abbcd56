//! Reading workload files (C1, N2): YAML in, validated values out, or every mistake with its place.
//!
//! The way of a document: text → tree with places (`tree`) → raw form (`de`, `raw`) → validated value (`convert`)
//! → checks that need all documents of all files (`together`). Nothing here does I/O but reading the given files.

mod check;
mod container;
mod convert;
mod de;
mod digest;
mod error;
mod http;
mod outside;
mod ports;
mod process;
mod raw;
mod raw_container;
mod raw_probe;
mod raw_responder;
mod raw_target;
mod responder;
mod restart;
mod scalar;
mod schema;
mod signal;
mod target;
mod together;
mod tree;
mod write;

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use miette::NamedSource;

pub use convert::{is_label, is_node_name};
pub use error::{Code, FileError};
pub(crate) use http::host_and_port;
pub use http::{parse_statuses, parse_url};
pub use scalar::parse_duration;
pub use schema::schema;
pub(crate) use schema::schema_of_documents;
pub use signal::signal_name;
pub use tree::{Key, Kind, Node, read_tree};

use self::{
    convert::Placed,
    de::{Cx, suggest},
    error::{Problem, Span},
    together::Gathered,
    tree::Documents,
};
use crate::{
    document::Document,
    spec::{Responder, Target, Workload},
};

/// The most bytes of one file (N2).
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The most documents of one file (N2).
pub const MAX_DOCUMENTS: usize = 100_000;
/// More mistakes of one file than this are not told: the first ones explain the rest.
const MAX_ERRORS: usize = 100;

/// What is done with responders among documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Responders {
    /// They are read like the rest; no document is made of them.
    #[default]
    Taken,
    /// They are a mistake: documents are for a server, which has none.
    Refused,
}

/// What files declare.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// In the order of the files.
    pub workloads: Vec<Arc<Workload>>,
    /// In the order of the files.
    pub targets: Vec<Arc<Target>>,
    /// In the order of the files.
    pub responders: Vec<Arc<Responder>>,
}

impl Declared {
    /// The workloads, each after those it depends on; else in the order of the files.
    #[must_use]
    pub fn in_dependency_order(&self) -> Vec<Arc<Workload>> {
        together::in_order(&self.workloads)
    }
}

/// Reads files, all documents of them, and checks them one by one and together. `-` stands for standard input.
///
/// # Errors
/// Every mistake of every file, in the order of the files and of their text, at most a hundred a file. Nothing is
/// declared unless all files are right.
pub fn read_files<P: AsRef<Path>>(paths: &[P]) -> Result<Declared, Vec<FileError>> {
    let mut all = Gathered::default();
    let mut errors = Vec::new();
    for path in paths {
        let path = path.as_ref();
        match load(path) {
            Ok(text) => read_text(path, &base_of(path), text, &mut all, &mut errors),
            Err(error) => errors.push(*error),
        }
    }
    finish(all, errors)
}

/// Reads a text as if it were a file of this name, with relative paths beginning at `dir`.
///
/// # Errors
/// As [`read_files`].
pub fn read_str(name: &str, dir: &Path, text: &str) -> Result<Declared, Vec<FileError>> {
    read_bytes(name, dir, text.as_bytes())
}

/// As [`read_str`], for bytes that may not be text.
///
/// # Errors
/// As [`read_files`].
pub fn read_bytes(name: &str, dir: &Path, bytes: &[u8]) -> Result<Declared, Vec<FileError>> {
    let mut all = Gathered::default();
    let mut errors = Vec::new();
    let path = Path::new(name);
    match decode(path, bytes.to_vec()) {
        Ok(text) => read_text(path, dir, text, &mut all, &mut errors),
        Err(error) => errors.push(*error),
    }
    finish(all, errors)
}

/// As [`crate::document::read`], or [`crate::document::read_beside`].
pub(crate) fn read_documents<P: AsRef<Path>>(
    paths: &[P],
    responders: Responders,
) -> Result<Vec<Document>, Vec<FileError>> {
    let mut all = Gathered::open(responders);
    let mut errors = Vec::new();
    for path in paths {
        let path = path.as_ref();
        match load(path) {
            Ok(text) => read_text(path, &base_of(path), text, &mut all, &mut errors),
            Err(error) => errors.push(*error),
        }
    }
    finish_documents(all, errors)
}

/// As [`crate::document::read_str`].
pub(crate) fn read_documents_str(
    name: &str,
    dir: &Path,
    text: &str,
) -> Result<Vec<Document>, Vec<FileError>> {
    let mut all = Gathered::open(Responders::Refused);
    let mut errors = Vec::new();
    read_text(Path::new(name), dir, text.to_owned(), &mut all, &mut errors);
    finish_documents(all, errors)
}

/// Reads one document that may refer to names that are elsewhere.
pub(crate) fn read_alone(name: &str, dir: &Path, text: &str) -> Result<Declared, Vec<FileError>> {
    let mut all = Gathered::open(Responders::Refused);
    let mut errors = Vec::new();
    read_text(Path::new(name), dir, text.to_owned(), &mut all, &mut errors);
    finish(all, errors)
}

/// Reads texts, each with its own directory, and checks them together.
pub(crate) fn read_together<'a>(
    texts: impl Iterator<Item = (String, &'a Path, &'a str)>,
) -> Result<Declared, Vec<FileError>> {
    let mut all = Gathered::default();
    let mut errors = Vec::new();
    for (name, dir, text) in texts {
        read_text(Path::new(&name), dir, text.to_owned(), &mut all, &mut errors);
    }
    finish(all, errors)
}

fn finish_documents(mut all: Gathered, mut errors: Vec<FileError>) -> Result<Vec<Document>, Vec<FileError>> {
    together::check(&all, &mut errors);
    if errors.is_empty() { Ok(std::mem::take(&mut all.documents)) } else { Err(errors) }
}

fn finish(all: Gathered, mut errors: Vec<FileError>) -> Result<Declared, Vec<FileError>> {
    together::check(&all, &mut errors);
    if errors.is_empty() { Ok(all.into_declared()) } else { Err(errors) }
}

fn base_of(path: &Path) -> PathBuf {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() && path != Path::new("-") => dir.to_path_buf(),
        _ => PathBuf::from("."),
    };
    std::fs::canonicalize(&dir).or_else(|_| std::path::absolute(&dir)).unwrap_or(dir)
}

fn load(path: &Path) -> Result<String, Box<FileError>> {
    let unreadable = |error: std::io::Error| {
        Box::new(FileError::whole(
            path.to_path_buf(),
            Code::Unreadable,
            format!("{}: {error}", path.display()),
        ))
    };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        if file.metadata().map_err(unreadable)?.is_dir() {
            let error = FileError::whole(
                path.to_path_buf(),
                Code::Unreadable,
                format!("{}: is a directory", path.display()),
            );
            return Err(Box::new(error.help("name the files in it")));
        }
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    decode(path, bytes)
}

fn decode(path: &Path, bytes: Vec<u8>) -> Result<String, Box<FileError>> {
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("{}: is larger than {} MiB", path.display(), MAX_BYTES >> 20);
        return Err(Box::new(
            FileError::whole(path.to_path_buf(), Code::TooBig, message).help("split it into several files"),
        ));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let span = Span { start: at, end: at + '\u{fffd}'.len_utf8() };
            let message = format!("not UTF-8: byte 0x{byte:02x} can't stand here");
            let problem = Problem::new(span, Code::NotUtf8, message).help("save the file as UTF-8");
            Err(Box::new(FileError::at(path.to_path_buf(), named(path, text), problem)))
        }
    }
}

fn named(path: &Path, text: String) -> Arc<NamedSource<String>> {
    Arc::new(NamedSource::new(path.display().to_string(), text))
}

fn read_text(path: &Path, dir: &Path, text: String, all: &mut Gathered, errors: &mut Vec<FileError>) {
    let source = named(path, text);
    let mut problems = Vec::new();
    let mut documents = 0;
    let file = all.add_file(path.to_path_buf(), Arc::clone(&source));
    for document in Documents::new(source.inner()) {
        let node = match document {
            Ok(node) if node.is_null() => continue,
            Ok(node) => node,
            Err(problem) => {
                problems.push(problem);
                break;
            }
        };
        documents += 1;
        if documents > MAX_DOCUMENTS {
            let message = format!("more than {MAX_DOCUMENTS} documents in one file");
            problems.push(Problem::new(node.span, Code::TooBig, message).help("split it into several files"));
            break;
        }
        let cx = Cx::new(dir);
        read_document(&node, &cx, file, all);
        problems.extend(cx.into_problems());
        if problems.len() >= MAX_ERRORS {
            break;
        }
    }
    if documents == 0 && problems.is_empty() {
        let message = format!("{}: nothing is declared in it", path.display());
        errors.push(
            FileError::whole(path.to_path_buf(), Code::Empty, message)
                .help("a document begins with kind: Workload, kind: Target or kind: Responder"),
        );
    }
    problems.truncate(MAX_ERRORS);
    errors.extend(
        problems.into_iter().map(|problem| FileError::at(path.to_path_buf(), Arc::clone(&source), problem)),
    );
}

fn read_document(node: &Node, cx: &Cx<'_>, file: usize, all: &mut Gathered) {
    if !matches!(node.kind, Kind::Map(_)) {
        cx.note(
            Problem::new(
                node.span,
                Code::WrongType,
                "expected a mapping that begins with kind: Workload, kind: Target or kind: Responder",
            )
            .help("a document is written as `field: value` lines"),
        );
        return;
    }
    let Some(kind) = node.get("kind") else {
        cx.note(no_kind(node));
        return;
    };
    let word = match &kind.kind {
        Kind::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    match word {
        "Workload" => {
            if let Some(raw) = de::read(node, cx) {
                let digest = digest::of(node, cx.dir);
                let placed: Placed<Workload> = convert::workload(raw, node.span, digest.clone(), cx);
                all.document(node, "Workload", &placed.value.name, digest, cx.dir);
                all.workloads.push((file, placed));
            }
        }
        "Target" => {
            if let Some(raw) = de::read(node, cx)
                && let Some(placed) = convert::target(raw, node.span, digest::of(node, cx.dir), cx)
            {
                all.document(node, "Target", &placed.value.name, placed.value.digest.clone(), cx.dir);
                all.targets.push((file, placed));
            }
        }
        "Responder" if all.refuses_responders() => cx.note(
            Problem::new(kind.span, Code::Conflict, "kind: a Responder is not declared to a server")
                .help("it is run from its file, by `hale responder` or `hale up`"),
        ),
        "Responder" => {
            if let Some(raw) = de::read(node, cx) {
                all.responders
                    .push((file, responder::responder(raw, node.span, digest::of(node, cx.dir), cx)));
            }
        }
        other => cx.note(unknown_kind(node, kind, other)),
    }
}

/// It says nothing of what it is. What other tools read is shown the way.
fn no_kind(node: &Node) -> Problem {
    let problem = Problem::new(node.span, Code::MissingField, "kind: missing");
    if node.get("services").is_some() {
        problem.help("for a compose file: `hale import compose FILE` makes workload files of it")
    } else {
        problem.help("add kind: Workload, kind: Target or kind: Responder at the top of the document")
    }
}

/// It is something else, or misspelt.
fn unknown_kind(node: &Node, kind: &Node, word: &str) -> Problem {
    let message = match suggest(word, ["Workload", "Target", "Responder"]) {
        Some(meant) => format!("kind: there is no {}, did you mean {meant}?", de::shorten(word)),
        None => format!("kind: expected Workload, Target or Responder, found `{}`", de::shorten(word)),
    };
    let problem = Problem::new(kind.span, Code::UnknownKind, message).label("unknown kind");
    if node.get("apiVersion").is_some() && node.get("metadata").is_some() {
        return problem
            .help("for a Kubernetes manifest: `hale import kubernetes FILE` makes workload files of it");
    }
    problem
}
