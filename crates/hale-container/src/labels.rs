//! How a container is marked as one of ours, and which run it is.

use std::collections::HashMap;

use hale_health::{Generation, Incarnation};
use hale_supervisor::runtime::InstanceId;

/// Whose it is: one value per data directory.
pub(crate) const OWNER: &str = "dev.hale.owner";
/// Of which workload.
const WORKLOAD: &str = "dev.hale.workload";
/// Which replica of it.
pub(crate) const REPLICA: &str = "dev.hale.replica";
/// The number of its placement.
const GENERATION: &str = "dev.hale.generation";
/// The number of its start.
const INCARNATION: &str = "dev.hale.incarnation";

/// The labels of a run.
pub(crate) fn of(owner: &str, workload: &str, id: &InstanceId) -> HashMap<String, String> {
    [
        (OWNER, owner.to_owned()),
        (WORKLOAD, workload.to_owned()),
        (REPLICA, id.replica.clone()),
        (GENERATION, id.generation.0.to_string()),
        (INCARNATION, id.incarnation.0.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The run that labels tell; `None` where they tell none.
pub(crate) fn instance(labels: &HashMap<String, String>) -> Option<InstanceId> {
    Some(InstanceId {
        replica: labels.get(REPLICA)?.clone(),
        generation: Generation(labels.get(GENERATION)?.parse().ok()?),
        incarnation: Incarnation(labels.get(INCARNATION)?.parse().ok()?),
    })
}

/// The name of a run's container: what people see in the lists of the engine.
pub(crate) fn name(owner: &str, id: &InstanceId) -> String {
    let owner = &owner[..owner.len().min(8)];
    format!("{}.{}.{}.{owner}", id.replica, id.generation.0, id.incarnation.0)
}

/// The filter for all that is ours, and of one replica where one is given.
pub(crate) fn filter(owner: &str, replica: Option<&str>) -> HashMap<String, Vec<String>> {
    let mut wanted = vec![format!("{OWNER}={owner}")];
    wanted.extend(replica.map(|replica| format!("{REPLICA}={replica}")));
    HashMap::from([("label".to_owned(), wanted)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_back_from_its_labels() {
        let id =
            InstanceId { replica: "web-0".into(), generation: Generation(7), incarnation: Incarnation(3) };
        let labels = of("0123456789abcdef", "web", &id);
        assert_eq!(instance(&labels), Some(id.clone()));
        assert_eq!(name("0123456789abcdef", &id), "web-0.7.3.01234567");
        assert_eq!(instance(&HashMap::from([(REPLICA.to_owned(), "web-0".to_owned())])), None);
    }
}
