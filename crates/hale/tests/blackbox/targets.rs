//! Targets as a user sees them: a failure told once over `kill -9`, lists that change, windows in which nothing is told.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Up, kill, wait_until};

/// A web server that answers each path as it is told to.
#[derive(Clone)]
struct Web {
    at: SocketAddr,
    answers: Arc<Mutex<HashMap<String, (u16, String)>>>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Self { at: listener.local_addr().unwrap(), answers: Arc::default() };
        let answers = Arc::clone(&web.answers);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                thread::spawn(move || drop(answer(stream, &answers)));
            }
        });
        web
    }

    fn say(&self, path: &str, status: u16, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, body.to_owned()));
    }
}

fn answer(
    mut stream: std::net::TcpStream,
    answers: &Mutex<HashMap<String, (u16, String)>>,
) -> std::io::Result<()> {
    let mut request = [0; 4096];
    let count = stream.read(&mut request)?;
    let text = String::from_utf8_lossy(&request[..count]);
    let path = text.split_whitespace().nth(1).unwrap_or("/").to_owned();
    let (status, body) = answers.lock().unwrap().get(&path).cloned().unwrap_or((200, "ok".to_owned()));
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn target(up: &Up, name: &str) -> Option<Value> {
    up.status()["targets"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned()
}

fn wait_target(up: &Up, name: &str, status: &str) -> Value {
    let of = |all: &Value| all["targets"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    let all =
        up.wait_status(&format!("{name} {status}"), |all| of(all).is_some_and(|it| it["status"] == status));
    of(&all).unwrap()
}

fn names(up: &Up) -> Vec<String> {
    let status = up.status();
    status["targets"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_failure_and_its_end_are_told_once_each_over_kills_at_any_moment() {
    let web = Web::start();
    let yaml = format!(
        "kind: Target\nname: billing\nhttpGet: {{url: \"http://{}/up\"}}\nperiodSeconds: 0.05\n",
        web.at
    );
    let mut up = Up::start(&yaml);
    wait_target(&up, "billing", "healthy");
    web.say("/up", 503, "down");
    // Killed right around the moment of the third failure, a little later each time, until it has been told.
    for nth in 0_u64..6 {
        thread::sleep(Duration::from_millis(40 * nth));
        kill("KILL", up.pid());
        let dir = up.dir();
        drop(up);
        up = Up::start_in(dir, &yaml);
    }
    let failed = up.wait_events("target.probe_failed", "billing", 1);
    assert_eq!(failed[0]["data"]["last_status"], 503);
    wait_target(&up, "billing", "failing");
    for _ in 0..2 {
        kill("KILL", up.pid());
        let dir = up.dir();
        drop(up);
        up = Up::start_in(dir, &yaml);
        let down = wait_target(&up, "billing", "failing");
        assert!(down["consecutive_failures"].as_u64().is_some());
        // Long enough for the threshold to be reached anew.
        up.wait_status("failures are counted on", |all| {
            all["targets"][0]["consecutive_failures"].as_u64().unwrap_or(0) >= 6
        });
    }
    assert_eq!(up.events_of("target.probe_failed", "billing").len(), 1);
    web.say("/up", 200, "ok");
    let recovered = up.wait_events("target.probe_recovered", "billing", 1);
    assert!(recovered[0]["data"]["prior_failure_count"].as_u64().unwrap() >= 3);
    assert!(recovered[0]["data"]["down_for"].as_f64().unwrap() > 0.1);
    kill("KILL", up.pid());
    let dir = up.dir();
    drop(up);
    let up = Up::start_in(dir, &yaml);
    wait_target(&up, "billing", "healthy");
    assert_eq!(up.events_of("target.probe_failed", "billing").len(), 1);
    assert_eq!(up.events_of("target.probe_recovered", "billing").len(), 1);
}

#[test]
fn what_leaves_a_list_takes_its_counters_and_what_comes_back_begins_clean() {
    let (web, other) = (Web::start(), Web::start());
    let one =
        format!("[{{\"targets\": [\"{}\"], \"labels\": {{\"name\": \"one\", \"env\": \"prod\"}}}}]", web.at);
    let both = format!(
        "[{{\"targets\": [\"{}\"], \"labels\": {{\"name\": \"one\", \"env\": \"prod\"}}}}, \
        {{\"targets\": [\"http://{}/base/\"], \"labels\": {{\"name\": \"two\"}}}}]",
        web.at, other.at
    );
    let lists = Web::start();
    lists.say("/sd", 200, &both);
    let up = Up::start(&format!(
        "kind: Target\nname: shop\ntargetsFrom: {{url: \"http://{}/sd\", refreshSeconds: 0.1}}\n\
         httpGet: {{}}\nperiodSeconds: 0.05\n",
        lists.at
    ));
    wait_target(&up, "shop-one", "healthy");
    wait_target(&up, "shop-two", "healthy");
    let whole = wait_target(&up, "shop", "healthy");
    assert_eq!((&whole["members"], &whole["list"]), (&Value::from(2), &Value::Null));
    let member = target(&up, "shop-one").unwrap();
    assert_eq!((&member["list"], &member["labels"]["env"]), (&Value::from("shop"), &Value::from("prod")));

    // It fails, leaves, comes back and fails again: a new spell, and nothing of the old one.
    other.say("/base/healthz", 500, "no");
    up.wait_events("target.probe_failed", "shop-two", 1);
    lists.say("/sd", 200, &one);
    wait_until("two has left", || !names(&up).contains(&"shop-two".to_owned()));
    assert_eq!(up.wait_events("target.forgotten", "shop-two", 1).len(), 1);
    lists.say("/sd", 200, &both);
    let failed = up.wait_events("target.probe_failed", "shop-two", 2);
    assert_eq!(failed[1]["data"]["consecutive_failures"], 3);
    assert_eq!(failed[1]["data"]["list"], "shop");
    assert!(up.events_of("target.probe_recovered", "shop-two").is_empty());

    // A list that can't be read changes nothing but the word for it.
    lists.say("/sd", 500, "broken");
    let whole = up.wait_status("it says why", |all| {
        let shop = all["targets"].as_array().unwrap().iter().find(|it| it["name"] == "shop").unwrap().clone();
        shop["last_detail"].as_str().is_some_and(|it| it.contains("500"))
    });
    assert_eq!(whole["targets"].as_array().unwrap().len(), 3);
    lists.say("/sd", 200, "<html>no list</html>");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(names(&up), ["shop", "shop-one", "shop-two"]);

    // A changed address is another target: clean, and well.
    lists.say("/sd", 200, &both.replace("/base/", "/elsewhere"));
    wait_target(&up, "shop-two", "healthy");
    assert!(up.events_of("target.probe_recovered", "shop-two").is_empty());

    // An empty list is a list.
    lists.say("/sd", 200, "[]");
    wait_until("all have left", || names(&up) == ["shop"]);
    wait_target(&up, "shop", "unknown");
}

#[test]
fn a_target_that_leaves_and_comes_back_between_two_looks_goes_on() {
    let (web, dir) = (Web::start(), Arc::new(tempfile::tempdir().unwrap()));
    let list = dir.path().join("list.json");
    let entry = format!("[{{\"targets\": [\"{}\"]}}]", web.at);
    fs::write(&list, &entry).unwrap();
    let up = Up::start_in(
        Arc::clone(&dir),
        "kind: Target\nname: shop\ntargetsFrom: {file: list.json, refreshSeconds: 1}\n\
         httpGet: {}\nperiodSeconds: 0.05\n",
    );
    let name = format!("shop-127-0-0-1-{}", web.at.port());
    wait_target(&up, &name, "healthy");
    web.say("/healthz", 503, "no");
    up.wait_events("target.probe_failed", &name, 1);
    // Nobody looks meanwhile: for the list nothing has happened.
    fs::write(&list, "[]").unwrap();
    fs::write(&list, &entry).unwrap();
    fs::remove_file(&list).unwrap();
    up.wait_status("it says why", |all| {
        all["targets"][0]["last_detail"].as_str().is_some_and(|it| it.contains("list.json"))
    });
    assert_eq!(wait_target(&up, &name, "failing")["status"], "failing");
    fs::write(&list, &entry).unwrap();
    web.say("/healthz", 200, "ok");
    up.wait_events("target.probe_recovered", &name, 1);
    assert_eq!(up.events_of("target.probe_failed", &name).len(), 1);
    assert!(up.events_of("target.forgotten", &name).is_empty());
}

#[test]
fn all_running_replicas_of_a_service_are_targets_and_say_which_they_are() {
    let up = Up::start(
        "kind: Workload\nname: web\nreplicas: 2\n\
         process: {command: [python3, -m, http.server, --bind, 127.0.0.1, $(PORT)]}\n\
         ports: [{name: http}]\nservice: {port: http}\n\
         readinessProbe: {httpGet: {port: http, path: /never}, periodSeconds: 0.1}\n---\n\
         kind: Target\nname: peers\ntargetsFrom: {service: web}\nhttpGet: {path: /}\nperiodSeconds: 0.1\n",
    );
    for name in ["peers-web-0", "peers-web-1"] {
        let member = wait_target(&up, name, "healthy");
        assert_eq!(member["replica"], name.trim_start_matches("peers-"));
    }
    up.ok(&["stop", "web-1"]);
    wait_until("the stopped one has left", || !names(&up).contains(&"peers-web-1".to_owned()));
    assert!(names(&up).contains(&"peers-web-0".to_owned()));
}

#[test]
fn in_a_maintenance_window_nothing_is_told() {
    let web = Web::start();
    web.say("/", 500, "no");
    let up = Up::start(&format!(
        "kind: Target\nname: quiet\nhttpGet: {{url: \"http://{0}/\"}}\nperiodSeconds: 0.05\n\
         maintenance: {{from: \"00:00\", to: \"00:00\", timezone: Europe/Berlin, reason: moving}}\n---\n\
         kind: Target\nname: loud\nhttpGet: {{url: \"http://{0}/\"}}\nperiodSeconds: 0.05\n",
        web.at
    ));
    up.wait_events("target.probe_failed", "loud", 1);
    let paused = up.wait_events("target.paused", "quiet", 1);
    assert_eq!(
        (&paused[0]["data"]["by"], &paused[0]["data"]["reason"]),
        (&"maintenance".into(), &"moving".into())
    );
    assert!(up.events_of("target.probe_failed", "quiet").is_empty());
    assert_eq!(target(&up, "quiet").unwrap()["paused"], true);
}
