//! Signals by name.

use super::{
    convert::invalid,
    de::{At, Cx, shorten, suggest},
    scalar::Text,
};

/// Signals that may stop a replica, by their numbers on Linux (the same on x86-64 and arm64).
const SIGNALS: [(&str, i32); 20] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGXCPU", 24),
    ("SIGVTALRM", 26),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
];

/// The name of a signal, where it has one here.
#[must_use]
pub fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, it)| *it == number).map(|(name, _)| *name)
}

/// Reads `SIGTERM`, `TERM`, `SIGRTMIN+3` or a number.
pub(super) fn stop_signal(at: &At<Text>, cx: &Cx<'_>) -> Option<i32> {
    let text = at.value.0.to_uppercase();
    let full = if text.starts_with("SIG") { text } else { format!("SIG{text}") };
    let named = SIGNALS.iter().find(|(name, _)| *name == full).map(|(_, number)| *number);
    // glibc keeps 32 and 33 for itself: real-time signals begin at 34 and end at 64.
    let realtime =
        || full.strip_prefix("SIGRTMIN+")?.parse().ok().filter(|n| (0..=30).contains(n)).map(|n: i32| 34 + n);
    let number = || at.value.0.parse().ok().filter(|n| signal_name(*n).is_some() || (34..=64).contains(n));
    let found = named.or_else(realtime).or_else(number);
    if found.is_none() {
        let problem =
            invalid(at.span, format!("stopSignal: `{}` is no signal to stop with", shorten(&at.value.0)));
        cx.note(match suggest(&full, SIGNALS.iter().map(|(name, _)| *name)) {
            Some(meant) => problem.help(format!("did you mean {meant}?")),
            None => problem.help("for example SIGTERM, SIGINT, SIGQUIT, SIGUSR1 or SIGRTMIN+3"),
        });
    }
    found
}
