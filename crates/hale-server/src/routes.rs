//! What is answered, route by route.

pub(crate) mod actions;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod logs;
pub(crate) mod outcomes;
pub(crate) mod page;
pub(crate) mod services;
pub(crate) mod status;
