//! Responders as they are written. Doc comments here are what editors show (JSON Schema).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    de::Field,
    raw::ApiVersion,
    raw_target::RawMaintenance,
    scalar::{LongSpan, Many, Size, Text},
};
use crate::spec::{AlertSeverity, Autonomy};

/// The kind of a responder.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(super) enum ResponderKind {
    Responder,
}

/// Takes alerts from sources, and runs a program of yours on those that deserve it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping of the fields of a responder"
)]
#[schemars(rename = "Responder", extend("required" = ["kind", "name", "sources", "rules"]))]
pub(super) struct RawResponder {
    pub(super) api_version: Field<ApiVersion>,
    pub(super) kind: Field<ResponderKind>,
    /// Its name: lower case letters, digits and dashes, at most 63.
    pub(super) name: Field<Text>,
    /// Where alerts come from.
    #[schemars(length(min = 1))]
    pub(super) sources: Field<Vec<Field<RawSource>>>,
    /// Which alerts deserve which program. The first rule that matches an alert takes it.
    #[schemars(length(min = 1))]
    pub(super) rules: Field<Vec<Field<RawRule>>>,
    /// How much it may do.
    pub(super) limits: Field<RawLimits>,
}

/// How a source is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSourceKind {
    Mcp,
    Hale,
    Sse,
    Webhook,
}

/// What an MCP server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawMcpMode {
    Faults,
    Events,
}

/// Where alerts come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {name: prod-eu, kind: mcp, url: \"http://127.0.0.1:8383/mcp\"}"
)]
#[schemars(rename = "Source", extend("required" = ["name", "kind"]))]
pub(super) struct RawSource {
    /// The cluster it speaks for, unique in the responder: lower case letters, digits and dashes, at most 63.
    pub(super) name: Field<Text>,
    /// How it is spoken to: `mcp` (a Model Context Protocol server), `hale` (a hale server), `sse` (any stream of JSON),
    /// `webhook` (a listener).
    pub(super) kind: Field<RawSourceKind>,
    /// `mcp`, `sse`: where it is. `hale`: where its server is; default: the hale that the responder is a part of.
    pub(super) url: Field<Text>,
    /// What rules can match on.
    pub(super) labels: Field<BTreeMap<String, Field<Text>>>,
    /// What programs get as KUBECONFIG, relative to this file.
    pub(super) kubeconfig: Field<Text>,
    /// A file with the token that is sent, or of `webhook`: that a sender must show, as `Authorization: Bearer`; relative
    /// to this file.
    pub(super) token_file: Field<Text>,
    /// All but `webhook`: a file of certificates to trust beside the system's, relative to this file.
    pub(super) ca_file: Field<Text>,
    /// `mcp`: what is subscribed to. Default: faults.
    pub(super) mode: Field<RawMcpMode>,
    /// `mcp`: only these namespaces. Default: all.
    pub(super) namespaces: Field<Many<Field<Text>>>,
    /// `mcp`: further arguments of the subscription, as they are: `{labelSelector: app=shop}`.
    pub(super) filters: Field<BTreeMap<String, serde_json::Value>>,
    /// `sse`: where in each message the parts of an alert stand.
    pub(super) fields: Field<RawSseFields>,
    /// `webhook`: the address it listens on, such as 127.0.0.1:9095; port 0 picks one. Beyond this machine it needs
    /// `tokenFile` or `hmacFile`.
    pub(super) listen: Field<Text>,
    /// `webhook`: the path it is asked at. Default: /.
    pub(super) path: Field<Text>,
    /// `webhook`: a file with the key of the HMAC-SHA256 over the body, which a sender shows as `sha256=…` in
    /// `X-Hub-Signature-256` or `X-Hale-Signature`; relative to this file.
    pub(super) hmac_file: Field<Text>,
}

/// JSON pointers into a message, each beginning with a slash.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {name: /object/name, severity: /severity}"
)]
#[schemars(rename = "SseFields", extend("required" = ["name"]))]
pub(super) struct RawSseFields {
    /// The severity: debug, info, warning, error, critical. Without it all are warnings.
    pub(super) severity: Field<Text>,
    /// What kind of fault it is.
    pub(super) fault_type: Field<Text>,
    /// The kind of the resource.
    pub(super) kind: Field<Text>,
    /// The name of the resource.
    pub(super) name: Field<Text>,
    /// Its namespace.
    pub(super) namespace: Field<Text>,
    /// A sentence for people.
    pub(super) message: Field<Text>,
    /// When it happened, RFC 3339.
    pub(super) timestamp: Field<Text>,
    /// True, or `resolved`, where a message says that all is well again.
    pub(super) resolved: Field<Text>,
}

/// Which alerts deserve which program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {name: crash-loops, match: {kinds: [Pod]}, run: {command: [\"./triage.sh\"]}}"
)]
#[schemars(rename = "Rule", extend("required" = ["name", "run"]))]
pub(super) struct RawRule {
    /// Its name, unique in the responder: lower case letters, digits and dashes, at most 63.
    pub(super) name: Field<Text>,
    /// Which alerts it takes. Default: all that are at least warnings.
    #[serde(rename = "match")]
    pub(super) matches: Field<RawMatch>,
    /// What is run.
    pub(super) run: Field<RawProgram>,
    /// `observe` writes down what would run, `approve` waits for a person, `act` runs it. Default: act.
    pub(super) autonomy: Field<Autonomy>,
    /// With `approve`: how long a run waits for a person before it expires. Default: 1h.
    pub(super) approval_timeout: Field<LongSpan>,
    /// What a success needs beside exit status 0.
    pub(super) success_when: Field<RawSuccessWhen>,
    /// What is done, one after the other, when a run was no success.
    pub(super) escalate: Field<Many<Field<RawStep>>>,
}

/// Which alerts. What is left out matches everything; texts may hold `*` and `?`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {severity: error, kinds: [Pod], namespaces: [\"shop-*\"]}"
)]
#[schemars(rename = "Match")]
pub(super) struct RawMatch {
    /// At least so severe. Default: warning.
    pub(super) severity: Field<AlertSeverity>,
    /// Names of sources.
    pub(super) clusters: Field<Many<Field<Text>>>,
    /// Labels of the source or the alert, all of these.
    pub(super) labels: Field<BTreeMap<String, Field<Text>>>,
    /// Kinds of faults, such as CrashLoop.
    pub(super) fault_types: Field<Many<Field<Text>>>,
    /// Kinds of resources, such as Pod.
    pub(super) kinds: Field<Many<Field<Text>>>,
    /// Namespaces; an alert without one matches none of them.
    pub(super) namespaces: Field<Many<Field<Text>>>,
    /// Names of resources.
    pub(super) names: Field<Many<Field<Text>>>,
    /// When the rule takes alerts: within one of these. Default: always.
    pub(super) schedule: Field<Many<Field<RawMaintenance>>>,
}

/// What a program gets on its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawStdin {
    Alert,
    Prompt,
    None,
}

/// A program with its arguments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {command: [\"./triage.sh\", \"$(HALE_CLUSTER)\"]}"
)]
#[schemars(rename = "Program", extend("required" = ["command"]))]
pub(super) struct RawProgram {
    /// The program and its arguments, with placeholders such as `$(HALE_CLUSTER)`; no shell is involved. A program with a
    /// slash in it is relative to this file, a bare name is looked for in PATH.
    #[schemars(length(min = 1))]
    pub(super) command: Field<Vec<Field<Text>>>,
    /// How long it may run. Default: the responder's `--run-timeout`, 300s.
    pub(super) timeout: Field<LongSpan>,
    /// Environment variables, with placeholders in their values.
    pub(super) env: Field<BTreeMap<String, Field<Text>>>,
    /// Names of environment variables of the responder that it gets; it gets no others.
    pub(super) pass_env: Field<Many<Field<Text>>>,
    /// The user to run as, by name or number. Default: the responder's.
    pub(super) user: Field<Text>,
    /// A template of `prompt.md`, relative to this file. Default: a plain one.
    pub(super) prompt_file: Field<Text>,
    /// What it gets on its standard input: the alert as JSON, the text of `prompt.md`, or nothing. Default: alert.
    pub(super) stdin: Field<RawStdin>,
    /// The most that is kept of each of its outputs. Default: 10Mi.
    pub(super) max_output: Field<Size>,
}

/// What a success needs beside exit status 0.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {artifact: {path: report.md}, recoveredWithin: 10m}"
)]
#[schemars(rename = "SuccessWhen")]
pub(super) struct RawSuccessWhen {
    /// A file that it must have made.
    pub(super) artifact: Field<RawArtifact>,
    /// The resource must be healthy within so long after the program has ended; else the run was ineffective.
    pub(super) recovered_within: Field<LongSpan>,
    /// A program that says by exit status 0 that the resource is healthy; it is asked again and again. Default: the source
    /// says it, where it can.
    pub(super) recovered_when: Field<RawProgram>,
}

/// A file that a program must have made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {path: output/report.md, minBytes: 100}"
)]
#[schemars(rename = "Artifact", extend("required" = ["path"]))]
pub(super) struct RawArtifact {
    /// Where it is, below the workspace.
    pub(super) path: Field<Text>,
    /// It has at least so many bytes. Default: 1.
    #[schemars(range(min = 0))]
    pub(super) min_bytes: Field<Size>,
}

/// One step of an escalation: a program (`command` and what goes with it) or a `webhook`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {command: [\"./page.sh\"]} or {webhook: {url: \"https://example.com/hook\"}}"
)]
#[schemars(rename = "Step", extend("oneOf" = [{"required": ["command"]}, {"required": ["webhook"]}]))]
pub(super) struct RawStep {
    /// The program and its arguments, as in `run`.
    pub(super) command: Field<Vec<Field<Text>>>,
    /// As in `run`.
    pub(super) timeout: Field<LongSpan>,
    /// As in `run`.
    pub(super) env: Field<BTreeMap<String, Field<Text>>>,
    /// As in `run`.
    pub(super) pass_env: Field<Many<Field<Text>>>,
    /// As in `run`.
    pub(super) user: Field<Text>,
    /// As in `run`.
    pub(super) prompt_file: Field<Text>,
    /// As in `run`.
    pub(super) stdin: Field<RawStdin>,
    /// As in `run`.
    pub(super) max_output: Field<Size>,
    /// The run's record is sent as JSON in a POST.
    pub(super) webhook: Field<RawRemote>,
}

impl RawStep {
    /// The fields of its program, if any was written, by name.
    pub(super) fn program_fields(&self) -> [(&'static str, bool); 8] {
        [
            ("command", self.command.is_written()),
            ("timeout", self.timeout.is_written()),
            ("env", self.env.is_written()),
            ("passEnv", self.pass_env.is_written()),
            ("user", self.user.is_written()),
            ("promptFile", self.prompt_file.is_written()),
            ("stdin", self.stdin.is_written()),
            ("maxOutput", self.max_output.is_written()),
        ]
    }

    /// Its program.
    pub(super) fn into_program(self) -> RawProgram {
        RawProgram {
            command: self.command,
            timeout: self.timeout,
            env: self.env,
            pass_env: self.pass_env,
            user: self.user,
            prompt_file: self.prompt_file,
            stdin: self.stdin,
            max_output: self.max_output,
        }
    }
}

/// A server somewhere.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {url: \"https://example.com/hook\", tokenFile: ./hook.token}"
)]
#[schemars(rename = "Remote", extend("required" = ["url"]))]
pub(super) struct RawRemote {
    /// Where it is.
    pub(super) url: Field<Text>,
    /// A file with the token that is sent as `Authorization: Bearer`, relative to this file.
    pub(super) token_file: Field<Text>,
    /// A file of certificates to trust beside the system's, relative to this file.
    pub(super) ca_file: Field<Text>,
}

/// What a full queue does with one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawOverflow {
    DropOldest,
    Reject,
}

/// How much a responder may do. All of them are above 0.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    default,
    deny_unknown_fields,
    expecting = "a mapping such as {maxConcurrentRuns: 5, runsPerHour: 30}"
)]
#[schemars(rename = "Limits")]
pub(super) struct RawLimits {
    /// Runs at once. Default: 5.
    #[schemars(range(min = 1))]
    pub(super) max_concurrent_runs: Field<u64>,
    /// Runs at once of one cluster. Default: 1.
    #[schemars(range(min = 1))]
    pub(super) max_per_cluster: Field<u64>,
    /// Alerts of one cluster that wait. Default: 10.
    #[schemars(range(min = 1))]
    pub(super) queue_size: Field<u64>,
    /// Alerts of all clusters that wait. Default: 100.
    #[schemars(range(min = 1))]
    pub(super) global_queue_size: Field<u64>,
    /// What a full queue does with one more: the oldest gives way, or the new one is refused. Default: drop-oldest.
    pub(super) overflow: Field<RawOverflow>,
    /// How long an alert may wait for its turn. Default: the responder's `--max-queue-age`, 10m.
    pub(super) max_queue_age: Field<LongSpan>,
    /// For so long an alert of the same cluster, fault type, kind, namespace and name is a duplicate. Default: 5m.
    pub(super) duplicate_window: Field<LongSpan>,
    /// So many failed runs in a row stop all runs for a while. Default: 3.
    #[schemars(range(min = 1))]
    pub(super) failure_breaker: Field<u64>,
    /// After so long one run is tried again. Default: 60s.
    pub(super) failure_breaker_reset: Field<LongSpan>,
    /// Runs an hour, of one cluster. Default: no limit.
    #[schemars(range(min = 1))]
    pub(super) runs_per_hour: Field<u64>,
    /// Cost units an hour, of one cluster, as programs report them. Default: no limit.
    pub(super) cost_per_hour: Field<f64>,
    /// How long workspaces are kept. Default: 7d.
    pub(super) keep_workspaces: Field<LongSpan>,
    /// The most that all workspaces take; the oldest go first. Default: 1Gi.
    pub(super) workspace_bytes: Field<Size>,
}
