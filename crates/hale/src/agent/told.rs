//! Which failures of targets were told already: read from the log of events, when a node starts (N13).

use hale_agent::targets::{TYPES, Told};
use hale_api::events::EventQuery;
use hale_store::{Store, StoreError};

/// Events read at once.
const PAGE: usize = 1000;

/// Goes through the events of a node's targets, oldest first.
///
/// # Errors
/// The store can't be read.
pub(crate) async fn load(store: &Store, node: &str) -> Result<Told, StoreError> {
    let source = format!("/nodes/{node}");
    let mut told = Told::default();
    let mut after = 0;
    loop {
        let query = EventQuery { after: Some(after), kind: Some(TYPES.to_owned()), ..EventQuery::default() };
        let (events, _) = store.events(&query, PAGE).await?;
        let Some(last) = events.last() else { return Ok(told) };
        after = last.id;
        for event in events.iter().filter(|it| it.source == source) {
            told.event(&event.subject, event.time, &event.data);
        }
    }
}
