//! What the agent and its keeper say to each other: one JSON object a line, over a Unix stream socket.
//!
//! Both may be of different versions, one release apart: what one does not know it leaves out or passes over. Fields
//! are only ever added, each with a default; an operation that a keeper does not know is answered with
//! [`Answer::Error`] and the code `unsupported`.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use serde::{Deserialize, Serialize};

/// The version of the protocol this build speaks.
pub const VERSION: u32 = 1;

/// The longest line either side accepts, bytes.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// One run of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Workload and ordinal: `web-0`.
    pub replica: String,
    /// The number of its placement.
    #[serde(default)]
    pub generation: u64,
    /// The number of its start.
    #[serde(default)]
    pub incarnation: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.replica, self.generation, self.incarnation)
    }
}

/// Text that may hold any bytes: a string where it is UTF-8, else the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Utf8(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Text {
    /// As the system wants it.
    #[must_use]
    pub fn into_os(self) -> OsString {
        match self {
            Self::Utf8(text) => text.into(),
            Self::Bytes(bytes) => OsString::from_vec(bytes),
        }
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Text {
    fn from(text: &T) -> Self {
        let text = text.as_ref();
        match text.to_str() {
            Some(utf8) => Self::Utf8(utf8.to_owned()),
            None => Self::Bytes(text.as_bytes().to_vec()),
        }
    }
}

/// A question or an order of the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// Stands in the reply.
    pub id: u64,
    /// What is asked.
    pub op: Op,
}

/// What the agent asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// First of all: who is there. Answered by [`Answer::Welcome`].
    Hello(Hello),
    /// Spawn. Answered by [`Answer::Started`] or [`Answer::Failed`].
    Start(Box<Start>),
    /// Begin to end an instance. Answered by [`Answer::Done`].
    Stop(Stop),
    /// All instances and records. Answered by [`Answer::Instances`].
    List(Empty),
    /// The record of an instance that is gone is no longer needed. Answered by [`Answer::Done`].
    Forget(Key),
    /// Stop these at a moment to come, unless told otherwise until then. Answered by [`Answer::Done`].
    Deadline(Deadline),
    /// Runs that are no children of the keeper's, to be ended when nobody else does. Answered by [`Answer::Done`].
    Outside(Box<Outsiders>),
    /// Let another program take the keeper's place. The connection ends when it has; where it can't be, answered by
    /// [`Answer::Error`].
    Upgrade(Box<Upgrade>),
    /// End everything, then the keeper. Answered by [`Answer::Done`] before it begins.
    End(End),
}

/// Nothing more to say.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Empty {}

/// The agent says who it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the protocol it speaks.
    #[serde(default)]
    pub version: u32,
    /// Its release.
    #[serde(default)]
    pub release: String,
    /// Whether everything is to end when this connection does; unset leaves it as the keeper was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_with_agent: Option<bool>,
    /// Whether this one only asks who is there: it is told no events, and the agent stays the agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_asks: bool,
}

/// What is to be spawned, all of it resolved by the agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// Which run.
    pub key: Key,
    /// The program, absolute.
    pub program: Text,
    /// The argument vector with its zeroth.
    pub args: Vec<Text>,
    /// The whole environment, but for the mark and `NOTIFY_SOCKET`.
    #[serde(default)]
    pub env: Vec<(Text, Text)>,
    /// The working directory, absolute.
    pub dir: Text,
    /// Who it runs as, if not as the keeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Resource limits by name: soft and hard; `u64::MAX` is no limit.
    #[serde(default)]
    pub ulimits: Vec<(String, u64, u64)>,
    /// Bytes of memory it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processors it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Whether it gets a `NOTIFY_SOCKET`.
    #[serde(default)]
    pub notify: bool,
    /// The signal it is stopped with when the keeper ends everything.
    #[serde(default = "sigterm")]
    pub stop_signal: i32,
    /// What a later agent is to be told again of it; means nothing to the keeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    /// When it is to be stopped if nobody says otherwise until then, nanoseconds on `CLOCK_BOOTTIME`, as by
    /// [`Op::Deadline`]: the agent may be dead before it can say so (S9). With it, its grace in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<(u64, u64)>,
}

const fn sigterm() -> i32 {
    15
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
}

/// The end of an instance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stop {
    /// Which run.
    pub key: Key,
    /// The signal to its process group.
    #[serde(default = "sigterm")]
    pub signal: i32,
    /// How long it has until SIGKILL to everything left of it, milliseconds.
    #[serde(default)]
    pub grace_ms: u64,
}

/// When instances are to be stopped if nobody says otherwise: an agent that is dead can't (S9).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Deadline {
    /// Which runs. Those that the keeper does not run are passed over.
    pub keys: Vec<Key>,
    /// When, nanoseconds on `CLOCK_BOOTTIME`; none: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// How long each has from its stop signal until SIGKILL to everything left of it, milliseconds.
    #[serde(default)]
    pub grace_ms: u64,
}

/// Runs that something else holds: containers of an engine. The keeper only ends them: at their [`Deadline`], and when it
/// ends everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outsiders {
    /// What is known of them now, in place of what was known of the same runs before.
    pub runs: Vec<Outsider>,
    /// Whether these are all there are: others are forgotten.
    #[serde(default)]
    pub whole: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outsider {
    /// Which run.
    pub key: Key,
    /// The Unix socket its engine listens on, absolute. Docker's API is spoken there.
    pub socket: Text,
    /// The container, by name or id. It need not be there yet.
    pub container: String,
    /// The signal that ends it, sent where its main process can be reached; an engine sends the container's own.
    #[serde(default = "sigterm")]
    pub stop_signal: i32,
    /// Its main process, where that is one of this machine: pid, and clock ticks since boot at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<(u32, u64)>,
    /// Whether somebody else made it: it is let be when everything is ended, and stopped by its engine alone.
    #[serde(default)]
    pub borrowed: bool,
    /// Whether it is removed, once ended, when everything is ended.
    #[serde(default)]
    pub remove: bool,
    /// As in [`Start::deadline`]; absent: as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<(u64, u64)>,
}

/// Another program to take the keeper's place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upgrade {
    /// The program, absolute.
    pub program: Text,
    /// Its first arguments, up to where the keeper's own follow: `keeper`.
    #[serde(default)]
    pub args: Vec<Text>,
}

/// The end of everything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct End {
    /// How long each has between its stop signal and SIGKILL, milliseconds.
    #[serde(default)]
    pub grace_ms: u64,
}

/// What the keeper says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To one request.
    Reply {
        /// The request's.
        id: u64,
        /// What came of it.
        answer: Answer,
    },
    /// By itself.
    Event(Event),
}

/// What came of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Op::Hello`].
    Welcome(Welcome),
    /// It runs.
    Started(Running),
    /// It could not be started.
    Failed(SpawnFailure),
    /// To [`Op::List`].
    Instances(Vec<InstanceState>),
    /// It is done, or begun.
    Done(Empty),
    /// It was not understood, or can't be done.
    Error(SpawnFailure),
}

/// Who the keeper is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the protocol it speaks.
    #[serde(default)]
    pub version: u32,
    /// Its release.
    #[serde(default)]
    pub release: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// Which boot of the machine this is.
    #[serde(default)]
    pub boot_id: String,
    /// The mark of this data directory.
    #[serde(default)]
    pub mark: String,
    /// Whether it is ending everything, and itself.
    #[serde(default)]
    pub ending: bool,
    /// Which cgroups are in use, in words.
    #[serde(default)]
    pub cgroups: String,
}

/// A process that was spawned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its main process.
    pub pid: u32,
    /// When that started, in clock ticks since boot: with boot id and pid its identity (H13).
    #[serde(default)]
    pub start_time: u64,
    /// Its own cgroup of version 2, absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Its memory cgroup, absolute path: the same, or one of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_cgroup: Option<String>,
    /// What could not be done as asked, in words: a limit without a cgroup to hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Why a start failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnFailure {
    /// A stable word: `not_found`, `not_executable`, `no_such_directory`, `not_allowed`, `limits`, `unsupported`,
    /// `internal`.
    pub code: String,
    /// What was tried, on what, and what came back.
    #[serde(default)]
    pub detail: String,
}

/// What the keeper tells by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The main process ended.
    Exited {
        /// Which run.
        key: Key,
        /// How.
        exit: ExitRecord,
    },
    /// Nothing of the instance is left.
    Gone {
        /// Which run.
        key: Key,
    },
    /// It could not be ended; the keeper goes on trying.
    StopFailed {
        /// Which run.
        key: Key,
        /// What is left.
        detail: String,
    },
    /// It reported over its notify socket.
    Notify {
        /// Which run.
        key: Key,
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// When, nanoseconds on `CLOCK_BOOTTIME`.
        at: u64,
    },
}

/// How a main process ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Its exit status, when it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed it, or a child of it, for want of memory.
    #[serde(default)]
    pub oom: bool,
    /// When the keeper saw it, nanoseconds on `CLOCK_BOOTTIME`.
    #[serde(default)]
    pub at: u64,
    /// The same by the wall clock, milliseconds since 1970.
    #[serde(default)]
    pub wall_ms: u64,
}

/// All that the keeper knows of an instance: what a later agent adopts it by (N6).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceState {
    /// Which run.
    pub key: Key,
    /// What was spawned.
    pub running: Running,
    /// When, nanoseconds on `CLOCK_BOOTTIME`.
    #[serde(default)]
    pub started_at: u64,
    /// The same by the wall clock, milliseconds since 1970.
    #[serde(default)]
    pub started_wall_ms: u64,
    /// How its main process ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitRecord>,
    /// Whether nothing of it is left.
    #[serde(default)]
    pub gone: bool,
    /// Whether a stop was asked for.
    #[serde(default)]
    pub stopping: bool,
    /// The last value of each variable it reported over its notify socket, and when.
    #[serde(default)]
    pub notified: std::collections::BTreeMap<String, (String, u64)>,
    /// What the agent that started it wanted to be told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
    /// Lines of output that could not be written.
    #[serde(default)]
    pub dropped_lines: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_a_later_version_is_understood_as_far_as_it_goes() {
        let line = r#"{"id":7,"later":1,"op":{"stop":{"key":{"replica":"web-0","shard":3},"how":"gently"}}}"#;
        let request: Request = serde_json::from_str(line).unwrap();
        let Op::Stop(stop) = request.op else { panic!("not a stop: {request:?}") };
        assert_eq!((stop.key.replica.as_str(), stop.signal, stop.grace_ms), ("web-0", 15, 0));
    }

    #[test]
    fn an_environment_that_is_not_utf8_survives_the_way() {
        let odd = OsString::from_vec(vec![b'a', 0xff, b'b']);
        let line = serde_json::to_string(&Text::from(&odd)).unwrap();
        assert_eq!(serde_json::from_str::<Text>(&line).unwrap().into_os(), odd);
    }
}
