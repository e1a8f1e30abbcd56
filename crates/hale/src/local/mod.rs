//! Commands that need no running hale.

pub(crate) mod assess;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo_web;
pub(crate) mod import;
pub(crate) mod openapi;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod schema;
pub(crate) mod version;
