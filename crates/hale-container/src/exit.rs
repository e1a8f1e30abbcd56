//! How a container ended, from what the engine says.

use hale_health::Exit;

/// An engine tells a signal as 128 and its number, as a shell does. What ends itself with such a status by convention
/// means the same by it.
pub(crate) fn exit_of(code: i64, oom: bool) -> Exit {
    let code = i32::try_from(code).unwrap_or(-1);
    let signal = Some(code - 128).filter(|it| (1..=64).contains(it));
    Exit { code: signal.is_none().then_some(code), signal, oom }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_above_128_is_a_signal() {
        assert_eq!(exit_of(0, false), Exit::code(0));
        assert_eq!(exit_of(3, false), Exit::code(3));
        assert_eq!(exit_of(128, false), Exit::code(128));
        assert_eq!(exit_of(137, false), Exit::signal(9));
        assert_eq!(exit_of(143, false), Exit::signal(15));
        assert_eq!(exit_of(192, false), Exit::signal(64));
        assert_eq!(exit_of(255, false), Exit::code(255));
        assert_eq!(exit_of(137, true), Exit { code: None, signal: Some(9), oom: true });
    }
}
