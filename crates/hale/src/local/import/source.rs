//! A file that is imported, and what is noted about it.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    rc::Rc,
};

use hale_model::file::{Key, Node, read_tree};

use crate::{failure::Failure, files};

/// A file, and what was found in it that is not carried over.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    notes: RefCell<Vec<(usize, String)>>,
}

impl Source {
    pub(super) fn new(path: &Path, text: String) -> Self {
        Self { path: path.to_path_buf(), text, notes: RefCell::new(Vec::new()) }
    }

    /// Where paths in it begin.
    pub(super) fn dir(&self) -> &Path {
        self.path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// What it is called, without its directory.
    pub(super) fn file_name(&self) -> String {
        self.path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Its documents as YAML, which JSON is, too.
    pub(super) fn documents(&self) -> Result<Vec<Rc<Node>>, Failure> {
        read_tree(&self.path.display().to_string(), &self.text).map_err(|error| files::invalid(&[*error]))
    }

    /// Something at a place, in bytes of the text, is not carried over, or not as it was.
    pub(super) fn note(&self, at: usize, what: impl Into<String>) {
        self.notes.borrow_mut().push((at, what.into()));
    }

    pub(super) fn note_key(&self, key: &Key, what: impl Into<String>) {
        self.note(key.start(), what);
    }

    /// The notes as lines, in the order of the text, none twice: `compose.yaml:3:5: …`.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.borrow().clone();
        notes.sort();
        notes.dedup();
        notes.iter().map(|(at, what)| format!("{}: {what}", self.place(*at))).collect()
    }

    fn place(&self, at: usize) -> String {
        let at = self.text.floor_char_boundary(at);
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    /// A failure at a place.
    pub(super) fn wrong(&self, at: usize, what: &str) -> Failure {
        Failure::InvalidFile(format!("{}: {what}", self.place(at)))
    }
}
