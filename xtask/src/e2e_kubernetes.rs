//! `cargo xtask e2e-kubernetes`: the whole against a real cluster (K16).
//!
//! It needs a kubeconfig and `kubectl`, nothing else: server and agent run on this machine, the agent with that kubeconfig.
//! Everything it makes in the cluster is in a namespace of its own, which is deleted at the end, whatever the end is.

mod checks;
mod processes;
mod workloads;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use self::{
    checks::Trial,
    processes::{Hale, Kubectl},
    workloads::{HEALTHY, WORKLOADS},
};
use crate::{Outcome, run};

/// Options of `cargo xtask e2e-kubernetes`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The context of the kubeconfig to use [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The image that workloads run: anything with a shell and `sleep`.
    #[arg(long, value_name = "IMAGE", default_value = "docker.io/library/busybox:1.36")]
    image: String,
    /// A hale to try [default: built from this source].
    #[arg(long, value_name = "FILE")]
    hale: Option<PathBuf>,
    /// The longest that each workload may take to get to its status, in seconds. Pulling its image is part of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Lets the agent watch the whole cluster instead of the namespace of the trial alone.
    #[arg(long)]
    cluster_wide: bool,
    /// Leaves namespace and logs as they are at the end, to look at.
    #[arg(long)]
    keep: bool,
}

/// All manifests of the trial, as one text of several documents, so that they can be held against schemas without a
/// cluster.
pub(crate) fn manifests() -> String {
    let all: Vec<String> = WORKLOADS.iter().map(|it| it.manifest("hale-e2e", "busybox")).collect();
    all.join("---\n")
}

/// Whether somebody wants this to end.
#[derive(Debug, Clone, Default)]
struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// Listens for SIGINT and SIGTERM, so that both lead to cleaning up.
    fn listen() -> Result<Self, String> {
        let this = Self::default();
        let told = Arc::clone(&this.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot listen for signals: {error}"))?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(mut term) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                else {
                    return;
                };
                loop {
                    tokio::select! {
                        _ = tokio::signal::ctrl_c() => {}
                        _ = term.recv() => {}
                    }
                    eprintln!("interrupted: cleaning up");
                    told.store(true, Ordering::Relaxed);
                }
            });
        });
        Ok(this)
    }

    fn check(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
    }
}

/// Runs the trial, and cleans up.
pub(crate) fn run(args: &Args) -> Outcome {
    let id = format!("{:x}", stamp() & 0xff_ffff_ffff);
    let folder = run::target().join("e2e-kubernetes").join(&id);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let ended = on_cluster(args, &id, &folder);
    if ended.is_ok() && !args.keep {
        let _ = fs::remove_dir_all(&folder);
    } else {
        // It holds the key to the cluster.
        let _ = fs::remove_file(folder.join("kubeconfig"));
        // Nothing has run where it is empty.
        if fs::remove_dir(&folder).is_err() {
            println!("logs of server and agent are in {}", folder.display());
        }
    }
    ended
}

/// Microseconds since 1970: good enough for a name of one's own.
fn stamp() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() ^ (u128::from(std::process::id()) << 20)
}

fn on_cluster(args: &Args, id: &str, folder: &Path) -> Outcome {
    let kubectl = Kubectl::new(args.context.as_deref(), folder)?;
    let hale = built(args)?;
    let interrupted = Interrupted::listen()?;
    let namespace = format!("hale-e2e-{id}");
    println!("namespace {namespace} in {}", kubectl.run(&["config", "current-context"])?.trim());
    kubectl.run(&["create", "namespace", &namespace])?;
    let tried = attempt(args, &kubectl, &hale, &namespace, folder, &interrupted);
    let cleaned = if args.keep {
        println!("left as it is: `kubectl delete namespace {namespace}` removes it");
        Ok(())
    } else {
        println!("deleting namespace {namespace}");
        let delete =
            ["delete", "namespace", &namespace, "--ignore-not-found", "--wait=true", "--timeout=180s"];
        kubectl.run(&delete).map(drop)
    };
    match (tried, cleaned) {
        (Ok(()), cleaned) => cleaned,
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(more)) => Err(format!("{error}\nand cleaning up failed: {more}")),
    }
}

/// The hale to try.
fn built(args: &Args) -> Result<PathBuf, String> {
    match &args.hale {
        Some(path) => path.canonicalize().map_err(|error| format!("{}: {error}", path.display())),
        None => {
            run::step(run::cargo().args(["build", "--locked", "--package", "hale"]))?;
            Ok(run::target().join("debug/hale"))
        }
    }
}

fn attempt(
    args: &Args,
    kubectl: &Kubectl,
    program: &Path,
    namespace: &str,
    folder: &Path,
    interrupted: &Interrupted,
) -> Outcome {
    let mut hale = Hale::start(program, folder, interrupted)?;
    let only = (!args.cluster_wide).then_some(namespace);
    hale.start_agent(namespace, &kubectl.kubeconfig, only)?;
    let limit = Duration::from_secs(args.timeout);
    let mut trial = Trial { hale, kubectl, namespace, folder, interrupted, limit, begun: Instant::now() };
    trial.until("the agent has registered", |it| it.hale.json(&["get", "agents", namespace]).map(drop))?;
    trial.hale.ask(&["cluster", "set", namespace, "--match-label", &format!("e2e={namespace}")])?;
    for it in WORKLOADS {
        trial.push(&it, &it.manifest(namespace, &args.image))?;
    }
    let mut wrong = Vec::new();
    for it in WORKLOADS {
        let seen = trial.status(&it).and_then(|()| trial.diagnostics(&it));
        interrupted.check()?;
        wrong.extend(seen.err().map(|error| format!("{}: {error}", it.name)));
    }
    wrong.extend(trial.events().err());
    wrong.extend(heals(&mut trial, &args.image).err());
    wrong.extend(ends(&mut trial).err());
    interrupted.check()?;
    if wrong.is_empty() {
        println!("all is as it should be, after {:.0?}", trial.begun.elapsed());
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

/// The next deployment object of a failing stack is a healthy one: the stack recovers, and nothing of before sticks.
fn heals(trial: &mut Trial<'_>, image: &str) -> Outcome {
    let crashing = &WORKLOADS[1];
    let mended = HEALTHY.manifest_as(crashing.name, trial.namespace, image);
    trial.push(crashing, &mended)?;
    let wanted = workloads::Workload { name: crashing.name, ..*HEALTHY };
    trial.status(&wanted).map_err(|error| format!("{} does not recover: {error}", crashing.name))
}

/// A deletion marker takes away what was applied.
fn ends(trial: &mut Trial<'_>) -> Outcome {
    let stack = trial.stack(HEALTHY.name);
    trial.hale.ask(&["stack", "push", &stack, "--delete"])?;
    trial.until("what a deletion marker ends is gone", |it| {
        let words =
            ["get", "deployment", HEALTHY.name, "-n", it.namespace, "--ignore-not-found", "-o", "name"];
        let left = it.kubectl.run(&words)?;
        if left.trim().is_empty() { Ok(()) } else { Err(format!("{} is still there", left.trim())) }
    })
}
