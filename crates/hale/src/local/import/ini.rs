//! Sections of `name=value` lines, as systemd and supervisord write them.

/// A line of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    /// Where it begins, in bytes of the text.
    pub(super) at: usize,
}

/// How a tool goes on on the next line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Continued {
    /// A backslash at the end (systemd).
    ByBackslash,
    /// A space at the beginning (supervisord).
    ByIndent,
}

/// The lines of all sections, in their order, comments left out.
pub(super) fn lines(text: &str, continued: Continued) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    let mut section = String::new();
    let mut at = 0;
    let mut open = false;
    for raw in text.split_inclusive('\n') {
        let start = at;
        at += raw.len();
        let line = raw.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let goes_on = match continued {
            Continued::ByBackslash => open,
            Continued::ByIndent => raw.starts_with([' ', '\t']),
        };
        if let Some(last) = all.last_mut().filter(|_| goes_on) {
            let glue = if continued == Continued::ByBackslash { " " } else { "\n" };
            last.value = format!("{}{glue}{}", last.value, line.trim_end_matches('\\').trim_end());
        } else if let Some(name) = line.strip_prefix('[').and_then(|it| it.split(']').next()) {
            section = name.trim().to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let value =
                if continued == Continued::ByBackslash { value.trim_end_matches('\\') } else { value };
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            all.push(Line { section: section.clone(), key, value, at: start });
        }
        open = continued == Continued::ByBackslash && line.ends_with('\\');
    }
    all
}
