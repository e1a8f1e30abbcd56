//! Right files with containers: what they become.

use std::path::Path;

use hale_model::{
    document,
    file::{FileError, read_str},
    lint::lint,
    spec::{Container, ContainerFrom, Pull, Run, Volume, Workload},
};

fn told(errors: &[FileError]) -> String {
    errors.iter().map(|error| format!("{}: {error}\n", error.place())).collect()
}

fn read(rest: &str) -> Workload {
    let text = format!("kind: Workload\nname: web\n{rest}");
    let declared = read_str("test.yaml", Path::new("/srv/app"), &text);
    let declared = declared.unwrap_or_else(|errors| panic!("{}", told(&errors)));
    (*declared.workloads[0]).clone()
}

fn container(rest: &str) -> Container {
    match read(rest).run {
        Run::Container(it) => it,
        Run::Process(_) => panic!("not a container"),
    }
}

const WHOLE: &str = r#"
replicas: 2
container:
  image: registry.example.com:5000/team/web:1.2
  pull: always
  command: [/web, --port, "80"]
  args: [--verbose, "$(GREETING)"]
  env: {GREETING: hello, COUNT: 1.10}
  secretEnv: {TOKEN: s3cret}
  envFrom: {file: ./web.env}
  workingDir: /srv
  user: "1000:1000"
  volumes:
  - ./data:/data
  - /etc/app:/etc/app:ro
  - cache:/var/cache:rw
  - {source: ../shared, target: /shared, readOnly: true}
  - {source: named, target: /named}
  network: backend
  labels: {team: blue, com.example.tier: "1", flag: }
  readOnly: true
  ulimits: {nofile: [1024, 4096], nproc: unlimited}
  healthcheck: off
ports: [{name: http, port: 80, hostPort: 0}, {name: admin, port: 9000}, {name: tls, port: 443, hostPort: 8443}]
livenessProbe: {exec: {command: [/probe]}}
"#;

#[test]
fn every_field_of_a_container_is_taken() {
    let web = read(WHOLE);
    let it = web.run.as_container().unwrap();
    let volume = |source: &str, target: &str, read_only| Volume {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    let expected = Container {
        from: ContainerFrom::Image {
            image: "registry.example.com:5000/team/web:1.2".to_owned(),
            pull: Pull::Always,
        },
        command: ["/web", "--port", "80"].map(String::from).to_vec(),
        args: ["--verbose", "$(GREETING)"].map(String::from).to_vec(),
        env: [("COUNT", "1.10"), ("GREETING", "hello")].map(|(a, b)| (a.into(), b.into())).into(),
        secret_env: [("TOKEN".to_owned(), "s3cret".to_owned())].into(),
        env_from: vec!["/srv/app/web.env".into()],
        working_dir: Some("/srv".to_owned()),
        user: Some("1000:1000".to_owned()),
        volumes: vec![
            volume("/srv/app/data", "/data", false),
            volume("/etc/app", "/etc/app", true),
            volume("cache", "/var/cache", false),
            volume("/srv/app/../shared", "/shared", true),
            volume("named", "/named", false),
        ],
        network: Some("backend".to_owned()),
        labels: [("com.example.tier", "1"), ("flag", ""), ("team", "blue")]
            .map(|(a, b)| (a.into(), b.into()))
            .into(),
        read_only: true,
        ulimits: [("nofile".to_owned(), (1024, 4096)), ("nproc".to_owned(), (u64::MAX, u64::MAX))].into(),
        healthcheck: false,
    };
    assert_eq!(*it, expected);
    let ports: Vec<_> = web.ports.iter().map(|it| (it.name.as_str(), it.port, it.host_port)).collect();
    assert_eq!(ports, [("http", 80, Some(0)), ("admin", 9000, None), ("tls", 443, Some(8443))]);
    assert_eq!(web.fixed_ports().collect::<Vec<_>>(), [8443]);
    assert_eq!(web.run.runtime(), "container");
}

#[test]
fn the_least_container_is_the_images_own() {
    let it = container("container: {image: nginx}");
    let expected = ContainerFrom::Image { image: "nginx".to_owned(), pull: Pull::Missing };
    assert_eq!(it.from, expected);
    assert!(it.command.is_empty() && it.args.is_empty() && it.volumes.is_empty());
    assert!(it.healthcheck && !it.read_only && it.working_dir.is_none() && it.user.is_none());
}

#[test]
fn what_somebody_else_made_is_found_by_a_label() {
    let of = |label: &str| {
        container(&format!("container: {{adopt: {{label: \"{label}\"}}, healthcheck: on}}")).from
    };
    let adopted = |name: &str, value: Option<&str>| ContainerFrom::Adopted {
        label: (name.to_owned(), value.map(str::to_owned)),
    };
    assert_eq!(of("autoheal=true"), adopted("autoheal", Some("true")));
    assert_eq!(of("autoheal"), adopted("autoheal", None));
    assert_eq!(of("a=b=c"), adopted("a", Some("b=c")));
    assert_eq!(of("a="), adopted("a", Some("")));
}

#[test]
fn in_the_network_of_the_host_a_port_is_one_of_this_machine() {
    let web = read("container: {image: nginx, network: host}\nports: [{name: http, port: 80}]\n");
    assert_eq!(web.fixed_ports().collect::<Vec<_>>(), [80]);
    let web = read("container: {image: nginx}\nports: [{name: http, port: 80}]\n");
    assert_eq!(web.fixed_ports().count(), 0, "inside, each has a port 80 of its own");
}

#[test]
fn a_change_of_what_runs_takes_a_new_container() {
    let a = read("container: {image: \"web:1\"}\nports: [{name: http, port: 80}]\n");
    let image = read("container: {image: \"web:2\"}\nports: [{name: http, port: 80}]\n");
    let published = read("container: {image: \"web:1\"}\nports: [{name: http, port: 80, hostPort: 0}]\n");
    let probed = read(
        "container: {image: \"web:1\"}\nports: [{name: http, port: 80}]\nlivenessProbe: {tcpSocket: {port: http}}\n",
    );
    assert!(a.takes_new_instance(&image) && a.takes_new_instance(&published));
    assert!(!a.takes_new_instance(&probed));
}

/// S7: an agent that does not know containers registers no `container`, so that none is placed on it.
#[test]
fn containers_are_features_that_an_agent_must_know() {
    let text = format!("kind: Workload\nname: web\n{WHOLE}");
    let documents = document::read_str("app.yaml", Path::new("/"), &text).unwrap();
    let (needed, known) = (documents[0].features(), document::known_features());
    let unknown: Vec<_> = needed.difference(&known).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    for feature in ["container", "container.image", "container.volumes.source", "ports.hostPort"] {
        assert!(known.contains(feature), "{feature} is not among {known:?}");
    }
    assert!(needed.contains("container.volumes") && needed.contains("container.labels"));
    assert!(!needed.iter().any(|it| it.contains("team") || it.contains("TOKEN")), "{needed:?}");
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let codes = |rest: &str| lint(&read(rest)).iter().map(|it| it.code).collect::<Vec<_>>();
    assert_eq!(
        codes("replicas: 2\ncontainer: {image: nginx}\nports: [{name: a, port: 80, hostPort: 80}]"),
        ["fixed_port"]
    );
    assert!(
        codes("replicas: 2\ncontainer: {image: nginx}\nports: [{name: a, port: 80, hostPort: 0}]").is_empty()
    );
    let served = "service: {}\nreadinessProbe: {tcpSocket: {port: a}}";
    let unpublished = format!("container: {{image: nginx}}\nports: [{{name: a, port: 80}}]\n{served}");
    assert_eq!(codes(&unpublished), ["unpublished_service"]);
    let published =
        format!("container: {{image: nginx}}\nports: [{{name: a, port: 80, hostPort: 0}}]\n{served}");
    assert!(codes(&published).is_empty());
    assert_eq!(codes("container: {image: nginx, pull: always}"), ["image_floats"]);
    assert_eq!(codes("container: {image: \"a.b:5000/nginx:latest\", pull: always}"), ["image_floats"]);
    assert!(codes("container: {image: \"a.b:5000/nginx:1\", pull: always}").is_empty());
}
