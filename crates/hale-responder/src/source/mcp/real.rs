//! Against servers that nobody here wrote: one in Go that speaks for a cluster, and one in TypeScript that shows all of the
//! protocol. `cargo xtask test` brings them.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hale_model::spec::{McpSource, Remote, Source, SourceKind};
use rmcp::{ServiceError, model::Tool};
use serde_json::{Map, Value};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Context, ErrorClass, Link, Message, SourceSettings, start},
    session::{Session, call},
    unasked::Note,
};

const LONG: Duration = Duration::from_secs(90);

/// Where the servers are, if they could be had.
fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().unwrap();
    let folder = program.ancestors().nth(3).unwrap().join("mcp");
    if folder.join("installed").is_file() {
        return Some(folder);
    }
    eprintln!("skipped: no servers in {}; `cargo xtask test` brings them from npm", folder.display());
    None
}

struct Server {
    child: Child,
    url: String,
}

impl Server {
    async fn start(mut command: Command, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let server = Self { child, url: format!("http://127.0.0.1:{port}/mcp") };
        let answers = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(LONG, answers).await.expect("the server listens");
        server
    }

    fn remote(&self) -> Remote {
        Remote { url: self.url.clone(), token_file: None, ca_file: None }
    }

    fn kill(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that is free now: these programs can't tell which they took.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "nowhere",
"clusters": [{"name": "nowhere", "cluster": {"server": "http://127.0.0.1:9"}}], "users": [{"name": "u", "user": {}}],
"contexts": [{"name": "nowhere", "context": {"cluster": "nowhere", "user": "u"}}]}"#;

async fn kubernetes(folder: &Path, dir: &Path) -> Option<Server> {
    let modules = std::fs::read_dir(folder.join("node_modules")).unwrap().flatten();
    let mut programs = modules.filter_map(|it| {
        let name = it.file_name().into_string().ok()?;
        let program = it.path().join("bin").join(&name);
        (name.starts_with("kubernetes-mcp-server-linux") && program.is_file()).then_some(program)
    });
    let Some(program) = programs.next() else {
        eprintln!("skipped: kubernetes-mcp-server has no program for this machine");
        return None;
    };
    let (kubeconfig, port) = (dir.join("kubeconfig"), free_port());
    std::fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let mut command = Command::new(program);
    command
        .args(["--bind-address", "127.0.0.1", "--port", &port.to_string(), "--kubeconfig"])
        .arg(kubeconfig);
    Some(Server::start(command, port).await)
}

/// Puts it on loopback: it would listen on all addresses.
const LOOPBACK: &str = "const net = require('net'); const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, {port: Number(port), host: '127.0.0.1'}, ...rest.filter(it => typeof it === 'function'));
};";

async fn everything(folder: &Path, dir: &Path) -> Option<Server> {
    let own = folder.join("node");
    let node = if own.exists() { own } else { PathBuf::from("node") };
    if Command::new(&node).arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: no node to run the server with");
        return None;
    }
    let (loopback, port) = (dir.join("loopback.cjs"), free_port());
    std::fs::write(&loopback, LOOPBACK).unwrap();
    let mut command = Command::new(node);
    command.arg("--require").arg(loopback);
    command.arg(folder.join("node_modules/@modelcontextprotocol/server-everything/dist/index.js"));
    command.arg("streamableHttp").env("PORT", port.to_string());
    Some(Server::start(command, port).await)
}

async fn set_level(session: &Session) -> Result<(), ServiceError> {
    #[expect(deprecated, reason = "R2: alerts are log messages of these servers")]
    session.peer().set_level(super::SetLevelRequestParams::new(super::LoggingLevel::Info)).await
}

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|it| it.name.as_ref()).collect()
}

#[tokio::test]
async fn the_kubernetes_server_in_go_is_spoken_with() {
    let Some(folder) = folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = kubernetes(&folder, dir.path()).await else { return };
    let session = Session::open(&server.remote()).await.unwrap();
    assert_eq!(session.server().0, "kubernetes-mcp-server");
    assert!(session.logs() && session.has_tools());
    set_level(&session).await.unwrap();
    let tools = session.peer().list_all_tools().await.unwrap();
    assert!(names(&tools).contains(&"pods_list"), "{:?}", names(&tools));
    let config = call(session.peer(), "configuration_view", Map::new()).await.unwrap().unwrap();
    assert!(config.to_string().contains("nowhere"), "{config}");
    // There is no cluster: a tool that failed is told from one that is not there.
    call(session.peer(), "pods_list", Map::new()).await.unwrap().unwrap_err();
    call(session.peer(), "no_such_tool", Map::new()).await.unwrap_err();
}

#[tokio::test]
async fn a_source_stands_on_the_kubernetes_server_and_notices_when_it_is_killed() {
    let Some(folder) = folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(mut server) = kubernetes(&folder, dir.path()).await else { return };
    let kind = SourceKind::Mcp(McpSource {
        remote: server.remote(),
        mode: "faults".into(),
        namespaces: vec![],
        filters: Map::new(),
    });
    let source = Source { name: "kind".into(), labels: [].into(), kubeconfig: None, kind };
    let (out, mut messages) = mpsc::channel(8);
    let end = CancellationToken::new();
    let context = Context { settings: SourceSettings::default(), ..Context::default() };
    let task = start(&source, context, out, end.clone());
    let mut next = async || match timeout(LONG, messages.recv()).await.unwrap().unwrap() {
        Message::Link(_, link) => link,
        Message::Heard(heard) => panic!("{heard:?}"),
    };
    assert_eq!(next().await, Link::Up { downtime: None });
    server.kill();
    let link = next().await;
    assert!(matches!(link, Link::Down { class: ErrorClass::Network, .. }), "{link:?}");
    end.cancel();
    timeout(LONG, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_the_server_in_typescript_tells_is_heard() {
    let Some(folder) = folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = everything(&folder, dir.path()).await else { return };
    let mut session = Session::open(&server.remote()).await.unwrap();
    assert!(session.server().0.contains("everything"), "{:?}", session.server());
    set_level(&session).await.unwrap();
    let tools = session.peer().list_all_tools().await.unwrap();
    assert!(names(&tools).contains(&"toggle-simulated-logging"), "{:?}", names(&tools));
    let begun = call(session.peer(), "toggle-simulated-logging", Map::new()).await.unwrap().unwrap();
    assert!(begun.to_string().contains("logging"), "{begun}");
    let Note::Log { level, data, .. } = timeout(LONG, session.next()).await.unwrap().unwrap() else {
        panic!("too large")
    };
    assert_ne!(level, "debug");
    assert!(matches!(&data, Value::String(text) if text.to_lowercase().contains(&level)), "{level}: {data}");
}
