//! Programs that the chores need and a machine with Rust and a C compiler does not have.
//!
//! Nothing is installed that is there already, and what is installed is said. Programs come from Debian's own packages;
//! elsewhere the message names the program, so that it can be installed by hand. Python's come from PyPI, into the
//! target folder.

pub(crate) mod helm;
pub(crate) mod mcp;

use std::{fs, path::PathBuf, process::Command};

use crate::{Outcome, run};

/// A program and the Debian package that brings it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// What is run.
    pub(crate) program: &'static str,
    /// What brings it.
    pub(crate) package: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// Where it is kept, in a folder for each version, when that is not on the PATH.
    pub(crate) versions: Option<&'static str>,
}

impl Tool {
    fn is_there(&self) -> bool {
        let folders = self.versions.and_then(|it| fs::read_dir(it).ok()).into_iter().flatten().flatten();
        let in_folder = folders.map(|it| it.path().join("bin").join(self.program)).any(|it| it.is_file());
        in_folder || run::on_path(self.program).is_some()
    }
}

/// What `cargo xtask test` needs.
pub(crate) const FOR_TESTS: &[Tool] = &[
    Tool { program: "promtool", package: "prometheus", purpose: "checks the metrics", versions: None },
    Tool { program: "prometheus", package: "prometheus", purpose: "scrapes the metrics", versions: None },
    Tool {
        program: "prometheus-blackbox-exporter",
        package: "prometheus-blackbox-exporter",
        purpose: "probes what hale probes, to compare",
        versions: None,
    },
    Tool {
        program: "dnsmasq",
        package: "dnsmasq-base",
        purpose: "answers questions for names",
        versions: None,
    },
    Tool {
        program: "initdb",
        package: "postgresql",
        purpose: "makes the databases of several servers",
        versions: Some("/usr/lib/postgresql"),
    },
    Tool { program: "dockerd", package: "docker.io", purpose: "runs containers", versions: None },
    Tool { program: "busybox", package: "busybox-static", purpose: "is what is in images", versions: None },
    Tool { program: "ip", package: "iproute2", purpose: "makes the containers' network", versions: None },
    Tool {
        program: "podman",
        package: "podman runc netavark aardvark-dns",
        purpose: "runs containers in another way",
        versions: None,
    },
];

/// Python's, for `cargo xtask test`: from PyPI, in an environment of their own in the target folder. What they need in
/// turn is the newest that suits them.
const PYTHON: &str = "openapi-spec-validator==0.9.0 schemathesis==4.32.5 kubernetes-validate==1.37.0";

/// Brings the Python programs that the tests run, unless they are there.
pub(crate) fn python() -> Outcome {
    from_pypi("python", PYTHON).map(|_| ())
}

/// Brings packages from PyPI, unless they are there, into an environment of their own in a folder of the target folder.
/// Returns the environment.
pub(crate) fn from_pypi(folder: &str, packages: &str) -> Result<PathBuf, String> {
    let folder = run::target().join(folder);
    let (venv, stamp) = (folder.join("venv"), folder.join("installed"));
    if fs::read_to_string(&stamp).is_ok_and(|it| it == packages) {
        return Ok(venv);
    }
    let interpreter = run::on_path("python3").is_some()
        && run::read(run::program("python3").args(["-c", "import ensurepip, venv"])).is_ok();
    if !interpreter {
        install(&["python3-venv"])?;
    }
    println!("installing {packages} from PyPI into {}", venv.display());
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    run::step(run::program("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = run::program(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages.split(' '));
    run::step(&mut pip)?;
    fs::write(&stamp, packages).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(venv)
}

/// Installs those of `tools` that are missing.
pub(crate) fn ensure(tools: &[Tool]) -> Outcome {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for tool in &missing {
        println!("`{}` is missing ({}); installing package {}", tool.program, tool.purpose, tool.package);
    }
    if run::on_path("apt-get").is_none() {
        return Err(format!(
            "no apt-get here to install them with; install {} by hand, and have {} on the PATH",
            list(missing.iter().map(|tool| tool.package)),
            list(missing.iter().map(|tool| tool.program)),
        ));
    }
    let mut packages: Vec<&str> = missing.iter().flat_map(|tool| tool.package.split(' ')).collect();
    packages.dedup();
    install(&packages)?;
    match missing.iter().find(|tool| !tool.is_there()) {
        None => Ok(()),
        Some(tool) => Err(format!("package {} did not bring `{}`", tool.package, tool.program)),
    }
}

/// Installs Debian's packages.
fn install(packages: &[&str]) -> Outcome {
    if run::on_path("apt-get").is_none() {
        return Err(format!("no apt-get here; install {} by hand", packages.join(", ")));
    }
    run::step(apt().arg("update"))?;
    run::step(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt() -> Command {
    let root = run::read(run::program("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0");
    let mut command = if root { run::program("apt-get") } else { run::program("sudo") };
    if !root {
        command.args(["--non-interactive", "apt-get"]);
    }
    // At run level 1 Debian's scripts install a daemon without starting it.
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=300", "-o", "APT::Acquire::Retries=3"]);
    command
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
