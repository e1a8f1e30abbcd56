//! `cargo xtask deploy`: renders deploy/kubernetes from the Helm charts, and holds charts and result to what is right
//! (K15).
//!
//! Real Helm lints and renders, with all values that the charts' `ci/` folders hold; every object that comes out is held
//! against the JSON schemas of Kubernetes, where a field that they don't know is an error. Alert rules and dashboards are
//! checked by Prometheus' own promtool.

mod watching;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    Outcome, e2e_kubernetes, run,
    tools::{self, helm},
};

/// Releases of Kubernetes whose schemas count: the oldest and the newest of those that are looked after.
const RELEASES: [&str; 2] = ["1.32", "1.37"];

/// The charts, and of each the values whose result is kept in deploy/kubernetes, under this name.
const KEPT: [(&str, &str, &str); 5] = [
    ("hale-server", "sqlite", "hale-server"),
    ("hale-server", "postgresql", "hale-server-postgresql"),
    ("hale-kube-agent", "cluster", "hale-kube-agent"),
    ("hale-kube-agent", "namespaced", "hale-kube-agent-namespaced"),
    ("hale-responder", "responder", "hale-responder"),
];

/// The charts.
const CHARTS: [&str; 3] = ["hale-server", "hale-kube-agent", "hale-responder"];

/// Values that a chart must refuse: with each, what it says.
const REFUSED: [(&str, &[&str], &str); 10] = [
    ("hale-server", &["replicas=2"], "one server has the SQLite file to itself"),
    ("hale-server", &["database.kind=postgresql"], "adminToken.existingSecret"),
    ("hale-server", &["replica=2"], "not allowed"),
    ("hale-kube-agent", &["server.url=https://x"], "clusterName"),
    (
        "hale-kube-agent",
        &["server.url=https://x", "clusterName=x"],
        "give token.existingSecret or token.value",
    ),
    ("hale-kube-agent", &["health.intervalSeconds=1"], "not allowed"),
    ("hale-responder", &[], "responder.config"),
    ("hale-responder", &["responder.config=x", "responder.existingConfigMap=y"], "not both"),
    ("hale-responder", &["responder.config=x", "server.url=https://x"], "server.tokenSecret"),
    (
        "hale-responder",
        &["responder.config=x", "settings.shutdownTimeoutSeconds=0"],
        "shutdownTimeoutSeconds",
    ),
];

/// An object with a field that Kubernetes does not know: if this passes, the schemas are not strict.
const WRONG: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prots: []}\n";

/// Options of `cargo xtask deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only says whether what is there is what the charts give.
    #[arg(long)]
    check: bool,
}

impl Args {
    /// Says alone whether all is up to date.
    pub(crate) const fn check() -> Self {
        Self { check: true }
    }
}

/// Lints, renders, validates; writes or compares.
pub(crate) fn run(args: &Args) -> Outcome {
    tools::python()?;
    let helm = helm::program()?;
    let work = run::target().join("deploy");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let mut wrong = Vec::new();
    let mut rendered = Vec::new();
    for chart in CHARTS {
        for values in values_of(chart)? {
            match render(&helm, chart, &values, &work) {
                Ok(file) => rendered.push((chart, values, file)),
                Err(message) => wrong.push(message),
            }
        }
    }
    wrong.extend(refusals(&helm).err());
    wrong.extend(validate(&rendered, &work).err());
    wrong.extend(watching::check(&work).err());
    for (chart, values, name) in KEPT {
        let found =
            rendered.iter().find(|it| it.0 == chart && it.1.ends_with(format!("{values}-values.yaml")));
        match found {
            Some((_, _, file)) => wrong.extend(keep(file, name, args.check).err()),
            None => wrong.push(format!("{chart} could not be rendered with its {values} values")),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn chart_folder(chart: &str) -> PathBuf {
    run::root().join("deploy/helm").join(chart)
}

fn values_of(chart: &str) -> Result<Vec<PathBuf>, String> {
    let folder = chart_folder(chart).join("ci");
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = files.flatten().map(|it| it.path()).collect();
    files.sort();
    if files.is_empty() { Err(format!("{} is empty", folder.display())) } else { Ok(files) }
}

fn render(helm: &Path, chart: &str, values: &Path, work: &Path) -> Result<PathBuf, String> {
    let folder = chart_folder(chart);
    let linted =
        run::program(helm).args(["lint", "--strict", "--quiet"]).arg(&folder).arg("-f").arg(values).output();
    let linted = linted.map_err(|error| format!("cannot run helm: {error}"))?;
    let said = [linted.stdout.as_slice(), linted.stderr.as_slice()].concat();
    if !linted.status.success() || !said.trim_ascii().is_empty() {
        return Err(format!(
            "helm lint of {chart} with {}:\n{}",
            values.display(),
            String::from_utf8_lossy(&said)
        ));
    }
    let mut template = run::program(helm);
    template.args(["template", chart]).arg(&folder).args(["--namespace", "hale", "-f"]).arg(values);
    let text = run::read(&mut template)?;
    let stem = values.file_stem().unwrap_or_default().to_string_lossy();
    let file = work.join(format!("{chart}-{stem}.yaml"));
    let text = format!("{}{}", head(chart, values), text.trim_start_matches("---\n"));
    fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// What stands above what was rendered.
fn head(chart: &str, values: &Path) -> String {
    let name = values.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "# Rendered from deploy/helm/{chart} with its ci/{name} by `cargo xtask deploy`; edit those, not this.\n\
         # The names of Secrets, of the cluster and of the server in it are examples.\n---\n"
    )
}

fn refusals(helm: &Path) -> Outcome {
    for (chart, values, says) in REFUSED {
        let mut template = run::program(helm);
        template.args(["template", chart]).arg(chart_folder(chart));
        for value in values {
            template.args(["--set", value]);
        }
        let output = template.output().map_err(|error| format!("cannot run helm: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() || !said.contains(says) {
            return Err(format!("{chart} with {} is not refused with {says:?}: {said}", values.join(", ")));
        }
    }
    Ok(())
}

fn validate(rendered: &[(&str, PathBuf, PathBuf)], work: &Path) -> Outcome {
    let program = run::target().join("python/venv/bin/kubernetes-validate");
    let canary = work.join("wrong.yaml");
    fs::write(&canary, WRONG).map_err(|error| format!("{}: {error}", canary.display()))?;
    // What the trial against a real cluster pushes is held against them as well.
    let trial = work.join("trial.yaml");
    fs::write(&trial, e2e_kubernetes::manifests())
        .map_err(|error| format!("{}: {error}", trial.display()))?;
    for release in RELEASES {
        let validator = || {
            let mut command = run::program(&program);
            command.args(["--strict", "--quiet", "-k", release]);
            command
        };
        let refused = validator()
            .arg(&canary)
            .output()
            .map_err(|error| format!("cannot run kubernetes-validate: {error}"))?;
        let said = [refused.stdout, refused.stderr].concat();
        if refused.status.success() || !String::from_utf8_lossy(&said).contains("prots") {
            return Err(format!("an unknown field passes as valid for Kubernetes {release}"));
        }
        let mut all = validator();
        all.args(rendered.iter().map(|it| &it.2)).arg(&trial);
        let output = all.output().map_err(|error| format!("cannot run kubernetes-validate: {error}"))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(format!("not valid for Kubernetes {release}:\n{}", String::from_utf8_lossy(&said)));
        }
    }
    println!("{} renderings are valid for Kubernetes {}", rendered.len(), RELEASES.join(" and "));
    Ok(())
}

fn keep(file: &Path, name: &str, check: bool) -> Outcome {
    let kept = run::root().join("deploy/kubernetes").join(format!("{name}.yaml"));
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let there = fs::read_to_string(&kept).unwrap_or_default();
    if there == text {
        return Ok(());
    }
    if check {
        return Err(format!(
            "{} is not what the chart gives; `cargo xtask deploy` writes it",
            kept.display()
        ));
    }
    println!("writing {}", kept.display());
    fs::write(&kept, text).map_err(|error| format!("{}: {error}", kept.display()))
}
