//! Procfiles: a workload per line.

use super::{
    draft::Draft,
    out::Out,
    source::Source,
    words::{self, Words},
};
use crate::failure::Failure;

/// The workloads of a Procfile.
///
/// # Errors
/// There is no line `name: command` in it.
pub(super) fn import(source: &Source) -> Result<Vec<Draft>, Failure> {
    let mut drafts = Vec::new();
    let mut at = 0;
    for raw in source.text.split_inclusive('\n') {
        let start = at;
        at += raw.len();
        let line = raw.trim_end();
        if line.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let Some((name, command)) =
            line.split_once(':').filter(|(name, it)| is_name(name) && !it.trim().is_empty())
        else {
            source.note(start, format!("`{line}` is no line of a Procfile: left out"));
            continue;
        };
        if name == "release" {
            source.note(start, "release: runs once before a release: not carried over");
            continue;
        }
        drafts.push(draft(name, command.trim()));
    }
    if drafts.is_empty() { Err(source.wrong(0, "no line `name: command` in it")) } else { Ok(drafts) }
}

/// What may stand before the colon. A file of another kind is mostly not that: its lines are indented, quoted or lists.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|it| it.is_ascii_alphanumeric() || it == '_' || it == '-')
}

/// `$PORT` is put in by hale; anything else that a shell does is left to a shell.
fn draft(name: &str, command: &str) -> Draft {
    let mut draft = Draft::named(name);
    let mark = "\u{1}";
    let marked = with_port(command, mark);
    if marked.contains(mark) || command.contains("${PORT:") || name == "web" {
        draft.add_port(Some("http"), 0, None);
    }
    let words = match words::split(&marked) {
        Words::Plain(words) if !words.is_empty() => {
            words.iter().map(|it| words::literal(it).replace(mark, "$(PORT)")).collect()
        }
        _ => vec!["/bin/sh".to_owned(), "-c".to_owned(), words::literal(command)],
    };
    draft.process.set("command", Out::texts(words));
    draft
}

/// The line with `mark` where it names `$PORT`, and no longer name.
fn with_port(line: &str, mark: &str) -> String {
    let braced = line.replace("${PORT}", mark);
    let mut parts = braced.split("$PORT");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let longer = part.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '_');
        out += if longer { "$PORT" } else { mark };
        out += part;
    }
    out
}
