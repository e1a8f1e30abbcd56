//! Who asks, and from where: what goes on record with everything that is changed (S26).

use axum::extract::FromRequestParts;
use hale_api::Code;
use hale_store::AuditRecord;
use http::request;
use jiff::Timestamp;

use crate::{auth::Caller, cluster::desired::Person, problems::Refusal, serve::Peer};

/// The caller and the other end of the connection.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) caller: Caller,
    from: String,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Refusal> {
        Self::of(&parts.extensions)
    }
}

impl Asker {
    /// Who is behind a request with these extensions.
    ///
    /// # Errors
    /// When nobody was found to be: a route without a token changes nothing.
    pub(crate) fn of(extensions: &http::Extensions) -> Result<Self, Refusal> {
        let caller = extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Refusal::new(Code::Unauthorized, "no token"))?;
        let from = extensions.get::<Peer>().map(|it| it.0.to_string()).unwrap_or_default();
        Ok(Self { caller, from })
    }

    /// The name of who asks.
    pub(crate) fn name(&self) -> &str {
        &self.caller.name
    }

    /// The name of who asks for a person who is named along: `ann via cli`.
    pub(crate) fn name_for(&self, person: Option<&str>) -> String {
        match person.map(str::trim) {
            Some(person) if !person.is_empty() => format!("{person} via {}", self.name()),
            _ => self.name().to_owned(),
        }
    }

    /// Where the other end of the connection is.
    pub(crate) fn from(&self) -> &str {
        &self.from
    }

    /// Who wants something declared, and why.
    pub(crate) fn person(&self, reason: &str) -> Person {
        Person { by: self.name().to_owned(), reason: reason.trim().to_owned(), from: self.from.clone() }
    }

    /// The record of something that is asked for. What is to be changed in the database carries it in the same write.
    pub(crate) fn audit(
        &self,
        by: &str,
        action: &str,
        subject: String,
        mut detail: Vec<String>,
    ) -> AuditRecord {
        if !self.from.is_empty() {
            detail.push(format!("from {}", self.from));
        }
        let (by, action) = (by.to_owned(), action.to_owned());
        let record = AuditRecord { at: Timestamp::now(), by, action, subject, detail: detail.join(", ") };
        tracing::info!(
            by = record.by,
            action = record.action,
            subject = record.subject,
            detail = record.detail,
            "somebody asks"
        );
        record
    }
}
