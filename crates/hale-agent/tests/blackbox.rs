//! `/probe` beside the real blackbox_exporter: the same file of modules, the same targets, the same Prometheus.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hale_agent::{
    blackbox::{Blackbox, Modules},
    health::{self, Answers},
};

const AMPLE: Duration = Duration::from_secs(60);

/// A program that ends with its guard.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}, which `cargo xtask test` installs: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free over TCP and UDP now.
fn free() -> SocketAddr {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < AMPLE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Answers requests over whatever it is given.
fn answer(stream: &mut (impl Read + Write)) {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => return,
        }
    }
    let status = if read.starts_with(b"GET /bad") { "503 No" } else { "200 OK" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
}

fn serve(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let treat = Arc::new(treat);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let treat = Arc::clone(&treat);
            std::thread::spawn(move || treat(stream));
        }
    });
    address
}

/// An HTTPS server, its certificate in a file.
fn https(ca: &Path) -> SocketAddr {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2099, 3, 4);
    let certificate = params.self_signed(&key).unwrap();
    fs::write(ca, certificate.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        answer(&mut stream);
        stream.conn.send_close_notify();
        let _ = stream.flush();
    })
}

fn dnsmasq(address: SocketAddr) -> Running {
    let running = Running::start(
        Command::new("dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file="])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/example.com/"])
            .args(["--address=/www.example.com/192.0.2.80"])
            .arg(format!("--port={}", address.port())),
    );
    until("dnsmasq", || TcpStream::connect(address).ok());
    running
}

/// The body of an answer of 200, and its status.
fn get(address: SocketAddr, path: &str, more: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n{more}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

/// Samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|it| !it.starts_with('#') && !it.is_empty());
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(key, value)| (key.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The two, side by side, and what they ask.
struct Pair {
    hale: SocketAddr,
    theirs: SocketAddr,
    /// Module and target.
    targets: Vec<(&'static str, String)>,
    dir: tempfile::TempDir,
    _running: Vec<Running>,
}

impl Pair {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ca, file) = (dir.path().join("ca.pem"), dir.path().join("modules.yml"));
        let secure = https(&ca);
        let plain = serve(|mut stream| answer(&mut stream));
        let named = free();
        let modules = format!(
            "modules:\n  http_2xx:\n    prober: http\n    timeout: 5s\n    http:\n      preferred_ip_protocol: ip4\n      \
             tls_config: {{ca_file: '{ca}'}}\n  tcp_connect: {{prober: tcp, timeout: 5s}}\n  tcp_tls:\n    prober: tcp\n    \
             tcp: {{tls: true, tls_config: {{ca_file: '{ca}'}}}}\n  dns_www:\n    prober: dns\n    timeout: 5s\n    \
             dns: {{query_name: www.example.com, query_type: A, preferred_ip_protocol: ip4}}\n",
            ca = ca.display()
        );
        fs::write(&file, modules).unwrap();
        let theirs = free();
        let running = vec![
            dnsmasq(named),
            Running::start(
                Command::new("prometheus-blackbox-exporter")
                    .arg(format!("--config.file={}", file.display()))
                    .arg(format!("--web.listen-address={theirs}")),
            ),
        ];
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hale = listener.local_addr().unwrap();
        let blackbox = Some(Arc::new(Blackbox::new(Modules::read(&file).unwrap())));
        let fine: health::Check = Arc::new(|| Ok(()));
        let metrics: health::Scrape = Arc::new(|_| Err("none".into()));
        tokio::spawn(health::serve(
            listener,
            Answers { well: "ok", alive: Arc::clone(&fine), ready: fine, metrics, blackbox },
        ));
        let targets = vec![
            ("http_2xx", format!("http://{plain}/")),
            ("http_2xx", format!("http://{plain}/bad")),
            ("http_2xx", format!("https://{secure}/")),
            ("http_2xx", format!("http://{}/", free())),
            ("tcp_connect", plain.to_string()),
            ("tcp_connect", free().to_string()),
            ("tcp_tls", secure.to_string()),
            ("dns_www", named.to_string()),
        ];
        until("blackbox_exporter", || TcpStream::connect(theirs).ok());
        Self { hale, theirs, targets, dir, _running: running }
    }

    fn probe(&self, at: SocketAddr, module: &str, target: &str) -> BTreeMap<String, f64> {
        let target = target.replace(':', "%3A").replace('/', "%2F");
        let (status, body) = get(at, &format!("/probe?module={module}&target={target}"), "").unwrap();
        assert!(status.contains(" 200"), "{status}: {body}");
        samples(&body)
    }
}

/// What is the same whoever asks; of the rest (durations) only the name is.
fn is_fixed(key: &str) -> bool {
    !key.contains("_seconds") || key.contains("timestamp")
}

/// Samples that only one of them has: theirs has none for what could not be asked, hale tells the reason.
fn is_own(key: &str) -> bool {
    key.starts_with("hale_")
        // Names in another order, and with spaces between their parts.
        || key.starts_with("probe_ssl_last_chain_info")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_targets_are_told_in_the_same_words() {
    let pair = Pair::start().await;
    for (module, target) in &pair.targets {
        let ours = pair.probe(pair.hale, module, target);
        let theirs = pair.probe(pair.theirs, module, target);
        let missing: Vec<&String> =
            theirs.keys().filter(|it| !is_own(it) && !ours.contains_key(*it)).collect();
        assert!(missing.is_empty(), "{module} {target}: without {missing:?}\n{ours:#?}\n{theirs:#?}");
        for (key, value) in &theirs {
            if is_fixed(key) && !is_own(key) {
                assert_eq!(ours[key], *value, "{module} {target}: {key}\n{ours:#?}\n{theirs:#?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_prometheus_configuration_serves_for_both() {
    let pair = Pair::start().await;
    let mut config = "global: {scrape_interval: 2s, scrape_timeout: 2s}\nscrape_configs:\n".to_owned();
    for (nth, (module, target)) in pair.targets.iter().enumerate() {
        for (name, at) in [("hale", pair.hale), ("theirs", pair.theirs)] {
            // As the manual of blackbox_exporter has it; only the address differs.
            config += &format!(
                "- job_name: {name}-{nth}\n  metrics_path: /probe\n  params: {{module: [{module}]}}\n  \
                 static_configs: [{{targets: ['{target}'], labels: {{asked: '{nth}', by: {name}}}}}]\n  \
                 relabel_configs:\n  - {{source_labels: [__address__], target_label: __param_target}}\n  \
                 - {{source_labels: [__param_target], target_label: instance}}\n  \
                 - {{target_label: __address__, replacement: '{at}'}}\n"
            );
        }
    }
    let file = pair.dir.path().join("prometheus.yml");
    fs::write(&file, config).unwrap();
    let at = free();
    let _prometheus = Running::start(
        Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", pair.dir.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={at}")),
    );
    let query = |query: &str| {
        let query = query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace(' ', "%20");
        let (_, body) = get(at, &format!("/api/v1/query?query={query}"), "")?;
        let answer: serde_json::Value = serde_json::from_str(&body).ok()?;
        let found = answer["data"]["result"].as_array()?;
        let number = |it: &serde_json::Value| it["value"][1].as_str()?.parse::<f64>().ok();
        Some(
            found
                .iter()
                .filter_map(|it| Some((it["metric"]["by"].as_str()?.to_owned(), number(it)?)))
                .collect(),
        )
    };
    for (nth, (module, target)) in pair.targets.iter().enumerate() {
        let both: BTreeMap<String, f64> = until(&format!("{module} {target}"), || {
            query(&format!("probe_success{{asked=\"{nth}\"}}")).filter(|it: &BTreeMap<_, _>| it.len() == 2)
        });
        assert_eq!(both["hale"], both["theirs"], "{module} {target}");
    }
    let certificates: BTreeMap<String, f64> = until("the certificate's date", || {
        query("probe_ssl_earliest_cert_expiry{asked=\"2\"}").filter(|it: &BTreeMap<_, _>| it.len() == 2)
    });
    assert_eq!(certificates["hale"], certificates["theirs"]);
    assert_eq!(certificates["hale"], 4_076_265_600.0);
}
