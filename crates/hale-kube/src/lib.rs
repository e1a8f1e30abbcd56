//! The health of what runs in Kubernetes clusters.
//!
//! [`judge`] is the judgement itself: a pure function from objects and a time to a status for every workload (K2,
//! K4–K7). [`dump`] reads objects from text, as `kubectl get -o json` prints them (C11). Neither asks a cluster anything.

pub mod dump;
pub mod judge;
