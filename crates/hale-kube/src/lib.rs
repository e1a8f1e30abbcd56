//! The health of what runs in Kubernetes clusters.
//!
//! Pure: [`judge`] is from objects and a time to a status for every workload (K2, K4–K7), over a world that is kept up
//! object by object, so that one changed pod costs its own family alone; [`health`] puts a deployment object together
//! of it; [`manifest`] reads and marks what is applied; [`dump`] reads objects from text, as `kubectl get -o json`
//! prints them (C11).
//!
//! At the edge: [`cluster`] asks a cluster's API, [`apply`] makes it be as a deployment object says, [`diagnose`] collects
//! what helps people, [`agent`] drives the whole and speaks to a server.

pub mod agent;
pub mod apply;
pub mod cluster;
pub mod diagnose;
pub mod dump;
pub mod health;
pub mod judge;
pub mod manifest;
