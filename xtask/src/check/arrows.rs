//! The arrows between crates: down, never up, never sideways.

use std::collections::BTreeMap;

use cargo_metadata::{Dependency, DependencyKind, MetadataCommand};

use crate::{Outcome, run};

/// Who may depend on whom, from the bottom up. A crate that needs something of a neighbour gets it as a trait of its
/// own, wired in `hale`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hale-health", &[]),
    ("hale-keeper", &[]),
    // Real servers for tests: any crate's tests may use it, and nothing that is shipped.
    (TESTKIT, &[]),
    ("hale-model", &["hale-health"]),
    ("hale-check", &["hale-model", "hale-health"]),
    ("hale-api", &["hale-model", "hale-health"]),
    ("hale-supervisor", &["hale-check", "hale-keeper", "hale-model", "hale-health"]),
    ("hale-container", &["hale-supervisor", "hale-check", "hale-keeper", "hale-model", "hale-health"]),
    ("hale-store", &["hale-api", "hale-model", "hale-health"]),
    ("hale-gateway", &["hale-api", "hale-model", "hale-health"]),
    ("hale-kube", &["hale-api", "hale-model", "hale-health"]),
    ("hale-responder", &["hale-api", "hale-keeper", "hale-model", "hale-health"]),
    ("hale-placement", &["hale-model", "hale-health"]),
    ("hale-server", &["hale-placement", "hale-store", "hale-api", "hale-model", "hale-health"]),
    (
        "hale-agent",
        &["hale-supervisor", "hale-check", "hale-keeper", "hale-api", "hale-model", "hale-health"],
    ),
    (
        "hale",
        &[
            "hale-agent",
            "hale-container",
            "hale-server",
            "hale-gateway",
            "hale-kube",
            "hale-responder",
            "hale-supervisor",
            "hale-store",
            "hale-placement",
            "hale-check",
            "hale-keeper",
            "hale-api",
            "hale-model",
            "hale-health",
        ],
    ),
    // Benchmarks measure the built program; only their loops reach into a library.
    (
        "xtask",
        &[
            "hale-placement",
            "hale-server",
            "hale-store",
            "hale-agent",
            "hale-supervisor",
            "hale-check",
            "hale-gateway",
            "hale-keeper",
            "hale-api",
            "hale-model",
            "hale-health",
        ],
    ),
];

/// What only tests depend on.
const TESTKIT: &str = "hale-testkit";

/// Compares the workspace, as cargo sees it, with the table. Tests are held to it too.
pub(super) fn check() -> Outcome {
    let metadata = MetadataCommand::new()
        .current_dir(run::root())
        .no_deps()
        .exec()
        .map_err(|error| format!("cannot read the workspace: {error}"))?;
    let crates: BTreeMap<String, Vec<String>> = metadata
        .packages
        .iter()
        .map(|package| {
            let for_tests = |it: &Dependency| it.name == TESTKIT && it.kind == DependencyKind::Development;
            let needs = package.dependencies.iter().filter(|it| it.path.is_some() && !for_tests(it));
            (package.name.to_string(), needs.map(|it| it.name.clone()).collect())
        })
        .collect();
    let wrong = wrong_arrows(&crates, ALLOWED);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n  ")) }
}

/// Every arrow that is not in the table, each as a sentence.
fn wrong_arrows(crates: &BTreeMap<String, Vec<String>>, allowed: &[(&str, &[&str])]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, needs) in crates {
        let Some((_, may)) = allowed.iter().find(|(it, _)| it == name) else {
            wrong.push(format!(
                "{name} is not in the table of xtask/src/check/arrows.rs: say what it may depend on"
            ));
            continue;
        };
        for need in needs.iter().filter(|need| *need != name && !may.contains(&need.as_str())) {
            let back = allowed.iter().any(|(it, its)| it == need && its.contains(&name.as_str()));
            let how = if back { "up" } else { "sideways" };
            let may = if may.is_empty() { "no crate of this workspace".to_owned() } else { may.join(", ") };
            wrong.push(format!(
                "{name} -> {need} points {how}: {name} may depend on {may}. Define a trait in {name} and wire it in hale"
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates(arrows: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        arrows
            .iter()
            .map(|(name, needs)| ((*name).into(), needs.iter().map(|it| (*it).into()).collect()))
            .collect()
    }

    #[test]
    fn the_workspace_keeps_its_arrows() {
        assert_eq!(check(), Ok(()));
    }

    #[test]
    fn an_arrow_down_is_fine() {
        assert!(wrong_arrows(&crates(&[("hale-model", &["hale-health"])]), ALLOWED).is_empty());
    }

    #[test]
    fn an_arrow_up_is_told() {
        let wrong = wrong_arrows(&crates(&[("hale-health", &["hale-model"])]), ALLOWED);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].starts_with("hale-health -> hale-model points up"), "{wrong:?}");
    }

    #[test]
    fn an_arrow_sideways_is_told() {
        let wrong = wrong_arrows(&crates(&[("hale-gateway", &["hale-server"])]), ALLOWED);
        assert!(wrong[0].starts_with("hale-gateway -> hale-server points sideways"), "{wrong:?}");
    }

    #[test]
    fn a_crate_nobody_placed_is_told() {
        let wrong = wrong_arrows(&crates(&[("hale-new", &[])]), ALLOWED);
        assert!(wrong[0].contains("hale-new is not in the table"), "{wrong:?}");
    }

    #[test]
    fn the_table_itself_points_down_only() {
        for (at, (name, may)) in ALLOWED.iter().enumerate() {
            for need in *may {
                let below = ALLOWED[..at].iter().any(|(it, _)| it == need);
                assert!(below, "{name} -> {need}: {need} must stand above {name} in the table");
            }
        }
    }
}
