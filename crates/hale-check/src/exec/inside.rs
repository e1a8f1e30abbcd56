//! `exec` where the command runs somewhere else than beside this process: inside a container (H8).
//!
//! How a command gets in there is its runtime's affair; what its end means for a check is decided here, so that both
//! kinds of `exec` say the same of the same.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use hale_health::Reason;

use super::{append, text};
use crate::{
    net::Trace,
    result::{CheckResult, Fault, MAX_SNIPPET},
};

/// What a runner may take longer than it was given, before it is given up.
const OVERTIME: Duration = Duration::from_secs(3);

/// Runs commands in the place of a replica.
pub trait Commands: fmt::Debug + Send + Sync + 'static {
    /// Runs a command to its end. At the timeout, and when it is dropped before, the command is killed with all it has
    /// started, where that can be had.
    fn run<'a>(
        &'a self,
        command: &'a [String],
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Ran> + Send + 'a>>;
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub end: RanEnd,
    /// The beginning of what it wrote, bounded by whoever ran it.
    pub output: Vec<u8>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RanEnd {
    /// By itself, with this status.
    Exited(i64),
    /// It did not end in time. What is left of it, where something is or that can't be told.
    TimedOut(Option<String>),
    /// It could not be started: missing, or not executable.
    NotStarted(String),
    /// It could not even be tried: the engine does not answer, the container is not there. No verdict (H10).
    NotTried(String),
}

/// A shared [`Commands`]. Two are the same when they are one.
#[derive(Clone)]
pub struct Inside(pub Arc<dyn Commands>);

impl PartialEq for Inside {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Inside {}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Inside {
    /// Makes one check.
    pub(super) async fn check(&self, command: &[String], timeout: Duration) -> CheckResult {
        let trace = Trace::new();
        let program = command[0].as_str();
        let Ok(ran) = tokio::time::timeout(timeout + OVERTIME, self.0.run(command, timeout)).await else {
            let detail =
                format!("{program} did not end within {timeout:?}; what is left of it can't be told");
            return CheckResult::failure(Fault::new(Reason::Timeout, detail), trace.finish());
        };
        let fault = |reason, mut detail: String| {
            append(&mut detail, &ran.output);
            Fault::new(reason, detail)
        };
        let mut result = match &ran.end {
            RanEnd::Exited(0) => CheckResult::success(trace.finish()),
            RanEnd::Exited(status) => {
                let fault = fault(Reason::ExitCode, format!("exit status {status}"));
                CheckResult::failure(fault, trace.finish())
            }
            RanEnd::TimedOut(left) => {
                let left = left.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
                let fault = fault(Reason::Timeout, format!("{program} did not end within {timeout:?}{left}"));
                CheckResult::failure(fault, trace.finish())
            }
            RanEnd::NotStarted(detail) => {
                let fault = Fault::new(Reason::NotExecutable, format!("could not start {program}: {detail}"));
                CheckResult::failure(fault, trace.finish())
            }
            RanEnd::NotTried(detail) => CheckResult::failure(
                Fault::prober(format!("could not ask for {program} to be run: {detail}")),
                trace.finish(),
            ),
        };
        let output = text(&ran.output, MAX_SNIPPET);
        result.snippet = (!output.is_empty()).then(|| output.into_boxed_str());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Told(RanEnd);

    impl Commands for Told {
        fn run<'a>(&'a self, _: &'a [String], _: Duration) -> Pin<Box<dyn Future<Output = Ran> + Send + 'a>> {
            Box::pin(std::future::ready(Ran { end: self.0.clone(), output: b"what it wrote".to_vec() }))
        }
    }

    #[tokio::test]
    async fn how_a_command_inside_ends_is_told_as_one_beside() {
        let check = |end: RanEnd| async move {
            let inside = Inside(Arc::new(Told(end)));
            inside.check(&["/probe".to_owned()], Duration::from_secs(1)).await
        };
        assert_eq!(check(RanEnd::Exited(0)).await.reason(), None);
        assert_eq!(check(RanEnd::Exited(3)).await.reason(), Some(Reason::ExitCode));
        assert_eq!(check(RanEnd::TimedOut(None)).await.reason(), Some(Reason::Timeout));
        assert_eq!(check(RanEnd::NotStarted("none".into())).await.reason(), Some(Reason::NotExecutable));
        let not_tried = check(RanEnd::NotTried("no engine".into())).await;
        assert_eq!(not_tried.reason(), Some(Reason::ProberError));
        assert_eq!(not_tried.snippet.as_deref(), Some("what it wrote"));
    }

    #[derive(Debug)]
    struct Hangs;

    impl Commands for Hangs {
        fn run<'a>(&'a self, _: &'a [String], _: Duration) -> Pin<Box<dyn Future<Output = Ran> + Send + 'a>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_runner_that_hangs_is_given_up() {
        let result = Inside(Arc::new(Hangs)).check(&["/probe".to_owned()], Duration::from_secs(1)).await;
        assert_eq!(result.reason(), Some(Reason::Timeout));
    }
}
