//! Where the driver tells what happens, and whom it asks before a stop. Both are wired in by whoever runs it.

use hale_model::report::Report;

use crate::runtime::{BoxFuture, InstanceId};

/// Takes reports. Called in the driver's own task, in the order things happened: it must not block; a slow disk or
/// reader behind it is its own affair.
pub trait Sink: Send + Sync + 'static {
    /// Takes one report.
    fn report(&self, report: Report);
}

/// Those who send traffic to replicas, asked when one of them is to stop (H18).
pub trait Drain: Send + Sync + 'static {
    /// Completes when every consumer that acknowledges has applied that this instance is not ready, and has no request
    /// in flight there. The driver bounds the wait by the drain time.
    fn drained(&self, id: &InstanceId) -> BoxFuture<'static, ()>;
}

/// Nobody sends traffic.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTraffic;

impl Drain for NoTraffic {
    fn drained(&self, _: &InstanceId) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
