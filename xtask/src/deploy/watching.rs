//! What watches hale from outside: alert rules with their trials, scrape configurations, dashboards (O3).

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Outcome, run, tools};

/// Takes what a dashboard asks, and names it as rules, which promtool can read. Its variables stand for anything.
const QUERIES: &str = r#"
import json, sys
*dashboards, to = sys.argv[1:]
rules = []
for path in dashboards:
    with open(path) as file:
        panels = json.load(file)["panels"]
    for expr in (target["expr"] for panel in panels for target in panel.get("targets", [])):
        rules.append({"record": "query:%d" % len(rules), "expr": expr.replace("$cluster", ".*").replace("$job", ".*")})
if not rules:
    sys.exit("no dashboard asks anything")
with open(to, "w") as file:
    json.dump({"groups": [{"name": "dashboards", "rules": rules}]}, file)
"#;

/// Has promtool check it all.
pub(super) fn check(work: &Path) -> Outcome {
    tools::ensure(tools::FOR_TESTS.get(..1).unwrap_or_default())?;
    let prometheus = run::root().join("deploy/prometheus");
    let mut wrong = Vec::new();
    let mut promtool = |words: &[&str], file: &Path| {
        wrong.extend(run::read(run::program("promtool").args(words).arg(file)).err());
    };
    for rules in files(&prometheus, ".rules.yaml")? {
        promtool(&["check", "rules", "--lint-fatal"], &rules);
    }
    for trial in files(&prometheus, ".test.yaml")? {
        promtool(&["test", "rules"], &trial);
    }
    // Debian's promtool knows no Kubernetes, so the other configuration is for others to read.
    promtool(&["check", "config", "--syntax-only"], &prometheus.join("scrape.yaml"));
    let queries = work.join("dashboards.rules.yaml");
    let mut python = run::program("python3");
    python.args(["-c", QUERIES]).args(files(&run::root().join("deploy/grafana"), ".json")?).arg(&queries);
    run::read(&mut python)?;
    promtool(&["check", "rules"], &queries);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// The files of a folder whose names end so; none is an error.
fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>, String> {
    let all = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut found: Vec<PathBuf> = all.flatten().map(|it| it.path()).collect();
    found.retain(|it| it.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)));
    found.sort();
    if found.is_empty() { Err(format!("{}: nothing ends in {end}", folder.display())) } else { Ok(found) }
}
