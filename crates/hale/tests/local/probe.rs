//! `hale probe` (C5): what it asks, what it says, and how it ends.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, UdpSocket},
    process::Stdio,
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{hale, run};

/// A server whose first answers are good and whose others are not.
fn good_for(answers: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one").to_string();
    std::thread::spawn(move || {
        for (nth, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let status = if nth < answers { "200 OK" } else { "503 Not Now" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn many_checks_are_summed_up_and_one_that_fails_decides_the_exit_status() {
    let url = format!("http://{}/", good_for(3));
    let done = run(hale().args(["probe", &url, "-c", "4", "--interval", "1ms", "-o", "json"]));
    assert_eq!(done.code, 1);
    assert!(done.err.contains("1 of 4 checks failed"), "{}", done.err);
    let lines: Vec<Value> = done.out.lines().map(|it| serde_json::from_str(it).expect("JSON")).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[3]["reason"], "status_mismatch");
    let sum = &lines[4]["summary"];
    assert_eq!((&sum["checks"], &sum["failed"], &sum["loss_percent"]), (&4.into(), &1.into(), &25.0.into()));
    let ms = |name: &str| sum[name].as_f64().expect("a number");
    assert!(
        ms("min_ms") <= ms("p50_ms") && ms("p50_ms") <= ms("p95_ms") && ms("p95_ms") <= ms("max_ms"),
        "{sum}"
    );
    let done =
        run(hale().args(["probe", &format!("http://{}/", good_for(9)), "-c", "2", "--interval", "1ms"]));
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert!(
        done.out.lines().last().is_some_and(|it| it.starts_with("2 checks, 0 failed  min")),
        "{}",
        done.out
    );
}

#[test]
fn what_speaks_no_tls_is_named_so() {
    let address = good_for(1);
    let done = run(hale().args(["probe", &format!("https://{address}/")]));
    assert_eq!(done.code, 1);
    assert!(done.out.contains("what answers does not speak TLS"), "{}", done.out);
}

#[test]
fn an_interrupt_ends_the_run_with_its_summary() {
    let url = format!("http://{}/", good_for(usize::MAX));
    let program = assert_cmd::cargo::cargo_bin("hale");
    let mut child = std::process::Command::new(program)
        .args(["probe", &url, "--count", "0", "--interval", "20ms"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("it was piped"));
    let mut line = String::new();
    for _ in 0..3 {
        line.clear();
        out.read_line(&mut line).expect("a line");
        assert!(line.starts_with("ok"), "{line}");
    }
    let pid = Pid::from_raw(child.id().try_into().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::INT).expect("it takes signals");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "what had ended was good");
    assert!(rest.lines().last().is_some_and(|it| it.contains("checks, 0 failed  min")), "{rest}");
}

#[test]
fn an_interrupt_before_anything_was_found_is_a_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("it has one"));
    let program = assert_cmd::cargo::cargo_bin("hale");
    let mut child = std::process::Command::new(program)
        .args(["probe", &url, "--timeout", "1m"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It asks, so it hears signals.
    let asked = listener.accept().expect("it asks");
    let pid = Pid::from_raw(child.id().try_into().expect("a pid")).expect("a pid");
    kill_process(pid, Signal::INT).expect("it takes signals");
    let mut said = String::new();
    child.stderr.take().expect("it was piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(said.contains("interrupted before a check was done"), "{said}");
    drop(asked);
}

#[test]
fn a_name_server_is_asked() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let server = socket.local_addr().expect("it has one");
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((_, from)) = socket.recv_from(&mut bytes) {
            // The question as it came, without what else stood in it, and one address for it.
            let end = 12 + bytes[12..].iter().position(|it| *it == 0).expect("a name ends") + 5;
            let mut answer = bytes[..end].to_vec();
            answer[2] |= 0x80;
            answer[4..12].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            let _ = socket.send_to(&answer, from);
        }
    });
    let done = run(hale().args(["probe", &format!("dns://{server}/www.example.com")]));
    assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    assert!(done.out.starts_with("ok") && done.out.contains("192.0.2.7"), "{}", done.out);
    let done = run(hale().args([
        "probe",
        &format!("dns://{server}/www.example.com"),
        "--type",
        "aaaa",
        "-o",
        "json",
    ]));
    let told: Value = serde_json::from_str(&done.out).expect("one object");
    assert_eq!((done.code, &told["reason"]), (1, &"answer_mismatch".into()));
}

#[test]
fn a_certificate_is_looked_at() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a good certificate");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it has one").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            let _ = connection.complete_io(&mut stream);
        }
    });
    let folder = tempfile::tempdir().expect("a directory");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).expect("it can be written");
    let url = format!("tls://localhost:{port}");
    let done = run(hale().args(["probe", &url, "--insecure"]));
    assert!(done.code == 0 && done.out.contains("certificate until 4096-01-01"), "{}{}", done.out, done.err);
    let done = run(hale().args(["probe", &url, "-o", "json"]).arg("--ca-file").arg(&ca));
    let told: Value = serde_json::from_str(&done.out).expect("one object");
    assert_eq!((done.code, &told["ok"]), (0, &true.into()), "{told}");
    assert_eq!(told["certificate"]["names"], serde_json::json!(["localhost"]));
    let args = ["probe", &url, "--server-name", "other.example"];
    let done = run(hale().args(args).arg("--ca-file").arg(&ca));
    assert_eq!(done.code, 1);
    assert!(done.out.starts_with("failed  certificate_name"), "{}", done.out);
}
