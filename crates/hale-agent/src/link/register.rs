//! Who this agent is.

use std::{collections::BTreeMap, time::Duration};

use hale_api::proto;

/// What an agent says of itself when it registers (N7).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Identity {
    /// The name of the node.
    pub node: String,
    /// The release.
    pub version: String,
    /// Labels, for placement.
    pub labels: BTreeMap<String, String>,
    /// Empty: none.
    pub region: String,
    /// Empty: none.
    pub zone: String,
    /// Where replicas of this node are reached; empty: unknown.
    pub address: String,
    /// Changes with every start of the agent (N8).
    pub instance: String,
    /// The boot of the machine.
    pub boot_id: String,
    /// What it can run.
    pub runtimes: Vec<String>,
    /// What it knows of workload files (S7).
    pub features: Vec<String>,
    /// CPUs, bytes of memory, bytes of disk.
    pub capacity: (f64, u64, u64),
}

impl Identity {
    pub(crate) fn register(&self) -> proto::Register {
        let (cpu, memory, disk) = self.capacity;
        proto::Register {
            node: self.node.clone(),
            version: self.version.clone(),
            labels: self.labels.clone().into_iter().collect(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            capacity: Some(proto::Capacity { cpu, memory, disk }),
            runtimes: self.runtimes.clone(),
            features: self.features.clone(),
            address: self.address.clone(),
            instance: self.instance.clone(),
            boot_id: self.boot_id.clone(),
            ..proto::Register::default()
        }
    }
}

/// A part of a period, the same for the same name, so that many nodes do not do the same at once.
pub(super) fn spread(name: &str, period: Duration) -> Duration {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    period.mul_f64(0.25 + 0.75 * (hash >> 11) as f64 / (1u64 << 53) as f64)
}
