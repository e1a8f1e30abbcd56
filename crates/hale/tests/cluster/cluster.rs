//! A cluster of this test's own: servers, agents and gateways as a user starts them.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    api,
    events::EventReader,
    part::{Part, end_marked},
    process::{free_port, hale, wait_for},
    sampler::Sampler,
};

/// From beat to beat, for tests: a node is lost after three.
pub(crate) const BEAT: &str = "500ms";

/// One `hale server`.
pub(crate) struct Server {
    pub(crate) part: Part,
    pub(crate) address: SocketAddr,
}

/// Everything of one test. What it starts ends with it.
pub(crate) struct Cluster {
    dir: Arc<TempDir>,
    pub(crate) servers: BTreeMap<String, Server>,
    pub(crate) agents: BTreeMap<String, Part>,
    pub(crate) gateways: BTreeMap<String, Part>,
    /// What every server is started with beside.
    pub(crate) server_args: Vec<String>,
}

impl Cluster {
    /// No process yet.
    pub(crate) fn empty() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            servers: BTreeMap::new(),
            agents: BTreeMap::new(),
            gateways: BTreeMap::new(),
            server_args: Vec::new(),
        }
    }

    /// One server on an embedded database, and agents of these names.
    pub(crate) fn start(nodes: &[&str]) -> Self {
        let mut cluster = Self::empty();
        cluster.server("s1");
        for node in nodes {
            cluster.agent(node);
        }
        cluster.wait_nodes_ready(nodes);
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path that every process of this test carries.
    pub(crate) fn mark(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// Starts a server, or starts it again on the address it had.
    pub(crate) fn server(&mut self, name: &str) {
        let before = self.servers.remove(name).map(|server| server.address);
        let listen = before.map_or_else(|| "127.0.0.1:0".to_owned(), |address| address.to_string());
        self.server_at(name, &listen);
    }

    /// Starts a server that listens there.
    pub(crate) fn server_at(&mut self, name: &str, listen: &str) {
        let mut command = hale();
        command
            .args(["server", "--listen", listen, "--heartbeat-interval", BEAT, "--log", "info", "--data-dir"])
            .arg(self.path(name))
            .args(&self.server_args)
            .env("HALE_TEST_MARK", self.mark());
        let mut part = Part::start(name, command);
        let line = part.wait_line("listening address=http");
        let url = line.split("://").nth(1).unwrap();
        let end = url.find(|it: char| !it.is_ascii_digit() && it != '.' && it != ':').unwrap_or(url.len());
        let address = url[..end].parse().unwrap_or_else(|error| panic!("{error}: {line}"));
        self.servers.insert(name.to_owned(), Server { part, address });
    }

    /// The address of a server.
    pub(crate) fn address(&self, server: &str) -> SocketAddr {
        self.servers[server].address
    }

    /// The URLs of all servers, those that are down too.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<String> = self.servers.values().map(|it| format!("http://{}", it.address)).collect();
        urls.join(",")
    }

    /// The file with the administrator's token that the first server made.
    pub(crate) fn admin(&self) -> PathBuf {
        let name = self.servers.keys().next().unwrap();
        let file = self.path(name).join("admin.token");
        wait_for(|| if file.exists() { Ok(()) } else { Err(None) })
            .unwrap_or_else(|_| panic!("no {}", file.display()));
        file
    }

    pub(crate) fn admin_token(&self) -> String {
        fs::read_to_string(self.admin()).unwrap().trim().to_owned()
    }

    /// Makes a token and returns the file it is in.
    pub(crate) fn token(&self, role: &str, node: Option<&str>) -> PathBuf {
        let file = self.path(&format!("{role}-{}.token", node.unwrap_or("any")));
        if !file.exists() {
            let mut args = vec!["token", "create", "--role", role, "-o", "json"];
            args.extend(node.iter().flat_map(|node| ["--node", node]));
            let made: Value = serde_json::from_str(&self.ok(&args)).unwrap();
            fs::write(&file, made["token"].as_str().unwrap()).unwrap();
        }
        file
    }

    /// Starts an agent, or starts it again.
    pub(crate) fn agent(&mut self, node: &str) {
        let servers = self.urls();
        self.agent_at(node, &servers, |agent| agent, &[]);
    }

    /// Starts an agent that reaches its servers there, in a place that `place` makes of it, with more arguments.
    pub(crate) fn agent_at(
        &mut self,
        node: &str,
        servers: &str,
        place: impl Fn(Command) -> Command,
        more: &[&str],
    ) {
        drop(self.agents.remove(node));
        let mut command = hale();
        command
            .args(["agent", "--server", servers, "--name", node, "--log", "info"])
            .args(["--health-listen", "127.0.0.1:0", "--token-file"])
            .arg(self.token("agent", Some(node)))
            .arg("--data-dir")
            .arg(self.path(&format!("node-{node}")))
            .args(more)
            .env("HALE_TEST_MARK", self.mark());
        self.agents.insert(node.to_owned(), Part::start(node, place(command)));
    }

    /// Starts a gateway; where its health is told.
    pub(crate) fn gateway(&mut self, name: &str) -> SocketAddr {
        let health = format!("127.0.0.1:{}", free_port());
        let mut command = hale();
        command
            .args(["gateway", "--server", &self.urls(), "--name", name, "--health-listen", &health])
            .arg("--token-file")
            .arg(self.token("gateway", None))
            .env("HALE_TEST_MARK", self.mark());
        self.gateways.insert(name.to_owned(), Part::start(name, command));
        health.parse().unwrap()
    }

    /// Runs a command against the first server that runs.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        self.cli_as(&self.admin(), args)
    }

    /// The same with another token.
    pub(crate) fn cli_as(&self, token_file: &Path, args: &[&str]) -> Output {
        self.cli_at(self.servers.keys().next().unwrap(), token_file, args)
    }

    /// Runs a command against one of the servers.
    pub(crate) fn cli_at(&self, server: &str, token_file: &Path, args: &[&str]) -> Output {
        hale()
            .args(args)
            .args(["--server", &format!("http://{}", self.address(server)), "--token-file"])
            .arg(token_file)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The same for a command that must work; its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        assert!(
            output.status.success(),
            "hale {args:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.output()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Everything that all processes have printed.
    pub(crate) fn output(&self) -> String {
        let servers = self.servers.values().map(|server| server.part.output());
        let others = self.agents.values().chain(self.gateways.values()).map(Part::output);
        servers.chain(others).collect()
    }

    /// Writes a file of workloads and applies it.
    pub(crate) fn apply(&self, yaml: &str) {
        let file = self.path("applied.yaml");
        fs::write(&file, yaml).unwrap();
        self.ok(&["apply", file.to_str().unwrap()]);
    }

    /// Asks the first server; panics when it does not answer 200.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.get_from(self.servers.keys().next().unwrap(), path)
    }

    pub(crate) fn get_from(&self, server: &str, path: &str) -> Value {
        let answer = api::ask(self.address(server), &self.admin_token(), "GET", path, None);
        let answer = answer.unwrap_or_else(|error| panic!("{server}{path}: {error}\n{}", self.output()));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// All replicas, by name; two of one name when it was placed twice.
    pub(crate) fn replicas(&self) -> Vec<Value> {
        let status = self.get("/api/v1/status");
        let workloads = status["workloads"].as_array().unwrap();
        workloads.iter().flat_map(|it| it["replicas"].as_array().unwrap().clone()).collect()
    }

    pub(crate) fn replica(&self, name: &str) -> Value {
        let replicas = self.replicas();
        let found = replicas.iter().find(|it| it["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {replicas:#?}\n{}", self.output())).clone()
    }

    /// Waits until what is looked at is as wanted, and returns it.
    pub(crate) fn wait(
        &self,
        what: &str,
        look: impl Fn() -> Value,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        wait_for(|| {
            last = look();
            if wanted(&last) { Ok(last.clone()) } else { Err(None) }
        })
        .unwrap_or_else(|_| panic!("not seen: {what}; last seen:\n{last:#}\n{}", self.output()))
    }

    pub(crate) fn wait_replica(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let look = || self.replicas().into_iter().find(|it| it["name"] == name).unwrap_or_default();
        self.wait(&format!("{name}: {what}"), look, |it| !it.is_null() && wanted(it))
    }

    /// Waits until a workload has so many ready replicas.
    pub(crate) fn wait_ready(&self, workload: &str, count: usize) -> Value {
        let look = || self.get("/api/v1/status");
        self.wait(&format!("{count} ready of {workload}"), look, |status| {
            let workloads = status["workloads"].as_array().unwrap();
            workloads.iter().any(|it| it["name"] == workload && it["ready"] == count)
        })
    }

    pub(crate) fn node(&self, name: &str) -> Value {
        let nodes = self.get("/api/v1/nodes");
        let nodes =
            nodes.as_array().or_else(|| nodes["items"].as_array()).or_else(|| nodes["nodes"].as_array());
        let nodes = nodes.cloned().unwrap_or_default();
        nodes.into_iter().find(|it| it["name"] == name).unwrap_or_default()
    }

    pub(crate) fn wait_node(&self, name: &str, condition: &str) -> Value {
        self.wait(
            &format!("node {name} is {condition}"),
            || self.node(name),
            |it| it["condition"] == condition,
        )
    }

    pub(crate) fn wait_nodes_ready(&self, nodes: &[&str]) {
        for node in nodes {
            self.wait_node(node, "ready");
        }
    }

    /// The endpoints of a service, as the API tells them.
    pub(crate) fn endpoints(&self, service: &str) -> Value {
        self.get(&format!("/api/v1/services/{service}/endpoints"))
    }

    /// Follows all events, from whichever server answers.
    pub(crate) fn follow_events(&self) -> EventReader {
        EventReader::start(self.servers.values().map(|it| it.address).collect(), self.admin_token())
    }

    pub(crate) fn sample(&self, service: &str) -> Sampler {
        Sampler::start(self.servers.values().map(|it| it.address).collect(), self.admin_token(), service)
    }

    /// What was seen of the stream as it happened is, event by event, what is recorded: nothing twice, nothing out of
    /// order, nothing that was shown and then lost.
    pub(crate) fn assert_stream_is_record(&self, reader: &EventReader) {
        let recorded: Vec<(u64, Value)> = self
            .ok(&["events", "-o", "json"])
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|event| (event["id"].as_str().unwrap().parse().unwrap(), event))
            .collect();
        let last = recorded.last().map_or(0, |(id, _)| *id);
        wait_for(
            || if reader.events().last().is_some_and(|(id, _)| *id >= last) { Ok(()) } else { Err(None) },
        )
        .unwrap_or_else(|_| panic!("the reader never saw event {last}"));
        let seen: Vec<(u64, Value)> = reader.events().into_iter().filter(|(id, _)| *id <= last).collect();
        assert_eq!(reader.wrong(), Vec::<String>::new());
        let only = |some: &[(u64, Value)], others: &[(u64, Value)]| -> Vec<String> {
            some.iter()
                .filter(|it| !others.contains(it))
                .map(|(id, event)| format!("{id}: {event}"))
                .collect()
        };
        assert_eq!(only(&recorded, &seen), Vec::<String>::new(), "recorded, and never seen in the stream");
        assert_eq!(only(&seen, &recorded), Vec::<String>::new(), "seen in the stream, and lost");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.output());
        }
        self.gateways.clear();
        self.agents.clear();
        self.servers.clear();
        end_marked(self.mark());
    }
}
