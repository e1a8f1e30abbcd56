//! The record of who did what (S26).

use axum::{Json, extract::State};
use hale_api::{
    Code,
    audit::{AuditEntry, AuditPage, AuditQuery},
};
use http::Uri;

use crate::{
    api::Api,
    problems::{Answer, Refusal, query},
};

/// The most records of a page.
const MOST: u32 = 1000;

pub(crate) async fn audit(State(api): State<Api>, uri: Uri) -> Answer<Json<AuditPage>> {
    let asked: AuditQuery = query(&uri)?;
    let limit = asked.limit.unwrap_or(100);
    if limit == 0 || limit > MOST {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MOST}")));
    }
    let limit = limit as usize;
    let found = api.parts.store.audit_log(asked.after.unwrap_or(0), limit).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|(id, _)| *id);
    let entry = |(id, it): (u64, hale_store::AuditRecord)| AuditEntry {
        id,
        at: it.at,
        by: it.by,
        action: it.action,
        subject: it.subject,
        detail: it.detail,
    };
    Ok(Json(AuditPage { records: found.into_iter().map(entry).collect(), next }))
}
