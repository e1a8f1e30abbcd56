//! Masking what a log may hold and nobody else should read (H25): passwords, tokens, keys.
//!
//! By pattern, so it can miss one and it can hide too much; a line is kept, only the value in it goes.

use std::sync::LazyLock;

use regex::Regex;

const MASK: &str = "[masked]";

/// The longest line that is kept, bytes.
const MAX_LINE: usize = 4096;

/// Patterns and what stands in the place of a match. All are linear in the length of a line.
static PATTERNS: LazyLock<Vec<(Regex, String)>> = LazyLock::new(|| {
    let words =
        "pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?";
    let patterns = [
        // authorization: Bearer …, and a bare Bearer …
        (r"(?i)\b(authorization[\x22']?\s*[:=]\s*[\x22']?)(?:\w+ +)?[^\s\x22',;]+".to_owned(), format!("${{1}}{MASK}")),
        (r"(?i)\b(bearer|basic) +[a-z0-9._~+/=-]{8,}".to_owned(), format!("${{1}} {MASK}")),
        // password=…, "api_key": "…", --token …
        (
            format!(r"(?i)((?:\b|_|-)(?:{words})[\x22']?\s*[:=]\s*)(?:\x22[^\x22]*\x22|'[^']*'|[^\s\x22',;&}}]+)"),
            format!("${{1}}{MASK}"),
        ),
        (format!(r"(?i)(--?(?:[\w-]*-)?(?:{words})\s+)[^\s-]\S*"), format!("${{1}}{MASK}")),
        // scheme://user:…@host
        (r"(://[^/\s:@]*:)[^/\s@]+@".to_owned(), format!("${{1}}{MASK}@")),
        // Forms that are nothing but a secret.
        (
            r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|A[KS]IA[0-9A-Z]{16}|xox[abeprs]-[\w-]{10,}|sk-[\w-]{16,}|hale_[\w-]{16,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
                .to_owned(),
            MASK.to_owned(),
        ),
    ];
    patterns.into_iter().filter_map(|(pattern, with)| Some((Regex::new(&pattern).ok()?, with))).collect()
});

/// Terminal control sequences.
static CONTROL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?").ok());

/// One line without secrets and control characters, cut to 4 KiB.
#[must_use]
pub fn line(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(MAX_LINE)];
    let text = CONTROL.as_ref().map_or_else(|| text.into(), |control| control.replace_all(text, ""));
    let mut text: String = text.chars().filter(|c| !c.is_control() || *c == '\t').collect();
    for (pattern, with) in PATTERNS.iter() {
        if let std::borrow::Cow::Owned(masked) = pattern.replace_all(&text, with.as_str()) {
            text = masked;
        }
    }
    text
}

/// Lines in a row: as [`line()`], and a private key in PEM form goes whole.
#[must_use]
pub fn lines<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut in_key = false;
    let mut masked = Vec::new();
    for text in lines {
        if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
            in_key = true;
            masked.push(format!("{MASK}: a private key"));
        }
        if !in_key {
            masked.push(line(text));
        }
        if text.contains("-----END") {
            in_key = false;
        }
    }
    masked
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("connect password=hunter2 host=db", "connect password=[masked] host=db")]
    #[case(r#"{"api_key": "abc def", "n": 1}"#, r#"{"api_key": [masked], "n": 1}"#)]
    #[case("DB_PASSWORD='x y' next", "DB_PASSWORD=[masked] next")]
    #[case("Authorization: Bearer abcdefgh.ijk", "Authorization: [masked]")]
    #[case("sent bearer abcdefghijkl", "sent bearer [masked]")]
    #[case("run --auth-token s3cr3t --port 80", "run --auth-token [masked] --port 80")]
    #[case("postgres://app:pw@db:5432/x", "postgres://app:[masked]@db:5432/x")]
    #[case("key AKIAABCDEFGHIJKLMNOP used", "key [masked] used")]
    #[case("\x1b[31mred\x1b[0m\r", "red")]
    #[case("tokens used: 12 of 40", "tokens used: 12 of 40")]
    #[case("GET /passwords 200", "GET /passwords 200")]
    fn only_the_value_goes(#[case] text: &str, #[case] masked: &str) {
        assert_eq!(line(text), masked);
    }

    #[test]
    fn a_private_key_goes_whole() {
        let text =
            ["before", "-----BEGIN RSA PRIVATE KEY-----", "MIIE", "-----END RSA PRIVATE KEY-----", "after"];
        assert_eq!(lines(text), ["before", "[masked]: a private key", "after"]);
    }

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(PATTERNS.len(), 6);
        assert!(CONTROL.is_some());
    }
}
