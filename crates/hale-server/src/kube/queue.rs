//! The life of a request for diagnostics: pending → claimed → completed | failed; pure (K9).
//!
//! All times are by the database's clock, so that it does not matter which server looks at a request. Each step takes a
//! record and gives the next one, or says why there is none; whoever writes it guards the revision it was read at.

use std::time::Duration;

use hale_model::cluster::{DiagnosticsRecord, DiagnosticsStatus};
use jiff::{SignedDuration, Timestamp};

/// A request is given to its agent at most so often (K9).
pub(crate) const MOST_CLAIMS: u32 = 3;

/// How long a claim lasts (K9).
pub(crate) const CLAIM_LASTS: Duration = Duration::from_secs(120);

/// Why a step is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepError {
    /// Its time is over.
    #[error("the request has expired")]
    Expired,
    /// Somebody collects already.
    #[error("the request is claimed already, until {until}")]
    Taken {
        /// Until when.
        until: Timestamp,
    },
    /// Nothing more comes of it.
    #[error("the request is {}", .0.as_str())]
    Over(DiagnosticsStatus),
}

fn after(at: Timestamp, lasts: Duration) -> Timestamp {
    at.saturating_add(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}

/// Until when a claim lasts; `None`: it is not claimed.
pub(crate) fn claimed_until(record: &DiagnosticsRecord, lasts: Duration) -> Option<Timestamp> {
    let at = record.claimed_at.filter(|_| record.status == DiagnosticsStatus::Claimed)?;
    Some(after(at, lasts))
}

/// Whether it is not told any more.
pub(crate) fn has_expired(record: &DiagnosticsRecord, now: Timestamp) -> bool {
    record.expires_at <= now
}

/// The request once a claim that has run out is noticed: pending again, or failed after the last one. `None`: there is
/// nothing to notice.
pub(crate) fn run_out(
    record: &DiagnosticsRecord,
    lasts: Duration,
    now: Timestamp,
) -> Option<DiagnosticsRecord> {
    claimed_until(record, lasts).filter(|until| *until <= now)?;
    let mut next = record.clone();
    if record.replica.is_some() {
        // Nobody else collects what a server asks a node for.
        next.status = DiagnosticsStatus::Failed;
        next.completed_at = Some(now);
        next.error = Some("claim_expired: the server that collected is gone; ask again".to_owned());
        return Some(next);
    }
    if record.claims < MOST_CLAIMS {
        next.status = DiagnosticsStatus::Pending;
    } else {
        next.status = DiagnosticsStatus::Failed;
        next.completed_at = Some(now);
        next.error = Some(format!(
            "claim_expired: the agent took the request {} times and posted no result within {} s of any",
            record.claims,
            lasts.as_secs()
        ));
    }
    Some(next)
}

/// Whether it can be taken now.
pub(crate) fn is_claimable(record: &DiagnosticsRecord, lasts: Duration, now: Timestamp) -> bool {
    claim(record, lasts, now).is_ok()
}

/// The request taken.
///
/// # Errors
/// Somebody has it, it is over, or its time is.
pub(crate) fn claim(
    record: &DiagnosticsRecord,
    lasts: Duration,
    now: Timestamp,
) -> Result<DiagnosticsRecord, StepError> {
    if has_expired(record, now) {
        return Err(StepError::Expired);
    }
    // Whoever comes first after a claim ran out notices it.
    let mut next = run_out(record, lasts, now).unwrap_or_else(|| record.clone());
    match next.status {
        DiagnosticsStatus::Pending => {}
        DiagnosticsStatus::Claimed => {
            let until = claimed_until(&next, lasts).unwrap_or(now);
            return Err(StepError::Taken { until });
        }
        over @ (DiagnosticsStatus::Completed | DiagnosticsStatus::Failed) => {
            return Err(StepError::Over(over));
        }
    }
    next.status = DiagnosticsStatus::Claimed;
    next.claims += 1;
    next.claimed_at = Some(now);
    Ok(next)
}

/// What a post comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The request has its end.
    Ended(Box<DiagnosticsRecord>),
    /// It had the same one before.
    Again,
}

/// The request with its result, or why there is none. A result that comes after its claim ran out is as good, as long as
/// nothing else has ended the request.
///
/// # Errors
/// It is over with another result, or its time is.
pub(crate) fn post(
    record: &DiagnosticsRecord,
    error: Option<String>,
    digest: String,
    now: Timestamp,
) -> Result<Posted, StepError> {
    if has_expired(record, now) {
        return Err(StepError::Expired);
    }
    if record.status.is_final() {
        let same = record.digest.as_deref() == Some(&digest);
        return if same { Ok(Posted::Again) } else { Err(StepError::Over(record.status)) };
    }
    let status = if error.is_some() { DiagnosticsStatus::Failed } else { DiagnosticsStatus::Completed };
    let ended =
        DiagnosticsRecord { status, error, digest: Some(digest), completed_at: Some(now), ..record.clone() };
    Ok(Posted::Ended(Box::new(ended)))
}

/// The request that can't be done any more.
pub(crate) fn fail(record: &DiagnosticsRecord, error: &str, now: Timestamp) -> Option<DiagnosticsRecord> {
    (!record.status.is_final()).then(|| DiagnosticsRecord {
        status: DiagnosticsStatus::Failed,
        error: Some(error.to_owned()),
        completed_at: Some(now),
        ..record.clone()
    })
}

#[cfg(test)]
mod tests;
