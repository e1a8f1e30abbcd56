//! Commands that need no running hale.

pub(crate) mod completions;
pub(crate) mod schema;
pub(crate) mod version;
