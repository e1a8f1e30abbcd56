//! Files of `NAME=value` lines (`envFrom`).

use std::path::Path;

use super::spawn_error;
use crate::runtime::SpawnError;

/// The longest such file, bytes.
const MAX: u64 = 1 << 20;

/// Reads a file of `NAME=value` lines: empty lines and those that begin with `#` are passed over, `export ` before a
/// name too; a value in double or single quotes is taken without them. Nothing is expanded.
///
/// # Errors
/// `env_file`: it can't be read, is too long, or holds another line.
pub fn read(path: &Path) -> Result<Vec<(String, String)>, SpawnError> {
    let failed =
        |what: String| spawn_error("env_file", format!("can't read envFrom file {}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX {
        return Err(failed(format!("it has {size} bytes, more than {MAX}")));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    parse(&text).map_err(|line| failed(format!("line {line} is not NAME=value")))
}

/// The pairs, or the number of the first line that is wrong. Its text may be a secret, and is not told.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut pairs = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(number + 1)?;
        let name = name.trim();
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(number + 1);
        }
        pairs.push((name.to_owned(), unquote(value.trim()).to_owned()));
    }
    Ok(pairs)
}

fn unquote(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_read_line_by_line() {
        let text = "# a comment\n\nA=1\nexport B = two words \nC=\"quoted = #\"\nD='x'\nE=\n";
        let pairs = parse(text).unwrap();
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "two words"), ("C", "quoted = #"), ("D", "x"), ("E", "")]);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, "A=1\nhunter2\n").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.code, "env_file");
        assert!(error.detail.contains("line 2") && !error.detail.contains("hunter2"), "{error}");
        assert_eq!(read(&dir.path().join("none")).unwrap_err().code, "env_file");
    }
}
