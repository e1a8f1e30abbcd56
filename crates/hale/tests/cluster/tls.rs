//! Everything over TLS: agent, gateway and command line trust one authority, and a server takes a new certificate while
//! it runs.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::{
    part::{Part, end_marked},
    process::{free_port, hale, wait_until},
};

/// An authority, with its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(file: PathBuf) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A certificate for this machine and its key, in place of those there.
    fn issue(&self, dir: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(dir.join("tls.pem"), cert.pem()).unwrap();
        fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    }
}

/// What asks a server: where it is, by what it is trusted, and with which token.
struct Asker<'a> {
    url: &'a str,
    ca: &'a Path,
    token: &'a Path,
}

impl Asker<'_> {
    fn add_to(&self, command: &mut Command) {
        command
            .args(["--server", self.url])
            .arg("--ca-file")
            .arg(self.ca)
            .arg("--token-file")
            .arg(self.token);
    }

    /// Standard output, or standard error of what has failed.
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let mut command = hale();
        command.args(args);
        self.add_to(&mut command);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn token_for(&self, args: &[&str], file: PathBuf) -> PathBuf {
        let made = self.run(&[&["token", "create", "-o", "json"], args].concat()).unwrap();
        let made: Value = serde_json::from_str(&made).unwrap();
        fs::write(&file, made["token"].as_str().unwrap()).unwrap();
        file
    }
}

/// Processes that carry this path end with the test.
struct Marked<'a>(&'a Path);

impl Marked<'_> {
    fn start(&self, name: &str, mut command: Command) -> Part {
        command.env("HALE_TEST_MARK", self.0);
        Part::start(name, command)
    }
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        end_marked(self.0.to_str().unwrap());
    }
}

#[test]
fn agent_gateway_and_command_line_speak_tls_and_a_new_certificate_is_taken_on_sighup() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let marked = Marked(dir.path());
    let authority = Authority::new(at("ca.pem"));
    authority.issue(dir.path());
    let mut command = hale();
    command.args(["server", "--listen", "127.0.0.1:0", "--heartbeat-interval", "500ms", "--log", "info"]);
    command.arg("--tls-cert").arg(at("tls.pem")).arg("--tls-key").arg(at("tls.key"));
    command.arg("--data-dir").arg(at("server"));
    let mut server = marked.start("server", command);
    let line = server.wait_line("listening address=https://");
    let address = line.split("https://").nth(1).unwrap();
    let address: String =
        address.chars().take_while(|it| it.is_ascii_digit() || ".:".contains(*it)).collect();
    let url = format!("https://{address}");
    let admin = at("server").join("admin.token");
    let asker = Asker { url: &url, ca: &authority.file, token: &admin };

    let agent_token = asker.token_for(&["--role", "agent", "--node", "a"], at("a.token"));
    let mut command = hale();
    command.args(["agent", "--name", "a", "--log", "info", "--health-listen", "127.0.0.1:0"]);
    Asker { token: &agent_token, ..asker }.add_to(&mut command);
    command.arg("--data-dir").arg(at("agent"));
    let _agent = marked.start("agent", command);
    let gateway_token = asker.token_for(&["--role", "gateway"], at("g.token"));
    let mut command = hale();
    command.args(["gateway", "--name", "edge", "--health-listen", "127.0.0.1:0"]);
    Asker { token: &gateway_token, ..asker }.add_to(&mut command);
    let _gateway = marked.start("gateway", command);

    let port = free_port();
    let file = at("web.yaml");
    let web = format!(
        "kind: Workload\nname: web\nprocess: {{command: [\"{}\", demo-web], env: {{HALE_TEST_MARK: \"{}\"}}}}\n\
         ports: [{{name: http}}]\nreadinessProbe: {{httpGet: {{path: /readyz, port: http}}, periodSeconds: 0.2}}\n\
         service: {{name: web, port: http, listen: \"127.0.0.1:{port}\"}}\n",
        hale().get_program().display(),
        dir.path().display(),
    );
    fs::write(&file, web).unwrap();
    asker.run(&["apply", file.to_str().unwrap()]).unwrap();
    asker.run(&["status", "web", "--wait", "healthy", "--timeout", "30s"]).unwrap();
    wait_until("the gateway listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    let other = Authority::new(at("other.pem"));
    let stranger = Asker { ca: &other.file, ..asker };
    let refused = stranger.run(&["status"]).unwrap_err();
    assert!(refused.contains("--ca-file"), "{refused}");
    other.issue(dir.path());
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    wait_until("the new certificate is shown", || stranger.run(&["status"]).is_ok());
    assert!(asker.run(&["status"]).is_err(), "the old one is not shown any more");
}
