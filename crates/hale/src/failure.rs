//! What a command ends with when it does not work: one message on standard error and an exit status (C7).

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It did not work: 1.
    Failed(String),
    /// What was typed makes no sense, for a reason that the grammar of the command line can't know: 2.
    Usage(String),
    /// A file is wrong, and everything that is wrong with it: 3.
    InvalidFile(String),
    /// There is no such thing: 4.
    NotFound(String),
    /// The token does not allow it: 5.
    NotAllowed(String),
    /// No hale answers: 6.
    Unreachable(String),
    /// Whoever read our output has gone: nothing is wrong, and nobody is there to be told (C12).
    OutputClosed,
}

impl Failure {
    /// Anything that has no status of its own.
    pub(crate) fn failed(why: impl Display) -> Self {
        Self::Failed(why.to_string())
    }

    /// Says it on standard error; the exit status.
    pub(crate) fn tell(self) -> ExitCode {
        let (status, message) = match self {
            Self::Failed(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::InvalidFile(message) => {
                say(message.trim_end());
                return ExitCode::from(3);
            }
            Self::NotFound(message) => (4, message),
            Self::NotAllowed(message) => (5, message),
            Self::Unreachable(message) => (6, message),
            Self::OutputClosed => return ExitCode::SUCCESS,
        };
        say(&format!("error: {message}"));
        ExitCode::from(status)
    }
}

/// Writes to standard error; when that is closed there is nobody to be told, and the exit status says enough.
pub(crate) fn say(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

impl From<io::Error> for Failure {
    /// For writing to standard output; anything else that is I/O says what it was about first.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::OutputClosed } else { Self::failed(error) }
    }
}

/// Wrong usage: 2. Help and version that were asked for are no failure.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print());
    if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
