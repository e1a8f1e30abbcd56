//! A node: supervisor, targets, reporting and metrics
