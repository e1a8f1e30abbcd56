//! A whole cluster, black box: real servers, agents, gateways and replicas as processes of this machine, asked the way
//! a user asks, broken with `kill -9` and cut networks. After each fault what was acknowledged must be what is told.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can not go on says where, and one that can not run here says why"
)]

mod agents;
mod api;
mod cluster;
mod containers;
mod cut;
mod database;
#[path = "../common/docker.rs"]
mod docker;
mod events;
mod flows;
mod gateways;
mod kube;
mod kube_agent;
#[path = "../common/load.rs"]
mod load;
mod netns;
mod part;
mod postgres;
#[path = "../common/process.rs"]
mod process;
mod sampler;
mod servers;
mod targets;
mod tls;
#[path = "../common/web.rs"]
mod web;
mod webhooks;
