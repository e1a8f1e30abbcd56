//! The desk against tables, with made-up time.

mod approvals;
mod breakers;
mod burst;
mod endings;
mod intake;
mod kit;
mod properties;
mod queues;
mod restart;
mod world;
