//! Who asks for a change, for the audit record.

use hale_model::cluster::Intent;
use hale_store::{
    AuditRecord,
    cluster::{Change, Write},
};
use jiff::Timestamp;

/// Who changes something, and why; for the record (S26).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub by: String,
    /// Why; empty when not said.
    pub reason: String,
    /// From where: an address; empty when it is nobody else's business.
    pub from: String,
}

impl Person {
    /// Somebody who says nothing of why.
    #[must_use]
    pub fn new(by: impl Into<String>) -> Self {
        Self { by: by.into(), reason: String::new(), from: String::new() }
    }

    pub(crate) fn intent(&self) -> Intent {
        Intent { by: self.by.clone(), reason: self.reason.clone(), at: Timestamp::now() }
    }

    /// Adds the audit record of a change.
    pub(crate) fn audit(&self, write: &mut Write, action: &str, subject: String, detail: String) {
        let from = if self.from.is_empty() { String::new() } else { format!("from {}", self.from) };
        let detail: Vec<&str> = [&self.reason, &detail, &from]
            .into_iter()
            .map(String::as_str)
            .filter(|it| !it.is_empty())
            .collect();
        let record = AuditRecord {
            at: Timestamp::now(),
            by: self.by.clone(),
            action: action.to_owned(),
            subject,
            detail: detail.join(", "),
        };
        write.changes.push(Change::Audit(Box::new(record)));
    }
}
