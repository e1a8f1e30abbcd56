//! Where the ports of replicas come from, seen from the driver.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use hale_model::spec::Port;

use crate::{process::PortPool, runtime::SpawnError};

/// Gives ports to replicas. Called in the dispatcher's task: binding a few sockets to try them is as much as it may do.
pub trait Ports: Send + Sync + 'static {
    /// A number for each port of one start: fixed ones as they are, the others free ones, the same as last time where
    /// that can be.
    ///
    /// # Errors
    /// `port_unavailable` when there is none.
    fn assign(&self, replica: &str, ports: &[Port]) -> Result<BTreeMap<String, u16>, SpawnError>;

    /// A replica that was there before has these: they are nobody else's.
    fn reserve(&self, _replica: &str, _ports: &BTreeMap<String, u16>) {}

    /// The replica is no more: its ports are free for others.
    fn release(&self, replica: &str);
}

impl Ports for Mutex<PortPool> {
    fn assign(&self, replica: &str, ports: &[Port]) -> Result<BTreeMap<String, u16>, SpawnError> {
        let mut pool = self.lock().unwrap_or_else(PoisonError::into_inner);
        pool.assign(replica, ports)
            .map_err(|error| SpawnError { code: "port_unavailable", detail: error.to_string() })
    }

    fn reserve(&self, replica: &str, ports: &BTreeMap<String, u16>) {
        self.lock().unwrap_or_else(PoisonError::into_inner).reserve(replica, ports);
    }

    fn release(&self, replica: &str) {
        self.lock().unwrap_or_else(PoisonError::into_inner).release(replica);
    }
}
