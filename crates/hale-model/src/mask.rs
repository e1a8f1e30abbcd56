//! Secrets are taken out of what is kept or told of output (H25, K11): the values a replica was given, and what looks
//! like a token, a password or a key.

const MASK: &str = "***";

/// Values shorter than this are left: masking every `1` would tell more than it hides.
const SHORTEST: usize = 4;

/// Shorter lines of a value of several lines may be words of any text: `}`, `begin`.
const LONG_LINE: usize = 16;

/// Words that name a secret when they end a name before `=` or `:`.
const NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "private_key",
    "authorization",
];

/// Words after which a credential stands by itself.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];

/// Beginnings of well-known tokens.
const PREFIXES: [&str; 12] = [
    "hale_",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk-",
    "AKIA",
    "ASIA",
    "eyJ",
];

/// Takes the secrets of one replica out of text.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Masker {
    secrets: Vec<String>,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masker").field("secrets", &self.secrets.len()).finish()
    }
}

impl Masker {
    /// A masker that knows these values, beside what looks like a secret.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().flat_map(with_lines).collect();
        secrets.retain(|it| it.len() >= SHORTEST);
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|it| std::cmp::Reverse(it.len()));
        secrets.dedup();
        Self { secrets }
    }

    /// One line without secrets and without control characters.
    #[must_use]
    pub fn line(&self, line: &str) -> String {
        let text = self.given(without_control(line));
        mask_tokens(&mask_user_info(&mask_named(&text)))
    }

    /// One line without control characters, and nothing else taken out.
    #[must_use]
    pub fn plain(line: &str) -> String {
        without_control(line)
    }

    /// A text as it is, without the values the replica was given.
    #[must_use]
    pub fn given(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        text
    }
}

/// A value of several lines, such as a key, is met line by line too.
fn with_lines(value: String) -> Vec<String> {
    let trimmed = value.trim();
    if !trimmed.contains('\n') {
        return vec![trimmed.to_owned()];
    }
    let mut all: Vec<String> =
        trimmed.lines().map(str::trim).filter(|line| line.len() >= LONG_LINE).map(str::to_owned).collect();
    all.push(trimmed.to_owned());
    all
}

/// Takes terminal sequences and control characters out; a tab stays.
fn without_control(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|it| !('@'..='~').contains(&it)) {}
            } else if chars.next_if_eq(&']').is_some() {
                // A title or a link, up to a bell or its own end.
                while let Some(it) = chars.next() {
                    if it == '\u{7}' || (it == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                        break;
                    }
                }
            }
        } else if char == '\t' || !char.is_control() {
            out.push(char);
        }
    }
    out
}

/// `password=x`, `"token": "x"`, `Authorization: Bearer x`.
fn mask_named(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some((start, end)) = next_value(&lower, from) {
        out.push_str(&text[from..start]);
        out.push_str(MASK);
        from = end;
    }
    out.push_str(&text[from..]);
    out
}

/// Where the next value that belongs to the name of a secret stands.
fn next_value(lower: &str, from: usize) -> Option<(usize, usize)> {
    let named = NAMES.iter().filter_map(|name| {
        lower[from..].match_indices(name).find_map(|(at, _)| value_after(lower, from + at + name.len()))
    });
    let schemes = SCHEMES.iter().filter_map(|scheme| {
        let start = from + lower[from..].find(scheme)? + scheme.len();
        let end = end_of_word(lower, start);
        (end - start >= 8).then_some((start, end))
    });
    named.chain(schemes).min()
}

/// The value after a name that ends at `at`, if `=` or `:` follows.
fn value_after(lower: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &lower[at..];
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest).trim_start();
    let rest = rest.strip_prefix(['=', ':'])?.trim_start();
    let quote = rest.chars().next().filter(|it| matches!(it, '"' | '\''));
    let rest = quote.map_or(rest, |quote| rest.strip_prefix(quote).unwrap_or(rest));
    let rest = SCHEMES.iter().find_map(|scheme| rest.strip_prefix(scheme)).unwrap_or(rest);
    let start = lower.len() - rest.len();
    let end = match quote {
        Some(quote) => rest.find(quote).map_or(lower.len(), |it| start + it),
        None => end_of_word(lower, start),
    };
    (end > start && &lower[start..end] != MASK).then_some((start, end))
}

fn end_of_word(text: &str, start: usize) -> usize {
    let ends = |it: char| it.is_whitespace() || matches!(it, ',' | ';' | '&' | '"' | '\'' | ')' | '}');
    text[start..].find(ends).map_or(text.len(), |it| start + it)
}

/// `scheme://user:password@host`.
fn mask_user_info(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let authority =
            tail.find(|it: char| it.is_whitespace() || matches!(it, '/' | '?' | '#' | '"' | '\''));
        let authority = &tail[..authority.unwrap_or(tail.len())];
        rest = tail;
        if let Some((info, _)) = authority.rsplit_once('@')
            && let Some((user, _)) = info.split_once(':')
        {
            out.push_str(user);
            out.push(':');
            out.push_str(MASK);
            rest = &tail[info.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// Words that begin as tokens do and are long enough to be one.
fn mask_tokens(text: &str) -> String {
    if !PREFIXES.iter().any(|prefix| text.contains(prefix)) {
        return text.to_owned();
    }
    let of_token = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(of_token) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find(|it| !of_token(it)).unwrap_or(rest.len());
        let word = &rest[..end];
        let is_token = word.len() >= 20 && PREFIXES.iter().any(|prefix| word.starts_with(prefix));
        out.push_str(if is_token { MASK } else { word });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("DB_PASSWORD=hunter2 next", "DB_PASSWORD=*** next")]
    #[case(r#"{"token": "a b c", "user": "x"}"#, r#"{"token": "***", "user": "x"}"#)]
    #[case("Authorization: Bearer abcdefgh123, ok", "Authorization: Bearer ***, ok")]
    #[case("sent bearer abcdefgh123 twice bearer abcdefgh124", "sent bearer *** twice bearer ***")]
    #[case("GET /?api_key=k1&page=2", "GET /?api_key=***&page=2")]
    #[case("to postgres://app:s3cret@db:5432/x", "to postgres://app:***@db:5432/x")]
    #[case("see https://example.com/a@b:c", "see https://example.com/a@b:c")]
    #[case("key ghp_0123456789abcdefghijABCDEFGHIJ012345 used", "key *** used")]
    #[case("a token was refreshed", "a token was refreshed")]
    #[case("tokens: 15", "tokens: 15")]
    #[case("\u{1b}[31mred\u{1b}[0m\u{7}", "red")]
    #[case("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{7} end", "link end")]
    #[case("Gruß, password=grün und", "Gruß, password=*** und")]
    fn what_looks_like_a_secret_is_masked(#[case] line: &str, #[case] masked: &str) {
        assert_eq!(Masker::default().line(line), masked);
    }

    #[test]
    fn values_the_replica_was_given_are_masked_wherever_they_stand() {
        let masker = Masker::new(["swordfish".to_owned(), "swordfish-2".to_owned(), "1".to_owned()]);
        assert_eq!(masker.line("try swordfish-2 or xswordfishx, 1"), "try *** or x***x, 1");
        assert_eq!(masker.given("one swordfish\nand\u{7} token=x".to_owned()), "one ***\nand\u{7} token=x");
        assert!(!format!("{masker:?}").contains("sword"));
    }

    #[test]
    fn a_value_of_several_lines_is_masked_line_by_line_too() {
        let masker =
            Masker::new(["-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIE\n-----END KEY-----\n".to_owned()]);
        assert_eq!(masker.line("read MC4CAQAwBQYDK2VwBCIE"), "read ***");
    }
}
