//! What is deployed, and what has to be seen of it.

/// A workload of the trial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    /// Its name, and the end of its stack's.
    pub(super) name: &'static str,
    /// Its manifests; see [`Workload::manifest`].
    pub(super) kind: Kind,
    /// The shell's line that its container runs.
    pub(super) script: &'static str,
    /// The status it has to get to.
    pub(super) status: &'static str,
    /// Ready pods of so many.
    pub(super) pods: (u64, u64),
    /// At least one of these conditions has to be seen, with the status; none may be there when this is empty.
    pub(super) conditions: &'static [&'static str],
    /// A reason of a container's state or last state that diagnostics have to hold; none when empty.
    pub(super) reasons: &'static [&'static str],
    /// A reason of an event that diagnostics have to hold.
    pub(super) events: &'static [&'static str],
    /// A line that log tails have to hold; none when empty: its container never ran.
    pub(super) line: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Deployment { replicas: u32, ready: Option<&'static str>, memory: &'static str, missing_image: bool },
    Job,
}

const WELL: Kind =
    Kind::Deployment { replicas: 2, ready: Some("test -f /tmp/ready"), memory: "64Mi", missing_image: false };
const LONE: Kind = Kind::Deployment { replicas: 1, ready: None, memory: "64Mi", missing_image: false };

/// Everything that is tried.
pub(super) const WORKLOADS: [Workload; 7] = [
    Workload {
        name: "healthy",
        kind: WELL,
        script: "echo ready to serve; touch /tmp/ready; exec sleep 86400",
        status: "healthy",
        pods: (2, 2),
        conditions: &[],
        reasons: &[],
        events: &["Scheduled", "Started", "SuccessfulCreate", "ScalingReplicaSet"],
        line: "ready to serve",
    },
    Workload {
        name: "crashing",
        kind: LONE,
        script: "echo about to crash; exit 3",
        status: "failing",
        pods: (0, 1),
        conditions: &["CrashLoopBackOff"],
        reasons: &["CrashLoopBackOff", "Error"],
        events: &["BackOff"],
        line: "about to crash",
    },
    Workload {
        name: "image-less",
        kind: Kind::Deployment { replicas: 1, ready: None, memory: "64Mi", missing_image: true },
        script: "exit 0",
        status: "failing",
        pods: (0, 1),
        conditions: &["ErrImagePull", "ImagePullBackOff"],
        reasons: &["ErrImagePull", "ImagePullBackOff"],
        events: &["Failed", "BackOff"],
        line: "",
    },
    Workload {
        name: "oom-killed",
        kind: Kind::Deployment { replicas: 1, ready: None, memory: "32Mi", missing_image: false },
        // A shell's string that doubles: 2 s of life so that it is seen to run, then more memory than it may have.
        script: "echo growing; sleep 2; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
        status: "failing",
        pods: (0, 1),
        conditions: &["OOMKilled"],
        reasons: &["OOMKilled"],
        events: &["BackOff", "Started"],
        line: "growing",
    },
    Workload {
        name: "never-ready",
        kind: Kind::Deployment { replicas: 1, ready: Some("false"), memory: "64Mi", missing_image: false },
        script: "echo never ready; exec sleep 86400",
        status: "failing",
        pods: (0, 1),
        conditions: &["ReadinessFailing"],
        reasons: &[],
        events: &["Unhealthy"],
        line: "never ready",
    },
    Workload {
        name: "job",
        kind: Kind::Job,
        script: "echo all done",
        status: "healthy",
        pods: (1, 1),
        conditions: &[],
        reasons: &["Completed"],
        events: &["Completed", "SuccessfulCreate"],
        line: "all done",
    },
    Workload {
        name: "job-failed",
        kind: Kind::Job,
        script: "echo can not; exit 2",
        status: "failing",
        pods: (0, 1),
        conditions: &["PodFailed", "BackoffLimitExceeded"],
        reasons: &["Error"],
        events: &["BackoffLimitExceeded", "SuccessfulCreate"],
        line: "can not",
    },
];

/// The healthy one: what a sick one is made into, and what is deleted at the end.
pub(super) const HEALTHY: &Workload = &WORKLOADS[0];

impl Workload {
    /// This one under another name, as manifests for a namespace.
    pub(super) fn manifest_as(&self, name: &str, namespace: &str, image: &str) -> String {
        match self.kind {
            Kind::Job => format!(
                "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec:\n  backoffLimit: 0\n  template:\n    spec:\n      restartPolicy: Never\n{}",
                self.container(image, "64Mi", "")
            ),
            Kind::Deployment { replicas, ready, memory, missing_image } => {
                let probe = ready.map(|it| {
                    format!(
                        "\n        readinessProbe: {{exec: {{command: [sh, -c, {it:?}]}}, periodSeconds: 2, \
                         failureThreshold: 2}}"
                    )
                });
                // A name that can never be resolved: RFC 6761 keeps `.invalid` free.
                let image = if missing_image { "registry.invalid/hale/no-such-image:none" } else { image };
                format!(
                    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                     spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
                     metadata: {{labels: {{app: {name}}}}}\n    spec:\n      terminationGracePeriodSeconds: 1\n{}",
                    self.container(image, memory, &probe.unwrap_or_default())
                )
            }
        }
    }

    /// Its manifests, for a namespace.
    pub(super) fn manifest(&self, namespace: &str, image: &str) -> String {
        self.manifest_as(self.name, namespace, image)
    }

    fn container(&self, image: &str, memory: &str, probe: &str) -> String {
        // What the restricted pod security standard asks for, so that a cluster that enforces it will do.
        format!(
            "      automountServiceAccountToken: false\n      securityContext: {{runAsNonRoot: true, runAsUser: 65532, \
             seccompProfile: {{type: RuntimeDefault}}}}\n      containers:\n      - name: app\n        image: {image:?}\n        \
             command: [sh, -c, {script:?}]\n        resources: {{requests: {{cpu: 10m, memory: 16Mi}}, limits: {{memory: \
             {memory}}}}}\n        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}{probe}\n",
            script = self.script
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_are_yaml_with_what_was_asked_for() {
        for it in WORKLOADS {
            let text = it.manifest("hale-e2e-1", "busybox:1.36");
            assert!(text.contains(&format!("name: {}, namespace: hale-e2e-1", it.name)), "{text}");
            assert!(text.contains(it.script.split(';').next().unwrap()), "{text}");
            let missing = it.name == "image-less";
            assert_eq!(text.contains("registry.invalid"), missing, "{text}");
            assert_eq!(text.contains("busybox:1.36"), !missing, "{text}");
            // Two blanks a level, no tab, no blank left behind by a line that was broken in the source.
            assert!(text.lines().all(|line| !line.contains('\t') && line == line.trim_end()), "{text}");
            assert!(text.lines().all(|line| (line.len() - line.trim_start().len()) % 2 == 0), "{text}");
        }
    }
}
