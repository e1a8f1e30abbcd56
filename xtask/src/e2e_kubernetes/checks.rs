//! What is asked of hale about each workload, and what has to come.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Interrupted,
    processes::{Hale, Kubectl},
    workloads::Workload,
};
use crate::Outcome;

/// How often it is looked whether something has come to be.
const EVERY: Duration = Duration::from_millis(500);

/// The trial that runs.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    pub(super) hale: Hale,
    pub(super) kubectl: &'a Kubectl,
    pub(super) namespace: &'a str,
    pub(super) folder: &'a Path,
    pub(super) interrupted: &'a Interrupted,
    pub(super) limit: Duration,
    pub(super) begun: Instant,
}

impl Trial<'_> {
    /// The name of a workload's stack.
    pub(super) fn stack(&self, workload: &str) -> String {
        format!("{}-{workload}", self.namespace)
    }

    fn say(&self, what: &str) {
        println!("{:>6.1}s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Tries until it is so; after the limit, the last reason why it is not.
    pub(super) fn until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&Self) -> Result<(), String>,
    ) -> Outcome {
        let until = Instant::now() + self.limit;
        loop {
            self.interrupted.check()?;
            self.hale.check()?;
            match is_so(self) {
                Ok(()) => break,
                Err(why) if Instant::now() >= until => {
                    return Err(format!("{what}: not within {:?}: {why}", self.limit));
                }
                Err(_) => std::thread::sleep(EVERY),
            }
        }
        self.say(what);
        Ok(())
    }

    /// Makes the stack of a workload where there is none, and pushes manifests.
    pub(super) fn push(&self, workload: &Workload, manifest: &str) -> Outcome {
        let stack = self.stack(workload.name);
        let file = self.folder.join(format!("{}.yaml", workload.name));
        fs::write(&file, manifest).map_err(|error| format!("{}: {error}", file.display()))?;
        let label = format!("e2e={}", self.namespace);
        self.hale.ask(&["stack", "create", &stack, "--label", &label])?;
        self.hale.ask(&["stack", "push", &stack, &file.to_string_lossy()])?;
        self.say(&format!("{} is pushed", workload.name));
        Ok(())
    }

    /// Waits until a workload's status is what it has to be.
    pub(super) fn status(&mut self, workload: &Workload) -> Outcome {
        let stack = self.stack(workload.name);
        let mut last = String::new();
        let what = format!("{} is {}", workload.name, workload.status);
        self.until(&what, |it| {
            let seen = it.hale.json(&["status", &stack])?;
            let (status, summary) = told(&seen);
            if last != format!("{status} {summary}") {
                last = format!("{status} {summary}");
                it.say(&format!("  {}: {last}", workload.name));
            }
            as_expected(workload, &seen)
        })
    }

    /// Asks for diagnostics of a workload, and looks for what explains its status.
    pub(super) fn diagnostics(&mut self, workload: &Workload) -> Outcome {
        let stack = self.stack(workload.name);
        let asked = Instant::now();
        let mut took = Duration::ZERO;
        // Events and logs may be a moment behind the status, and a container between two of its lives.
        let what = format!("{} has its diagnostics", workload.name);
        self.until(&what, |it| {
            let began = Instant::now();
            let found = it.hale.json(&["diagnose", &stack, "--timeout", "60s"])?;
            took = began.elapsed();
            complete(workload, &found["result"])
        })?;
        self.say(&format!("  {}: in {took:.1?} ({:.1?} in all)", workload.name, asked.elapsed()));
        Ok(())
    }

    /// Events tell of what is failing.
    pub(super) fn events(&mut self) -> Outcome {
        self.until("an event tells of what is failing", |it| {
            let events = it.hale.ask(&["events", "--type", "deployment.failing", "--output", "json"])?;
            if events.contains("crashing") {
                Ok(())
            } else {
                Err(format!("no such event of crashing: {events}"))
            }
        })
    }
}

/// Status and summary of the one deployment object of a stack.
fn told(seen: &Value) -> (&str, String) {
    let object = &seen["deployment_objects"][0];
    let summary = &object["summary"];
    let conditions: Vec<&str> =
        summary["conditions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let text = format!("{}/{} {}", summary["pods_ready"], summary["pods_total"], conditions.join(", "));
    (seen["overall_status"].as_str().unwrap_or("?"), text)
}

fn as_expected(workload: &Workload, seen: &Value) -> Outcome {
    let (status, text) = told(seen);
    let summary = &seen["deployment_objects"][0]["summary"];
    let pods = (summary["pods_ready"].as_u64().unwrap_or(0), summary["pods_total"].as_u64().unwrap_or(0));
    let conditions = summary["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let known = workload.conditions.is_empty() && conditions.is_empty()
        || conditions.iter().filter_map(Value::as_str).any(|it| workload.conditions.contains(&it));
    if status == workload.status && pods == workload.pods && known {
        return Ok(());
    }
    Err(format!("it is {status} with {text}"))
}

/// Whether a bundle holds what it has to.
fn complete(workload: &Workload, bundle: &Value) -> Outcome {
    let pods = bundle["pod_statuses"].as_array().map_or(&[][..], Vec::as_slice);
    if pods.is_empty() {
        return Err(format!("no pods in {bundle}"));
    }
    let containers: Vec<&Value> =
        pods.iter().flat_map(|it| it["container_statuses"].as_array().into_iter().flatten()).collect();
    let mut reasons = containers.iter().flat_map(|it| [&it["reason"], &it["last_state"]["reason"]]);
    let known = reasons.any(|it| it.as_str().is_some_and(|it| workload.reasons.contains(&it)));
    if !workload.reasons.is_empty() && !known {
        return Err(format!("none of {:?} in the states of containers: {containers:?}", workload.reasons));
    }
    let events = bundle["events"].as_array().map_or(&[][..], Vec::as_slice);
    if !events.iter().filter_map(|it| it["reason"].as_str()).any(|it| workload.events.contains(&it)) {
        return Err(format!("none of {:?} in the events: {}", workload.events, bundle["events"]));
    }
    let mut lines = bundle["log_tails"].as_object().into_iter().flat_map(|it| it.values());
    let has_line = lines.any(|it| it.to_string().contains(workload.line));
    if !workload.line.is_empty() && !has_line {
        return Err(format!("no {:?} in the logs: {}", workload.line, bundle["log_tails"]));
    }
    let parts = bundle["collection"].as_array().map_or(&[][..], Vec::as_slice);
    // The logs of a container that never ran can't be had, and the bundle has to say so.
    let failed = |it: &&Value| it["state"] == "error" && !(workload.line.is_empty() && is_logs(it));
    match parts.iter().find(failed) {
        _ if parts.is_empty() => Err("nothing is said of how collecting went".into()),
        Some(part) => Err(format!("a part could not be collected: {part}")),
        None => Ok(()),
    }
}

fn is_logs(part: &Value) -> bool {
    part["part"].as_str().is_some_and(|it| it.starts_with("log"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::workloads::WORKLOADS, *};

    fn crashing() -> Workload {
        WORKLOADS[1]
    }

    #[test]
    fn a_status_counts_with_its_pods_and_conditions_alone() {
        let seen = |status: &str, ready: u32, conditions: Value| {
            json!({"overall_status": status, "deployment_objects": [{"summary":
                {"pods_ready": ready, "pods_total": 1, "conditions": conditions}}]})
        };
        let it = crashing();
        assert_eq!(as_expected(&it, &seen("failing", 0, json!(["CrashLoopBackOff", "X"]))), Ok(()));
        assert!(as_expected(&it, &seen("failing", 0, json!(["Error"]))).is_err());
        assert!(as_expected(&it, &seen("degraded", 0, json!(["CrashLoopBackOff"]))).is_err());
        assert!(as_expected(&it, &seen("failing", 1, json!(["CrashLoopBackOff"]))).is_err());
        assert!(as_expected(&it, &json!({})).is_err());
    }

    #[test]
    fn a_bundle_that_lacks_something_is_not_complete() {
        let whole = json!({
            "pod_statuses": [{"container_statuses": [{"reason": "CrashLoopBackOff", "last_state": null}]}],
            "events": [{"reason": "BackOff"}],
            "log_tails": {"crashing-1/app": ["about to crash"]},
            "collection": [{"part": "pods", "state": "ok"}],
        });
        assert_eq!(complete(&crashing(), &whole), Ok(()));
        for part in ["pod_statuses", "events", "log_tails", "collection"] {
            let mut lacking = whole.clone();
            lacking[part] = Value::Null;
            assert!(complete(&crashing(), &lacking).is_err(), "{part}");
        }
        let mut failed = whole;
        failed["collection"][0]["state"] = json!("error");
        assert!(complete(&crashing(), &failed).is_err());
    }
}
