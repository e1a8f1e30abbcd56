//! Which node runs what: pure decisions over what is wanted and what is seen.
