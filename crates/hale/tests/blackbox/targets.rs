//! Targets as a user sees them: a failure told once over `kill -9`, lists that change, windows in which nothing is told.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    harness::{Up, data_dir, kill, wait_until},
    web::Web,
};

fn target(up: &Up, name: &str) -> Option<Value> {
    up.status()["targets"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned()
}

fn wait_target(up: &Up, name: &str, status: &str) -> Value {
    let of = |all: &Value| all["targets"].as_array().unwrap().iter().find(|it| it["name"] == name).cloned();
    let all =
        up.wait_status(&format!("{name} {status}"), |all| of(all).is_some_and(|it| it["status"] == status));
    of(&all).unwrap()
}

/// Asks it over HTTP with the token of the command line: status and body.
fn ask(up: &Up, path: &str) -> (u16, String) {
    let token = fs::read_to_string(data_dir(&up.dir()).join("cli.token")).unwrap();
    let address = up.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n", token.trim());
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
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

#[test]
fn what_became_of_a_target_is_told_for_days_and_kept_over_a_restart() {
    let web = Web::start();
    let yaml = format!(
        "kind: Target\nname: billing\nhttpGet: {{url: \"http://{}/up\"}}\nperiodSeconds: 0.05\n",
        web.at
    );
    let up = Up::start(&yaml);
    wait_target(&up, "billing", "healthy");
    web.say("/up", 503, "down");
    up.wait_events("target.probe_failed", "billing", 1);
    web.say("/up", 200, "ok");
    up.wait_events("target.probe_recovered", "billing", 1);
    let table = up.ok(&["status", "billing"]);
    assert!(table.contains("AVAILABLE") && table.contains("30d"), "{table}");
    let history = |up: &Up| -> Value {
        serde_json::from_str(&ask(up, "/api/v1/targets/billing/history?window=1h").1).unwrap()
    };
    let before = history(&up);
    let hour = &before["probes"][0]["windows"][0];
    assert_eq!((&hour["window"], &hour["incidents"]), (&Value::from("1h"), &Value::from(1)), "{before:#}");
    assert!(
        hour["failures"].as_u64().unwrap() >= 3 && hour["successes"].as_u64().unwrap() >= 2,
        "{before:#}"
    );
    let available = hour["availability"].as_f64().unwrap();
    assert!((0.0..1.0).contains(&available), "{before:#}");
    assert!(hour["detect_seconds"].as_f64().unwrap() > 0.05, "{before:#}");
    assert!(hour["recover_seconds"].as_f64().unwrap() >= hour["detect_seconds"].as_f64().unwrap());
    assert!(hour["p50_ms"].as_f64().is_some() && before["probes"][0]["points"][0]["seconds"] == 300);

    let dir = up.dir();
    drop(up.end("TERM"));
    let up = Up::start_in(dir, &yaml);
    wait_target(&up, "billing", "healthy");
    let after = history(&up);
    let hour = &after["probes"][0]["windows"][0];
    assert_eq!((&hour["incidents"], &hour["errors"]), (&Value::from(1), &Value::from(0)), "{after:#}");
    let successes = |it: &Value| it["probes"][0]["windows"][3]["successes"].as_u64().unwrap();
    assert!(successes(&after) > successes(&before), "{after:#}");
}

#[test]
fn checks_are_made_for_scrapers_where_they_are_asked_for_and_for_nobody_else() {
    let web = Web::start();
    let path = format!("/probe?module=http_2xx&target=http://{}/up", web.at);
    let closed = Up::start("kind: Target\nname: t\ntcpSocket: {host: 127.0.0.1, port: 9}\n");
    assert_eq!(ask(&closed, &path).0, 404, "nobody asked for it");
    let open = Up::start_tracing(
        "kind: Target\nname: t\ntcpSocket: {host: 127.0.0.1, port: 9}\n",
        &[("HALE_PROBE_ENDPOINT", "true")],
    );
    let (status, told) = ask(&open, &path);
    assert!(status == 200 && told.contains("\nprobe_success 1\n"), "{status}: {told}");
    assert!(told.contains("\nprobe_http_status_code 200\n"), "{told}");
    web.say("/up", 500, "no");
    let (status, told) = ask(&open, &path);
    assert!(status == 200 && told.contains("\nprobe_success 0\n"), "{status}: {told}");
    assert_eq!(ask(&open, "/probe?module=no_such&target=x").0, 400);
}
