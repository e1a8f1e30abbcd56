//! What an engine answers when it does not do what it is asked, in the words of the machines above.

use std::time::Duration;

use bollard::errors::Error;
use hale_supervisor::runtime::SpawnError;

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The engine answered, with this status.
    #[error("{message}")]
    Refused {
        /// As in HTTP.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It did not answer in time.
    #[error("the container engine did not answer within {0:?}")]
    Late(Duration),
    /// It can't be reached, or broke off.
    #[error("the container engine can't be asked: {0}")]
    Unreachable(String),
}

impl CallError {
    /// Whether there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        // Podman says 500 where Docker says 404 or 409: its words tell.
        matches!(self, Self::Refused { status: 404, .. }) || self.says("no such container")
    }

    /// Whether the container was not running.
    pub(crate) fn is_not_running(&self) -> bool {
        matches!(self, Self::Refused { status: 304, .. })
            || self.says("is not running")
            || self.says("can only kill running containers")
            || self.says("container state improper")
    }

    /// Whether the engine itself is the matter.
    pub(crate) const fn is_engine(&self) -> bool {
        matches!(self, Self::Late(_) | Self::Unreachable(_))
    }

    /// Whether its message holds this, in any case of letters.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Refused { message, .. } if message.to_ascii_lowercase().contains(words))
    }

    /// As a start failure; `code` where the engine itself is well.
    pub(crate) fn spawn(&self, code: &'static str, what: &str) -> SpawnError {
        let code = if self.is_engine() { "runtime_unavailable" } else { code };
        SpawnError { code, detail: format!("{what}: {self}") }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError { status_code, message } => {
                Self::Refused { status: status_code, message: in_one_line(&message) }
            }
            Error::DockerStreamError { error } => Self::Refused { status: 500, message: in_one_line(&error) },
            Error::JsonDataError { message, .. } => {
                Self::Refused { status: 500, message: format!("an answer that can't be read: {message}") }
            }
            other => Self::Unreachable(chain(&other)),
        }
    }
}

/// An error with what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

fn in_one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line[..line.floor_char_boundary(900)].to_owned()
}

/// Why a container could not be created or started, from what the engine says of it.
pub(crate) fn start_failure(error: &CallError, what: &str) -> SpawnError {
    let says = |words: &str| error.says(words);
    let code = if says("executable file not found")
        || says("no such file or directory: unknown")
        || says("a command that was not found")
    {
        "not_found"
    } else if says("permission denied: unknown") || says("exec format error") || says("oci permission denied")
    {
        "not_executable"
    } else if says("unable to find user")
        || says("unable to find group")
        || says("no matching entries in passwd")
    {
        "no_such_user"
    } else if says("port is already allocated") || says("address already in use") {
        "port_unavailable"
    } else if says("bind source path does not exist") {
        "no_such_directory"
    } else if says("no such image") {
        "image_missing"
    } else if says("network") && says("not found") {
        "no_such_network"
    } else {
        "create_failed"
    };
    error.spawn(code, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, message: &str) -> CallError {
        CallError::Refused { status, message: message.to_owned() }
    }

    #[test]
    fn what_an_engine_says_becomes_a_word_that_machines_know() {
        let code = |message| start_failure(&refused(500, message), "start web-0").code;
        let missing =
            "failed to create shim: exec: \"/none\": stat /none: no such file or directory: unknown";
        assert_eq!(code(missing), "not_found");
        assert_eq!(code("exec: \"none\": executable file not found in $PATH: unknown"), "not_found");
        assert_eq!(code("Bind for 127.0.0.1:80 failed: port is already allocated"), "port_unavailable");
        assert_eq!(code("unable to find user nosuch: no matching entries"), "no_such_user");
        assert_eq!(code("network x not found"), "no_such_network");
        assert_eq!(code("something new"), "create_failed");
        let late = CallError::Late(Duration::from_secs(5));
        assert_eq!(start_failure(&late, "start web-0").code, "runtime_unavailable");
    }

    #[test]
    fn podman_says_the_same_by_other_numbers() {
        assert!(refused(500, "no container with name or ID \"x\" found: no such container").is_not_found());
        assert!(refused(500, "can only kill running containers. x is in state exited").is_not_running());
    }
}
