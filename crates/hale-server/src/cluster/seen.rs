//! What an agent says of one instance, read and checked.
//!
//! Everything that comes over the wire is looked at here before anything believes it: words are of the closed lists,
//! numbers in range, texts and lists bounded. What is not so makes one entry malformed and no other (N7).

use std::{collections::BTreeMap, net::IpAddr};

use hale_api::proto;
use hale_model::{
    Phase, Reason, Status,
    cluster::ObservedRecord,
    event::TargetOrigin,
    report::EndpointReport,
    status::{ExitStatus, HoldStatus, ProbeStatus, ReplicaStatus, TargetStatus, TransitionStatus},
};
use jiff::Timestamp;

/// The longest text that an agent may say of an instance.
const TEXT: usize = 8 * 1024;

/// The most ports and probes of one instance.
const PORTS: usize = 256;

/// The most labels of a target.
const LABELS: usize = 128;

/// One instance as its node last told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its placement.
    pub generation: u64,
    /// Its workload.
    pub workload: String,
    /// Which replica of it.
    pub ordinal: u32,
    /// The declaration it runs by.
    pub digest: String,
    /// Orders the reports of it (N8).
    pub version: u64,
    /// Where it is reached.
    pub address: Option<IpAddr>,
    /// Whether it runs.
    pub serving: bool,
    /// Whether it is on its way out.
    pub draining: bool,
    /// Whether nothing but damping keeps it from being ready (H31).
    pub damped: bool,
    /// Whether a restart caused by a probe is going on (H20).
    pub restarting: bool,
    /// Why its readiness last changed.
    pub reason: String,
    /// What it uses.
    pub usage: Option<proto::Usage>,
    /// The trace that it is told in (O2).
    pub traceparent: Option<String>,
    /// All else, as it is told to people; node, times of hearing and staleness are for the teller to fill in.
    pub status: ReplicaStatus,
}

/// A time of the wire.
pub(crate) fn time(micros: i64) -> Result<Timestamp, String> {
    Timestamp::from_microsecond(micros).map_err(|_| format!("{micros} is no time"))
}

/// A time for the wire.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

fn word<T: std::str::FromStr>(what: &str, word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{:?} is no {what}", short(word)))
}

fn short(text: &str) -> &str {
    text.char_indices().nth(64).map_or(text, |(at, _)| &text[..at])
}

fn bounded(what: &str, text: Option<String>) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.len() > TEXT => {
            Err(format!("{what} has {} bytes; {TEXT} are allowed", text.len()))
        }
        text => Ok(text),
    }
}

impl Seen {
    /// Reads an entry.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(it: proto::Replica, node: &str, at: Timestamp) -> Result<Self, String> {
        if it.ports.len() > PORTS || it.probes.len() > 8 {
            return Err(format!("{} ports and {} probes are too many", it.ports.len(), it.probes.len()));
        }
        check_texts(&it)?;
        let address = it.address.as_deref().map(|text| word::<IpAddr>("address", text)).transpose()?;
        let ports = it.ports.into_iter().map(|(name, port)| {
            let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
            Ok((name, port))
        });
        let status = ReplicaStatus {
            name: format!("{}-{}", it.workload, it.ordinal),
            status: word("status", &it.status)?,
            node: node.to_owned(),
            phase: word("phase", &it.phase)?,
            ready: it.ready,
            flapping: it.flapping,
            paused: it.paused,
            held_by: it.held_by.map(hold).transpose()?,
            pid: it.pid,
            address: address.map(|it| it.to_string()),
            ports: ports.collect::<Result<_, String>>()?,
            container_id: bounded("container id", it.container_id)?,
            runtime: it.runtime,
            restarts: it.restarts,
            restarts_in_window: it.restarts_in_window,
            last_exit: it.last_exit.map(exit).transpose()?,
            last_error: bounded("last error", it.last_error)?,
            status_text: bounded("status text", it.status_text)?,
            observed_at: at,
            stale: false,
            started_at: it.started_at.map(time).transpose()?,
            uptime_seconds: None,
            next_start_at: it.next_start_at.map(time).transpose()?,
            generation: it.generation,
            incarnation: it.incarnation,
            probes: it.probes.into_iter().map(probe).collect::<Result<_, String>>()?,
            last_transition: it.last_transition.map(transition).transpose()?,
            restarting: it.restarting,
            possibly_running_on: Vec::new(),
        };
        Ok(Self {
            generation: it.generation,
            workload: it.workload,
            ordinal: it.ordinal,
            digest: it.digest,
            version: it.version,
            address,
            serving: it.serving,
            draining: it.draining,
            damped: it.damped,
            restarting: it.restarting,
            reason: it.reason,
            usage: it.usage,
            traceparent: Some(it.traceparent).filter(|it| it.len() == 55),
            status,
        })
    }

    /// What was durable of it, where nothing newer has been heard.
    #[must_use]
    pub fn remembered(it: &ObservedRecord) -> Self {
        let status = ReplicaStatus {
            name: format!("{}-{}", it.workload, it.ordinal),
            status: it.status,
            node: it.node.clone(),
            phase: it.phase,
            ready: it.ready,
            flapping: it.damped,
            paused: false,
            held_by: None,
            pid: it.pid,
            address: it.address.map(|it| it.to_string()),
            ports: it.ports.clone(),
            container_id: it.container_id.clone(),
            runtime: it.runtime.clone(),
            restarts: it.restarts,
            restarts_in_window: 0,
            last_exit: it.last_exit.clone(),
            last_error: it.last_error.clone(),
            status_text: None,
            observed_at: it.since,
            stale: false,
            started_at: it.started_at,
            uptime_seconds: None,
            next_start_at: None,
            generation: it.generation,
            incarnation: it.incarnation,
            probes: BTreeMap::new(),
            last_transition: it.last_transition.clone(),
            restarting: it.restarting,
            possibly_running_on: Vec::new(),
        };
        Self {
            generation: it.generation,
            workload: it.workload.clone(),
            ordinal: it.ordinal,
            digest: it.digest.clone(),
            version: it.version,
            address: it.address,
            serving: it.serving,
            draining: it.draining,
            damped: it.damped,
            restarting: it.restarting,
            reason: it.last_transition.as_ref().map(|it| it.reason.clone()).unwrap_or_default(),
            usage: None,
            traceparent: None,
            status,
        }
    }

    /// Whether it says something that is durable before it counts (S2), compared with `old`.
    #[must_use]
    pub fn is_transition_from(&self, old: &Self) -> bool {
        let facts = |it: &Self| {
            let of = &it.status;
            let plain = (of.phase, of.ready, of.status, it.serving, it.draining, it.damped, it.restarting);
            (plain, of.pid, it.address, of.restarts, of.incarnation, of.started_at, of.last_exit.clone())
        };
        facts(self) != facts(old)
            || self.status.ports != old.status.ports
            || self.status.container_id != old.status.container_id
            || self.digest != old.digest
    }

    /// The record of it. Its phase and readiness are so since `since`.
    #[must_use]
    pub fn record(&self, node: &str, since: Timestamp) -> ObservedRecord {
        let of = &self.status;
        ObservedRecord {
            generation: self.generation,
            workload: self.workload.clone(),
            ordinal: self.ordinal,
            node: node.to_owned(),
            digest: self.digest.clone(),
            incarnation: of.incarnation,
            phase: of.phase,
            ready: of.ready,
            serving: self.serving,
            draining: self.draining,
            damped: self.damped,
            restarting: self.restarting,
            status: of.status,
            since,
            runtime: of.runtime.clone(),
            pid: of.pid,
            container_id: of.container_id.clone(),
            address: self.address,
            ports: of.ports.clone(),
            started_at: of.started_at,
            restarts: of.restarts,
            last_exit: of.last_exit.clone(),
            last_error: of.last_error.clone(),
            last_transition: of.last_transition.clone(),
            version: self.version,
        }
    }

    /// What the registry is told of it; ready only if it is and `may_be_ready`.
    #[must_use]
    pub fn endpoint(&self, node: &str, may_be_ready: bool) -> EndpointReport {
        EndpointReport {
            workload: self.workload.clone(),
            replica: self.status.name.clone(),
            node: node.to_owned(),
            generation: self.generation,
            incarnation: self.status.incarnation,
            address: self.address,
            ports: self.status.ports.clone(),
            ready: self.status.ready && may_be_ready,
            damped: self.damped,
            serving: self.serving,
            draining: self.draining,
            reason: self.reason.clone(),
            traceparent: self.traceparent.clone(),
        }
    }

    /// Whether requests that `old` may get may be sent to this one, too: it is the same run at the same place.
    #[must_use]
    pub fn is_reached_as(&self, old: &Self) -> bool {
        self.status.incarnation == old.status.incarnation
            && self.address == old.address
            && self.status.ports == old.status.ports
    }

    /// Whether it was ended on purpose and by itself, being done (H28).
    #[must_use]
    pub fn completed(&self) -> bool {
        self.status.phase == Phase::Stopped
            && self.status.last_exit.as_ref().is_some_and(|it| it.code == Some(0))
            && self.status.status == Status::Healthy
    }
}

fn hold(it: proto::Hold) -> Result<HoldStatus, String> {
    Ok(HoldStatus {
        by: it.by,
        since: time(it.since)?,
        until: it.until.map(time).transpose()?,
        reason: bounded("hold", Some(it.reason))?.unwrap_or_default(),
    })
}

fn exit(it: proto::Exit) -> Result<ExitStatus, String> {
    Ok(ExitStatus { code: it.code, signal: it.signal, oom: it.oom, at: time(it.at)? })
}

fn transition(it: proto::Transition) -> Result<TransitionStatus, String> {
    let reason = bounded("transition", Some(it.reason))?.unwrap_or_default();
    Ok(TransitionStatus { at: time(it.at)?, reason })
}

fn probe(it: proto::Probe) -> Result<(String, ProbeStatus), String> {
    let kind: hale_model::ProbeKind = word("probe", &it.kind)?;
    let status = ProbeStatus {
        ok: it.ok,
        consecutive_failures: it.consecutive_failures,
        consecutive_successes: it.consecutive_successes,
        failure_threshold: it.failure_threshold,
        last_outcome_at: it.last_outcome_at.map(time).transpose()?,
        last_reason: it.last_reason.as_deref().map(reason).transpose()?,
        last_detail: bounded("last detail", it.last_detail)?,
        last_duration_ms: it.last_duration_ms,
        prober_errors: it.prober_errors,
        paused: it.paused,
    };
    Ok((kind.as_str().to_owned(), status))
}

fn reason(text: &str) -> Result<Reason, String> {
    word("reason", text)
}

/// Reads what an agent says of a target.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn target(it: proto::Target) -> Result<TargetStatus, String> {
    let texts = [&it.list, &it.replica, &it.container_id].into_iter().flatten().map(String::len);
    let labels = it.labels.iter().map(|(key, value)| key.len() + value.len());
    if it.labels.len() > LABELS || texts.chain(labels).any(|bytes| bytes > TEXT) {
        return Err(format!("it has more than {LABELS} labels, or a text of more than {TEXT} bytes"));
    }
    Ok(TargetStatus {
        status: word("status", &it.status)?,
        name: it.name,
        since: it.since.map(time).transpose()?,
        consecutive_failures: it.consecutive_failures,
        last_reason: it.last_reason.as_deref().map(reason).transpose()?,
        last_detail: bounded("last detail", it.last_detail)?,
        last_outcome_at: it.last_outcome_at.map(time).transpose()?,
        paused: it.paused,
        prober_errors: it.prober_errors,
        members: it.members,
        origin: TargetOrigin {
            list: it.list,
            replica: it.replica,
            container_id: it.container_id,
            labels: it.labels,
        },
    })
}

/// Texts that are kept as they came must not be long.
fn check_texts(it: &proto::Replica) -> Result<(), String> {
    let texts = [
        ("workload", &it.workload),
        ("digest", &it.digest),
        ("reason", &it.reason),
        ("runtime", &it.runtime),
    ];
    match texts.into_iter().find(|(_, text)| text.len() > TEXT) {
        Some((what, text)) => Err(format!("{what} has {} bytes; {TEXT} are allowed", text.len())),
        None => Ok(()),
    }
}
