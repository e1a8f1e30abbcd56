//! The hale that is tried: a server and an agent on this machine, and the command line that asks them.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Interrupted;
use crate::run;

/// How long a part may take to start, and to end.
const PART: Duration = Duration::from_secs(30);

/// A program in the background, with its output in a file. Ended when it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts it, in a process group of its own: an interrupt at the terminal is this program's to see to.
    fn start(command: &mut Command, log: PathBuf) -> Result<Self, String> {
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let both = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdout(file).stderr(both).process_group(0);
        let child =
            command.spawn().map_err(|error| format!("cannot run `{}`: {error}", run::shown(command)))?;
        Ok(Self { child, log })
    }

    /// What it said, once a line has `word` in it.
    fn wait_for(&mut self, word: &str, interrupted: &Interrupted) -> Result<String, String> {
        let until = Instant::now() + PART;
        loop {
            interrupted.check()?;
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(line) = said.lines().find(|line| line.contains(word)) {
                return Ok(line.to_owned());
            }
            self.check()?;
            if Instant::now() >= until {
                return Err(format!("no {word:?} in {} after {PART:?}:\n{said}", self.log.display()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether it still runs.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                Err(format!(
                    "it ended with {status}; {} says:\n{}",
                    self.log.display(),
                    last_lines(&said, 20)
                ))
            }
            Err(error) => Err(format!("cannot look at process {}: {error}", self.child.id())),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let until = Instant::now() + PART;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= until {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A server and an agent of the cluster, both of this trial alone.
#[derive(Debug)]
pub(super) struct Hale {
    program: PathBuf,
    data_dir: PathBuf,
    /// The agent ends before the server: fields are dropped in this order.
    agent: Option<Part>,
    server: Part,
    url: String,
}

impl Hale {
    /// Starts the server on a port that the system picks.
    pub(super) fn start(program: &Path, folder: &Path, interrupted: &Interrupted) -> Result<Self, String> {
        let data_dir = folder.join("server");
        let mut command = run::program(program);
        command
            .args(["server", "--listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
            .arg(&data_dir);
        let mut server = Part::start(&mut command, folder.join("server.log"))?;
        let line = server.wait_for("http://127.0.0.1:", interrupted)?;
        let (_, address) = line.split_once("http://").unwrap_or_default();
        let address: String =
            address.chars().take_while(|it| it.is_ascii_digit() || matches!(it, '.' | ':')).collect();
        let url = format!("http://{address}");
        Ok(Self { program: program.to_owned(), data_dir, agent: None, server, url })
    }

    /// Starts the agent of the cluster that `kubeconfig` names.
    pub(super) fn start_agent(
        &mut self,
        name: &str,
        kubeconfig: &Path,
        namespace: Option<&str>,
    ) -> Result<(), String> {
        let token = self.json(&["token", "create", "--role", "agent", "--node", name])?;
        let token = token["token"].as_str().ok_or("a token without its secret")?.to_owned();
        let folder = self.data_dir.parent().unwrap_or(&self.data_dir).to_owned();
        let file = folder.join("agent.token");
        fs::write(&file, token).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = run::program(&self.program);
        command.env("KUBECONFIG", kubeconfig).args(["kube-agent", "--server", &self.url, "--name", name]);
        command.args(["--health-listen", "127.0.0.1:0", "--token-file"]).arg(&file);
        if let Some(namespace) = namespace {
            command.args(["--namespace", namespace]);
        }
        self.agent = Some(Part::start(&mut command, folder.join("agent.log"))?);
        Ok(())
    }

    /// Whether both still run.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.server.check().map_err(|error| format!("hale server: {error}"))?;
        self.agent
            .as_mut()
            .map_or(Ok(()), |it| it.check().map_err(|error| format!("hale kube-agent: {error}")))
    }

    /// Runs a command of hale's against the server.
    pub(super) fn ask(&self, words: &[&str]) -> Result<String, String> {
        let mut command = run::program(&self.program);
        command.args(words).arg("--data-dir").arg(&self.data_dir).process_group(0);
        let output = command.output().map_err(|error| format!("cannot run hale: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`hale {}` ended with {}: {}", words.join(" "), output.status, said.trim()));
        }
        String::from_utf8(output.stdout).map_err(|_| format!("`hale {}` printed no UTF-8", words.join(" ")))
    }

    /// The same with its answer as JSON.
    pub(super) fn json(&self, words: &[&str]) -> Result<Value, String> {
        let text = self.ask(&[words, &["--output", "json"]].concat())?;
        serde_json::from_str(&text)
            .map_err(|error| format!("`hale {}` printed no JSON: {error}", words.join(" ")))
    }
}

/// `kubectl` with the kubeconfig of the trial.
#[derive(Debug)]
pub(super) struct Kubectl {
    /// Holds the one cluster that is meant, and what is needed to reach it.
    pub(super) kubeconfig: PathBuf,
}

impl Kubectl {
    /// Takes the current context, or the one named, out of the user's kubeconfig, so that all parts mean one cluster
    /// whatever is changed there meanwhile.
    pub(super) fn new(context: Option<&str>, folder: &Path) -> Result<Self, String> {
        if run::on_path("kubectl").is_none() {
            return Err(
                "`kubectl` is not on the PATH; it comes with your cluster, or as package kubectl".into()
            );
        }
        let mut command = run::program("kubectl");
        command.args(["config", "view", "--minify", "--flatten", "--raw"]);
        command.args(context.map(|it| format!("--context={it}")));
        let output = command.output().map_err(|error| format!("cannot run kubectl: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!(
                "there is no cluster to try hale against: kubectl says: {}; point KUBECONFIG at a kubeconfig whose current \
                 context is a cluster that may be used for tests, or name one with --context",
                said.trim()
            ));
        }
        let kubeconfig = folder.join("kubeconfig");
        private(&kubeconfig, &output.stdout)?;
        let this = Self { kubeconfig };
        this.run(&["version", "--request-timeout=20s", "--output=json"])
            .map_err(|error| format!("the cluster of the kubeconfig does not answer: {error}"))?;
        Ok(this)
    }

    /// Runs it; what it printed.
    pub(super) fn run(&self, words: &[&str]) -> Result<String, String> {
        let mut command = run::program("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(words).process_group(0);
        let output = command.output().map_err(|error| format!("cannot run kubectl: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "`kubectl {}` ended with {}: {}",
                words.join(" "),
                output.status,
                said.trim()
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Writes a file that only its owner can read.
fn private(path: &Path, bytes: &[u8]) -> Result<(), String> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};

    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut it| it.write_all(bytes)).map_err(|error| format!("{}: {error}", path.display()))
}
