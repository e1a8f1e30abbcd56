//! A server killed in the middle of a delivery (S22, O7): each event arrives, one of them perhaps twice, under its id.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::{
    cluster::Cluster,
    flows::web,
    process::{free_port, kill, pid_of, wait_until},
};

/// Receives deliveries: keeps them unanswered until it is told to answer.
struct Receiver {
    port: u16,
    answers: Arc<AtomicBool>,
    asked: Arc<Mutex<usize>>,
    taken: Arc<Mutex<Vec<u64>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answers, asked) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<usize>>::default());
        let taken = Arc::<Mutex<Vec<u64>>>::default();
        let (may, count, into) = (Arc::clone(&answers), Arc::clone(&asked), Arc::clone(&taken));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (may, count, into) = (Arc::clone(&may), Arc::clone(&count), Arc::clone(&into));
                thread::spawn(move || drop(receive(stream, &may, &count, &into)));
            }
        });
        Self { port, answers, asked, taken }
    }
}

fn receive(
    mut stream: std::net::TcpStream,
    may: &AtomicBool,
    count: &Mutex<usize>,
    taken: &Mutex<Vec<u64>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.trim_end().to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if lower.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        *count.lock().unwrap() += 1;
        while !may.load(Ordering::Relaxed) {
            thread::park_timeout(std::time::Duration::from_millis(10));
        }
        let event: Value = serde_json::from_slice(&body).unwrap();
        let id = event["id"].as_str().unwrap().parse().unwrap();
        // Answered first: what arrives after its sender was killed counts as not taken.
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        taken.lock().unwrap().push(id);
    }
}

#[test]
fn a_server_killed_in_a_delivery_delivers_again_and_misses_none() {
    let mut cluster = Cluster::start(&["a"]);
    let receiver = Receiver::start();
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    cluster.ok(&["webhook", "create", "pager", "--url", &url, "--allow-private", "--type", "exited"]);
    cluster.apply(&web(&cluster, 1, free_port()));
    for round in 0..4 {
        let before = cluster.wait_replica("web-0", "ready", |it| it["ready"] == true);
        kill("KILL", pid_of(&before));
        cluster.wait_replica("web-0", "ready anew", |it| it["ready"] == true && it["pid"] != before["pid"]);
        if round == 1 {
            wait_until("a delivery is on its way", || *receiver.asked.lock().unwrap() > 0);
            cluster.servers.get_mut("s1").unwrap().part.kill();
            receiver.answers.store(true, Ordering::Relaxed);
            cluster.server("s1");
        }
    }
    let recorded = || -> BTreeSet<u64> {
        let events = cluster.ok(&["events", "--type", "exited", "-o", "json"]);
        let id = |line: &str| {
            serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().parse().unwrap()
        };
        events.lines().map(id).collect()
    };
    assert_eq!(recorded().len(), 4);
    wait_until("all have arrived", || {
        let taken: BTreeSet<u64> = receiver.taken.lock().unwrap().iter().copied().collect();
        taken == recorded()
    });
}
