//! Checks inside containers, and images from a registry.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of a test function")]

mod support;

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use hale_container::ContainerOptions;
use hale_health::Reason;
use hale_model::spec::{ContainerFrom, Pull};
use hale_supervisor::runtime::{RanEnd, Runtime};
use hale_testkit::DockerEngine;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use support::{Bare, container, id, launch, of, until};

const IMAGE: &str = "hale-test/base:1";

fn engine() -> DockerEngine {
    let engine = DockerEngine::start();
    engine.image(IMAGE, "");
    engine
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_inside_is_bounded_in_time_and_leaves_nothing() {
    let engine = engine();
    let dir = tempfile::tempdir().unwrap();
    let mut it = Bare::new(&engine.host(), dir.path());
    let web = of("web", container(IMAGE, "touch /here; sleep 1000"));
    let started = it.start(&web, 1).await.unwrap();
    let inside = started.surroundings.unwrap().inside.clone().unwrap();
    let run = async |script: &str, limit: Duration| {
        inside.0.run(&["/bin/sh", "-c", script].map(str::to_owned), limit).await
    };
    let long = Duration::from_secs(60);
    let fine = run("test -e /here && echo fine", long).await;
    assert_eq!((fine.end, fine.output), (RanEnd::Exited(0), b"fine\n".to_vec()));
    assert_eq!(run("exit 4", long).await.end, RanEnd::Exited(4));
    assert_eq!(run("seq 1 100000", long).await.output.len(), 10 * 1024);
    let missing = inside.0.run(&["/no/such".to_owned()], long).await.end;
    assert!(matches!(missing, RanEnd::NotStarted(_)), "{missing:?}");
    let late = run("setsid sleep 777 & echo begun; sleep 778", Duration::from_secs(2)).await;
    assert_eq!(late.end, RanEnd::TimedOut(None));
    assert_eq!(late.output, b"begun\n");
    let container = started.container_id.unwrap();
    until("nothing is left of it", || !engine.must(&["top", &container]).contains("sleep 77")).await;
    // Cut off from outside.
    let cut = tokio::time::timeout(Duration::from_millis(700), run("sleep 779", long)).await;
    assert!(cut.is_err());
    until("nothing is left of it", || !engine.must(&["top", &container]).contains("sleep 779")).await;
    it.runtime.stop(&id("web-0", 1), 9, Duration::ZERO);
    it.gone(&id("web-0", 1)).await;
    assert!(matches!(run("true", long).await.end, RanEnd::NotTried(_)));
    let _ = Reason::Timeout;
}

/// A registry of one image, behind a password.
#[derive(Debug, Default)]
struct Store {
    blobs: Vec<(String, Bytes)>,
    manifest: Bytes,
    asked: Vec<String>,
}

type Registry = Arc<Mutex<Store>>;

fn digest(bytes: &[u8]) -> String {
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
    let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    format!("sha256:{}", said.split(' ').next().unwrap())
}

/// What an image is to a registry, made of what the engine saves.
fn store(engine: &DockerEngine, image: &str) -> Store {
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("image.tar");
    engine.must(&["save", "-o", tar.to_str().unwrap(), image]);
    let untar = std::process::Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(dir.path()).status();
    assert!(untar.unwrap().success());
    let listed = fs::read(dir.path().join("manifest.json")).unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
    let read =
        |name: &serde_json::Value| Bytes::from(fs::read(dir.path().join(name.as_str().unwrap())).unwrap());
    let (config, layer) = (read(&listed[0]["Config"]), read(&listed[0]["Layers"][0]));
    let (config_digest, layer_digest) = (digest(&config), digest(&layer));
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": config.len(), "digest": config_digest
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
            "size": layer.len(), "digest": layer_digest
        }]
    });
    let blobs = vec![(config_digest, config), (layer_digest, layer)];
    Store { blobs, manifest: manifest.to_string().into(), asked: Vec::new() }
}

fn answer(registry: &Registry, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let mut store = registry.lock().unwrap();
    store.asked.push(path.clone());
    let plain = |status: u16, body: Bytes| Response::builder().status(status).body(Full::new(body)).unwrap();
    // ana:secret
    let known = request.headers().get("authorization").is_some_and(|it| it == "Basic YW5hOnNlY3JldA==");
    if !known {
        return Response::builder()
            .status(401)
            .header("www-authenticate", "Basic realm=\"test\"")
            .body(Full::new(Bytes::from_static(
                b"{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}",
            )))
            .unwrap();
    }
    if path == "/v2/" {
        return plain(200, Bytes::from_static(b"{}"));
    }
    if let Some(wanted) = path.strip_prefix("/v2/app/blobs/") {
        let found = store.blobs.iter().find(|(digest, _)| digest == wanted).map(|it| it.1.clone());
        return found.map_or_else(|| plain(404, Bytes::new()), |it| plain(200, it));
    }
    let ours =
        path == "/v2/app/manifests/1" || path == format!("/v2/app/manifests/{}", digest(&store.manifest));
    if ours {
        return Response::builder()
            .header("content-type", "application/vnd.docker.distribution.manifest.v2+json")
            .header("docker-content-digest", digest(&store.manifest))
            .body(Full::new(store.manifest.clone()))
            .unwrap();
    }
    plain(
        404,
        Bytes::from_static(
            b"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}",
        ),
    )
}

async fn serve(store: Store) -> (SocketAddr, Registry) {
    let registry: Registry = Arc::new(Mutex::new(store));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::clone(&registry);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let registry = Arc::clone(&shared);
            let service = service_fn(move |request| {
                let answer = answer(&registry, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, registry)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_with_the_usual_credentials_and_a_failure_is_a_word() {
    let engine = engine();
    let (address, registry) = serve(store(&engine, IMAGE)).await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("docker");
    fs::create_dir(&config).unwrap();
    let bare = |config: &std::path::Path| {
        Bare::with(ContainerOptions {
            host: Some(engine.host()),
            docker_config: Some(config.to_owned()),
            ..ContainerOptions::new(dir.path())
        })
    };
    let mut it = bare(&config);
    let spec = |image: String, pull: Pull| {
        let mut spec = container("", "echo pulled; sleep 1000");
        spec.from = ContainerFrom::Image { image, pull };
        of("web", spec)
    };
    let app = format!("{address}/app:1");
    let code = async |it: &Bare, image: &str, pull| {
        it.start(&spec(image.to_owned(), pull), 1).await.unwrap_err().code
    };
    assert_eq!(code(&it, &app, Pull::Never).await, "image_missing");
    assert_eq!(code(&it, &app, Pull::Missing).await, "image_pull_denied");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(code(&it, &format!("{closed}/app:1"), Pull::Missing).await, "registry_unreachable");

    let text = format!(r#"{{"auths": {{"{address}": {{"auth": "YW5hOnNlY3JldA=="}}}}}}"#);
    fs::write(config.join("config.json"), text).unwrap();
    assert_eq!(code(&it, &format!("{address}/app:2"), Pull::Missing).await, "image_not_found");
    it.runtime.start(launch(&spec(app.clone(), Pull::Missing), 2)).await.unwrap();
    until("it runs", || it.output("web-0").contains("stdout F pulled")).await;
    assert!(it.output("web-0").contains("hale F pulled "), "{}", it.output("web-0"));
    let manifests = || {
        let asked = registry.lock().unwrap().asked.clone();
        asked.iter().filter(|it| it.ends_with("/manifests/1")).count()
    };
    let before = manifests();
    it.runtime.stop(&id("web-0", 2), 9, Duration::ZERO);
    it.gone(&id("web-0", 2)).await;
    // Once for a placement, however often it is started.
    for incarnation in 3..5 {
        it.runtime.start(launch(&spec(app.clone(), Pull::Always), incarnation)).await.unwrap();
        it.runtime.stop(&id("web-0", incarnation), 9, Duration::ZERO);
        it.gone(&id("web-0", incarnation)).await;
    }
    assert_eq!(manifests(), before);
    let mut placed_anew = launch(&spec(app, Pull::Always), 5);
    placed_anew.id.generation = hale_health::Generation(2);
    it.runtime.start(placed_anew).await.unwrap();
    assert!(manifests() > before);
}
