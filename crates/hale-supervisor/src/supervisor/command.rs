//! What the handle sends to the dispatcher.

use std::sync::Arc;

use hale_health::{Elsewhere, ProbeKind, Status, Time};
use hale_model::{spec::Workload, status::WorkloadStatus};
use tokio::sync::oneshot;

use crate::prober::Asked;

use super::{
    assign::Assignment,
    handle::{Applied, Pause, SupervisorError},
    roll::Rolling,
};

type Answer<T> = oneshot::Sender<Result<T, SupervisorError>>;

/// One request. Each answers as soon as it is decided; nothing waits in the dispatcher.
pub(super) enum Command {
    Apply {
        workloads: Vec<Arc<Workload>>,
        answer: Answer<Vec<Applied>>,
    },
    Assign {
        assignments: Vec<Assignment>,
        answer: Answer<Vec<Applied>>,
    },
    Restart {
        name: String,
        by: String,
        answer: Answer<Rolling>,
    },
    Stop {
        name: String,
        by: String,
        answer: Answer<()>,
    },
    Start {
        name: String,
        by: String,
        answer: Answer<()>,
    },
    Pause {
        name: String,
        pause: Pause,
        answer: Answer<()>,
    },
    Resume {
        name: String,
        probe: Option<ProbeKind>,
        by: String,
        answer: Answer<()>,
    },
    Status {
        name: Option<String>,
        answer: Answer<Vec<WorkloadStatus>>,
    },
    CheckNow {
        name: String,
        answer: Answer<Vec<Asked>>,
    },
    Dependency {
        name: String,
        status: Option<Status>,
    },
    /// Answered with those whose moment had come before.
    StopAt {
        all: Vec<(String, Option<Time>)>,
        answer: oneshot::Sender<Vec<String>>,
    },
    Elsewhere {
        workload: String,
        elsewhere: Elsewhere,
    },
    /// Answered when everything is kept.
    Detach {
        answer: oneshot::Sender<()>,
    },
    /// Answered when nothing is left.
    Shutdown {
        hurry: bool,
        answer: oneshot::Sender<()>,
    },
}
