//! What can be typed: every command, its options, their environment variables and defaults.

mod admin;
mod alone;
mod kube;
mod runs;
mod stack;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hale_api::events::type_matches;
use hale_model::{ProbeKind, Status, event::EventData};

use crate::{remote::webhook::WebhookArgs, telemetry::TelemetryArgs};
pub(crate) use admin::*;
pub(crate) use alone::*;
pub(crate) use kube::*;
pub(crate) use runs::*;
pub(crate) use stack::*;

/// Keeps what you run healthy, and shows it.
#[derive(Debug, Parser)]
#[command(
    name = "hale",
    version,
    max_term_width = 110,
    propagate_version = false,
    disable_version_flag = false,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 invalid file, 4 not found, 5 not allowed, \
                  6 can't reach hale."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands there are.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs what the files declare, and keeps it healthy, until it is interrupted.
    Up(UpArgs),
    /// Coordinates nodes: places workloads, keeps what is wanted and what happened, serves the API.
    Server(crate::server::ServeArgs),
    /// Runs what a server places on this machine, and tells it how that is.
    Agent(Box<crate::agent::AgentArgs>),
    /// Takes requests to the ready endpoints of services, as a server tells of them.
    Gateway(GatewayArgs),
    /// Watches a Kubernetes cluster, sees to what its stacks hold, and tells a server how that is.
    KubeAgent(Box<KubeAgentArgs>),
    /// Takes alerts from streams, and runs your programs on those that deserve it, within limits.
    Responder(Box<crate::responder::ResponderArgs>),
    /// Shows how everything is, or one thing.
    Status(StatusArgs),
    /// Tells why a replica, workload or target is as it is: outcome by outcome, up to what was done.
    Explain(ExplainArgs),
    /// Lists what happened, oldest first.
    Events(EventsArgs),
    /// Shows what a replica printed.
    Logs(LogsArgs),
    /// Restarts a replica, or all of a workload one after the other; also brings a failed one back.
    Restart(ActArgs),
    /// Stops a replica or workload until it is started again.
    Stop(ActArgs),
    /// Starts what was stopped or has failed.
    Start(ActArgs),
    /// Holds back whatever hale would do to something, for a while.
    Pause(PauseArgs),
    /// Ends a pause.
    Resume(ResumeArgs),
    /// Lists what a responder has run and is about to, the newest first (the one list that is not by name), shows one,
    /// and says yes or no to one that waits for a person.
    Runs(Box<RunsArgs>),
    /// Delivers events to addresses of yours.
    Webhook(WebhookArgs),
    /// Declares what the files declare on a server: created, updated, or unchanged.
    Apply(ApplyArgs),
    /// Lists workloads, replicas, targets, nodes, services, stacks, deployments and others, or shows one of them.
    Get(GetArgs),
    /// Changes how many replicas of a workload are wanted.
    Scale(ScaleArgs),
    /// Takes a workload, target, node, token, webhook, stack, deployment object or agent away.
    Delete(DeleteArgs),
    /// Makes, lists and ends the tokens that a server is asked with.
    Token(TokenArgs),
    /// Lists the nodes of a cluster, keeps replicas off them, or forgets one.
    Node(NodeArgs),
    /// Makes and lists stacks, and gives them new manifests, for Kubernetes clusters.
    Stack(StackArgs),
    /// Lists the agents of Kubernetes clusters, and says which stacks they are given.
    Cluster(ClusterArgs),
    /// Collects what explains a state: pods, events, logs; of a replica its probes, logs, exits and resource use.
    Diagnose(DiagnoseArgs),
    /// Says whether workload files are right, without running anything.
    Check(CheckArgs),
    /// Prints how long each probe takes to detect, to gate and to restart, before anything runs.
    Plan(PlanArgs),
    /// Makes workload files of what you have: compose files, manifests, unit files and others.
    Import(ImportArgs),
    /// Does one check now, with its timings.
    Probe(Box<crate::local::probe::args::ProbeArgs>),
    /// Judges Kubernetes objects offline, as `kubectl get -o json` prints them: how each workload is, and why.
    Assess(AssessArgs),
    /// Prints the JSON Schema of workload files, for editors.
    Schema,
    /// Prints the OpenAPI document of the REST API.
    Openapi,
    /// Prints the completions of a shell.
    Completions(CompletionsArgs),
    /// Prints the version.
    Version,
    /// A small web service to try hale on: /healthz, /readyz, and switches to break each (see /help).
    DemoWeb(DemoWebArgs),
    /// The parent of all replicas; started by hale itself.
    #[command(hide = true)]
    Keeper(KeeperArgs),
}

/// Where state is kept.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataDirArgs {
    /// Where state, logs, socket and token are kept [default: hale in the user's state directory].
    #[arg(long, env = "HALE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl DataDirArgs {
    /// The directory asked for, or the user's own: `$XDG_STATE_HOME/hale`, else `~/.local/state/hale`.
    pub(crate) fn path(&self) -> PathBuf {
        let state =
            || std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        self.data_dir.clone().unwrap_or_else(|| {
            state().or_else(home).unwrap_or_else(|| PathBuf::from("/var/lib")).join("hale")
        })
    }
}

/// Which hale is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The data directory of a hale on this machine.
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// The address of a hale elsewhere, instead of a local one.
    #[arg(long, env = "HALE_SERVER", value_name = "URL", conflicts_with = "data_dir")]
    pub(crate) server: Option<String>,
    /// A file that holds the token for it; else $HALE_TOKEN is used.
    #[arg(long, env = "HALE_TOKEN_FILE", value_name = "FILE", requires = "server")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// How TLS is spoken to a server.
#[derive(Debug, Clone, Args)]
pub(crate) struct TlsArgs {
    /// Authorities that the server's certificate may be of, PEM, in place of the system's.
    #[arg(long, env = "HALE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// A certificate to show to it, PEM.
    #[arg(long, env = "HALE_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, env = "HALE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
}

impl TlsArgs {
    /// What is trusted and shown.
    pub(crate) fn client(&self) -> hale_api::ClientTls {
        let identity = self.client_cert.clone().zip(self.client_key.clone());
        hale_api::ClientTls { ca_file: self.ca_file.clone(), identity }
    }
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// JSON, with stable field names.
    Json,
    /// The same as YAML.
    Yaml,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// How to print.
    #[arg(short, long, env = "HALE_OUTPUT", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `hale up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Workload files.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) data_dir: DataDirArgs,
    /// Where API, status page and metrics are served; port 0 picks one.
    #[arg(long, env = "HALE_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7450")]
    pub(crate) listen: SocketAddr,
    /// The name of this node.
    #[arg(long, env = "HALE_NODE", value_name = "NAME", default_value = "local")]
    pub(crate) node: String,
    /// A user that workloads may ask to run as; may be given more than once [default: any].
    #[arg(long, env = "HALE_ALLOW_USER", value_name = "USER", value_delimiter = ',')]
    pub(crate) allow_user: Vec<String>,
    /// Refuses workloads that would run as root.
    #[arg(long, env = "HALE_NO_ROOT")]
    pub(crate) no_root: bool,
    /// Where the container engine (Docker, Podman) is asked: `unix:///PATH` [default: `DOCKER_HOST`, else the usual
    /// sockets]. No engine is looked for before a workload wants a container.
    #[arg(long, env = "HALE_CONTAINER_HOST", value_name = "HOST")]
    pub(crate) container_host: Option<String>,
    #[command(flatten)]
    pub(crate) scrape: crate::agent::ScrapeArgs,
    #[command(flatten)]
    pub(crate) observer: crate::agent::ObserverArgs,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
    /// How changes are printed: lines for people, or one CloudEvent a line.
    #[arg(short, long, env = "HALE_OUTPUT", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// `hale gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayArgs {
    /// Servers that tell of endpoints; one is asked at a time, and another when that is gone.
    #[arg(long, env = "HALE_SERVER", required = true, value_name = "URL", value_delimiter = ',')]
    pub(crate) server: Vec<String>,
    /// A file that holds the gateway's token.
    #[arg(long, env = "HALE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// The gateway's name, for logs and metrics of the server [default: the name of this machine].
    #[arg(long, env = "HALE_GATEWAY_NAME", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A file with the certificates that the servers' are signed by [default: those of the system].
    #[arg(long, env = "HALE_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// A service to serve; may be given more than once [default: all that listen].
    #[arg(long, env = "HALE_SERVICE", value_name = "NAME", value_delimiter = ',')]
    pub(crate) service: Vec<String>,
    /// Where /healthz, /readyz and /metrics are served; port 0 picks one [default: nowhere].
    #[arg(long, env = "HALE_HEALTH_LISTEN", value_name = "ADDR")]
    pub(crate) health_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) telemetry: TelemetryArgs,
}

/// The keeper.
#[derive(Debug, Args)]
pub(crate) struct KeeperArgs {
    /// What hale tells it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// `hale status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A workload, replica, target, stack or deployment object; all of hale's own when absent.
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Shows it again at each change, until interrupted.
    #[arg(short, long, env = "HALE_WATCH")]
    pub(crate) watch: bool,
    /// Waits until the status is this one; exits 1 if it never comes.
    #[arg(long, env = "HALE_WAIT", value_name = "STATUS", conflicts_with = "watch", value_parser = parse_status)]
    pub(crate) wait: Option<Status>,
    /// The longest to wait.
    #[arg(long, env = "HALE_TIMEOUT", value_name = "DURATION", requires = "wait", default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A replica, workload or target.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only those about this replica, workload or target.
    #[arg(value_name = "NAME")]
    pub(crate) subject: Option<String>,
    /// Goes on with what happens from now on, until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only those after this id.
    #[arg(long, value_name = "ID")]
    pub(crate) after: Option<u64>,
    /// Only those of this type: `dev.hale.replica.restarted`, or its end: `restarted`.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_event_type)]
    pub(crate) kind: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// A replica, or a workload for all of its replicas.
    pub(crate) name: String,
    /// Goes on with what is printed from now on, until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last so many lines [default: all that is kept].
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale restart`, `hale stop`, `hale start`.
#[derive(Debug, Args)]
pub(crate) struct ActArgs {
    /// A workload or replica.
    pub(crate) name: String,
    /// Why; kept on record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Only asks, and does not wait until it is done.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// A workload, replica or target.
    pub(crate) name: String,
    /// How long; until `hale resume` when absent.
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_lasting)]
    pub(crate) lasting: Option<Duration>,
    /// Why; kept on record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Only this probe: startup, liveness or readiness.
    #[arg(long, value_name = "PROBE")]
    pub(crate) probe: Option<ProbeKind>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `hale resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// A workload, replica or target.
    pub(crate) name: String,
    /// Only this probe: startup, liveness or readiness.
    #[arg(long, value_name = "PROBE")]
    pub(crate) probe: Option<ProbeKind>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// `500ms`, `10s`, `5m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed = hale_model::file::parse_duration(text);
    parsed.ok_or_else(|| "expected a duration such as 500ms, 10s, 5m or 1h".to_owned())
}

/// As [`parse_duration`], and not nothing: a pause of no time would be taken for one without an end.
fn parse_lasting(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("expected more than nothing".to_owned()),
        lasting => Ok(lasting),
    }
}

/// A type of event, or several with commas between.
pub(crate) fn parse_event_type(words: &str) -> Result<String, String> {
    let known = |word: &str| EventData::TYPES.iter().any(|kind| type_matches(word, kind));
    match words.split(',').find(|word| !known(word.trim())) {
        None => Ok(words.to_owned()),
        Some(_) => {
            let types: Vec<&str> =
                EventData::TYPES.iter().filter_map(|it| it.strip_prefix("dev.hale.")).collect();
            Err(format!("expected one of {}", types.join(", ")))
        }
    }
}

fn parse_status(word: &str) -> Result<Status, String> {
    word.parse().map_err(|_| "expected healthy, degraded, failing or unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pause_lasts() {
        assert!(parse_lasting("0s").is_err());
        assert!(Cli::try_parse_from(["hale", "pause", "web", "--for", "0s"]).is_err());
        assert_eq!(parse_lasting("1s"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "5", "s", "-1s", "1e9s", "5 m", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
