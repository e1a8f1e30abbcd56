//! `${NAME:-default}` of compose files, from the environment and from `.env`.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

/// The variables there are; those of the environment win.
#[derive(Debug, Default)]
pub(super) struct Variables {
    from_file: BTreeMap<String, String>,
    environment: bool,
    /// Asked for, and not there.
    missing: RefCell<Vec<String>>,
}

impl Variables {
    /// Of the environment and of a file of `NAME=value` lines.
    ///
    /// # Errors
    /// There is a file, and it can't be read; or it must be there.
    pub(super) fn read(path: &Path, must_be: bool) -> Result<Self, String> {
        let from_file = match std::fs::read_to_string(path) {
            Ok(text) => lines(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_be => BTreeMap::new(),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        Ok(Self { from_file, environment: true, missing: RefCell::default() })
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        let own = self.environment.then(|| std::env::var(name).ok()).flatten();
        own.or_else(|| self.from_file.get(name).cloned())
    }

    /// Names that were asked for without a default and are not there, since this was asked last.
    pub(super) fn take_missing(&self) -> Vec<String> {
        std::mem::take(&mut self.missing.borrow_mut())
    }

    /// Puts values in: `$NAME`, `${NAME}`, `${NAME:-default}`, `-`, `:?`, `?`, `:+`, `+`; `$$` is a dollar sign.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((inside, after)) = rest.strip_prefix('{').and_then(braces) {
                out.push_str(&self.value(inside));
                rest = after;
            } else {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
                    out.push('$');
                } else {
                    out.push_str(&self.value(&rest[..end]));
                    rest = &rest[end..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn value(&self, inside: &str) -> String {
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        let (name, operator) = inside.split_at(end);
        let value = self.get(name);
        // With a colon an empty value counts as none.
        let (colon, operator) = match operator.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, operator),
        };
        let there = value.filter(|it| !colon || !it.is_empty());
        let mut letters = operator.chars();
        match (letters.next(), there) {
            (Some('+'), Some(_)) => self.expand(letters.as_str()),
            (Some('+'), None) => String::new(),
            (_, Some(value)) => value,
            (Some('-'), None) => self.expand(letters.as_str()),
            (_, None) => {
                self.missing.borrow_mut().push(name.to_owned());
                String::new()
            }
        }
    }
}

/// What is before the brace that closes, and what is after it.
fn braces(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// `NAME=value` lines, with quotes around values taken off.
fn lines(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim).filter(|it| !it.is_empty() && !it.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
            let value = value.trim();
            let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            let value = bare.unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim_end());
            Some((name.trim().to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_resolved_as_compose_does() {
        let text = "A=1\n# words\nexport B='two words'\nEMPTY=\nC=3 # why\n";
        let all = Variables { from_file: lines(text), ..Variables::default() };
        let cases = [
            ("$A-${A}", "1-1"),
            ("${B}", "two words"),
            ("${C}", "3"),
            ("${NONE:-x}", "x"),
            ("${NONE-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${A:+set}${NONE:+set}", "set"),
            ("${EMPTY+set}${EMPTY:+not}", "set"),
            ("${NONE:-${A:-y}}", "1"),
            ("${NONE:-a}b}", "ab}"),
            ("$$A $(A) 5$ ${open", "$A $(A) 5$ ${open"),
            ("${A:?must be}", "1"),
        ];
        for (given, expected) in cases {
            assert_eq!(all.expand(given), expected, "{given}");
        }
        assert!(all.take_missing().is_empty());
        assert_eq!(all.expand("[${NONE:?must be} $ALSO]"), "[ ]");
        assert_eq!(all.take_missing(), ["NONE", "ALSO"]);
    }
}
