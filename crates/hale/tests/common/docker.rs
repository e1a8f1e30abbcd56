//! A container engine of a test's own, with the images of the examples.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

use std::{path::PathBuf, process::Command};

use hale_testkit::DockerEngine;
use serde_json::Value;

/// Docker Engine with nothing in it but the images of the examples.
pub(crate) struct Docker(DockerEngine);

impl Docker {
    /// Starts one, and builds the images by the examples' own script.
    pub(crate) fn start() -> Self {
        let engine = DockerEngine::start();
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/containers/build.sh");
        let done = Command::new(script).env("DOCKER_HOST", engine.host()).output().unwrap();
        assert!(done.status.success(), "build.sh: {}", String::from_utf8_lossy(&done.stderr));
        Self(engine)
    }

    /// `unix:///…`, as hale and Docker are told.
    pub(crate) fn host(&self) -> String {
        self.0.host()
    }

    /// Runs `docker` against it; what it says.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        self.0.must(args)
    }

    /// Every container there is, running or not.
    pub(crate) fn all(&self) -> Vec<String> {
        self.docker(&["ps", "--all", "--quiet", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// When a container was last started.
    pub(crate) fn started_at(&self, container: &str) -> String {
        self.docker(&["inspect", "--format", "{{.State.StartedAt}}", container])
    }

    /// Runs a command inside the container of a replica.
    pub(crate) fn inside(&self, replica: &Value, line: &str) -> String {
        self.docker(&["exec", container_of(replica), "/bin/sh", "-c", line])
    }

    /// Lets it hang: it takes connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.0.freeze();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.0.thaw();
    }

    /// Where replicas on this machine are reached, without being on loopback: the address of its bridge.
    pub(crate) fn gateway(&self) -> String {
        self.docker(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "bridge"])
    }

    /// `kill -9` of the daemon and its containerd; containers run on (live restore).
    pub(crate) fn kill(&mut self) {
        self.0.kill9();
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self) {
        self.0.restart();
    }
}

/// The container of a replica, as the status tells it.
pub(crate) fn container_of(replica: &Value) -> &str {
    replica["container_id"].as_str().unwrap_or_else(|| panic!("no container in {replica:#}"))
}
