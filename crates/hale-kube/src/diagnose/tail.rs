//! The end of a log, fit to be shown (K11): cut to size, without what could move a cursor, without secrets.

use hale_model::mask::Masker;

/// The most of one container.
pub(super) const MOST_BYTES: usize = 16 * 1024;

/// What a kubelet says, with status 200, in place of the log of a container that was collected.
const COLLECTED: &str = "unable to retrieve container logs for";

/// Takes lines from the end of a log. Says why there are none where what came is no log.
///
/// # Errors
/// What came is what a kubelet says in place of a log.
pub(super) fn lines(bytes: &[u8], most: usize, mask: bool) -> Result<Vec<String>, String> {
    let text = String::from_utf8_lossy(bytes);
    let only = text.trim();
    if only.starts_with(COLLECTED) && !only.contains('\n') {
        return Err(format!("the container's log is gone: {only}"));
    }
    let mut masker = Masking { masker: Masker::default(), in_key: false, on: mask };
    // Masked from the beginning: a key may begin before what is kept.
    let all: Vec<String> = text.lines().map(|it| masker.line(it)).collect();
    let mut size = 0;
    let fits = |it: &&String| {
        size += it.len() + 1;
        size <= MOST_BYTES
    };
    let mut kept: Vec<String> = all.iter().rev().take(most).take_while(fits).cloned().collect();
    if kept.is_empty()
        && let Some(last) = all.last()
    {
        // One line longer than all: its end.
        let from =
            (last.len().saturating_sub(MOST_BYTES - 4)..=last.len()).find(|at| last.is_char_boundary(*at));
        kept.push(format!("…{}", &last[from.unwrap_or(last.len())..]));
    }
    kept.reverse();
    Ok(kept)
}

struct Masking {
    masker: Masker,
    in_key: bool,
    on: bool,
}

impl Masking {
    fn line(&mut self, line: &str) -> String {
        if !self.on {
            return Masker::plain(line);
        }
        let begins = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
        let ends = line.contains("-----END ");
        if begins || self.in_key {
            self.in_key = !ends;
            return "***".to_owned();
        }
        self.masker.line(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_log_and_one_that_can_t_be_had_are_not_the_same() {
        assert_eq!(lines(b"", 50, true), Ok(Vec::new()));
        let gone = b"unable to retrieve container logs for containerd://0d4c5";
        assert!(lines(gone, 50, true).unwrap_err().contains("containerd://0d4c5"));
        let quoted = b"saw: unable to retrieve container logs for x\nand went on\n";
        assert_eq!(lines(quoted, 50, true).unwrap().len(), 2);
    }

    #[test]
    fn the_last_lines_are_kept_and_no_more_than_fit() {
        let text: String = (0..1000).map(|n| format!("line {n} {}\n", "x".repeat(100))).collect();
        let kept = lines(text.as_bytes(), 500, true).unwrap();
        assert!(kept.last().unwrap().starts_with("line 999 "));
        assert!(kept.iter().map(|it| it.len() + 1).sum::<usize>() <= MOST_BYTES);
        assert_eq!(lines(text.as_bytes(), 50, true).unwrap().len(), 50);
        let long = lines("ä".repeat(40_000).as_bytes(), 50, true).unwrap();
        assert!(long.len() == 1 && long[0].len() <= MOST_BYTES && long[0].starts_with('…'));
    }

    #[test]
    fn secrets_and_control_sequences_are_taken_out() {
        let text = "\u{1b}[31mDB_PASSWORD=hunter2\u{1b}[0m\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nok\r\n\u{fffd}";
        let kept = lines(text.as_bytes(), 50, true).unwrap();
        assert_eq!(kept, ["DB_PASSWORD=***", "***", "***", "***", "ok", "\u{fffd}"]);
        assert_eq!(lines(b"\x1b[1mtoken=abc\n", 50, false).unwrap(), ["token=abc"]);
    }
}
