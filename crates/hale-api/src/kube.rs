//! Kubernetes over the API: stacks and their deployment objects, agents of clusters, health, diagnostics (K1, K8, K9,
//! K13).

mod agents;
mod diagnostics;
mod health;
mod replica;
mod stacks;

pub use agents::*;
pub use diagnostics::*;
pub use hale_model::cluster::{DiagnosticsStatus, HealthChange, HealthSummary, KubeMode, ResourceHealth};
pub use health::*;
pub use replica::*;
pub use stacks::*;

/// The largest set of manifests, and the largest result of diagnostics: 8 MiB.
pub const MAX_BODY: usize = 8 << 20;
