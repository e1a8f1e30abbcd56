//! Why a session with a server ends.

use std::fmt;

use hale_api::proto;
use tonic::{Code, Status};

use super::chain;

/// Why a session ended, or did not begin.
#[derive(Debug)]
pub(super) enum End {
    /// The server can't be reached.
    Unreachable(String),
    /// It refused, or the stream broke.
    Refused(Status),
    /// Another agent of this name is connected (N8).
    NodeInUse(String),
    /// It closed the stream without a word.
    Closed,
    /// It did not answer in time.
    Silent,
    /// It said something that can't be.
    Nonsense(&'static str),
    Goodbye(proto::Goodbye),
    /// Only a full desired state can help.
    LostTrack,
    /// What this node can run is not what was registered.
    Changed,
    /// What it wants comes faster than it can be carried out.
    Backlog,
    /// The agent leaves.
    Left,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "can't reach the server: {why}"),
            Self::Refused(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => {
                    write!(f, "the server does not let this agent in: {}", status.message())
                }
                code => write!(f, "the session broke ({code:?}): {}", status.message()),
            },
            Self::NodeInUse(detail) => write!(
                f,
                "another agent is connected under this node's name ({detail}): give each a name of its own (--name)"
            ),
            Self::Closed => f.write_str("the server closed the session"),
            Self::Silent => f.write_str("the server does not acknowledge beats"),
            Self::Nonsense(what) => write!(f, "the server said what can not be: {what}"),
            Self::Goodbye(it) => write!(f, "the server ended the session ({}): {}", it.code, it.detail),
            Self::LostTrack => f.write_str("the desired state is asked for anew"),
            Self::Changed => f.write_str("what this node can run has changed: it registers anew"),
            Self::Backlog => f.write_str("the server wants more than can be carried out"),
            Self::Left => f.write_str("the agent leaves"),
        }
    }
}

pub(super) fn refused(status: Status) -> End {
    if status.message().starts_with("node_in_use") {
        return End::NodeInUse(status.message().to_owned());
    }
    End::Refused(status)
}

/// An error of the transport in words.
impl From<tonic::transport::Error> for End {
    fn from(error: tonic::transport::Error) -> Self {
        Self::Unreachable(chain(&error))
    }
}
