//! Sources of kind `mcp` (R2, R3).

use std::time::Duration;

use hale_model::spec::{McpSource, SourceKind};
use hale_responder::source::{Context, ErrorClass, Link, SourceSettings, What};
use serde_json::json;

use crate::{
    mcp_server::{Manners, McpServer},
    support::{Running, quick, remote, secret},
};

fn mcp(server: &McpServer) -> SourceKind {
    SourceKind::Mcp(McpSource {
        remote: remote(server.url()),
        mode: "faults".into(),
        namespaces: vec![],
        filters: [].into_iter().collect(),
    })
}

#[tokio::test]
async fn a_fault_is_heard_after_the_handshake_the_stream_the_level_and_the_subscription_in_this_order() {
    let server = McpServer::start(Manners::default()).await;
    let SourceKind::Mcp(mut of) = mcp(&server) else { unreachable!() };
    of.namespaces = vec!["shop".into()];
    of.filters = [("labelSelector".to_owned(), json!("app=web"))].into_iter().collect();
    let mut running = Running::start(SourceKind::Mcp(of));
    assert_eq!(running.link().await, Link::Up { downtime: None });
    let order = [
        "initialize",
        "notifications/initialized",
        "GET",
        "logging/setLevel",
        "tools/list",
        "events_subscribe",
    ];
    assert_eq!(server.log()[..6], order);
    assert_eq!(
        server.arguments(),
        json!({"mode": "faults", "namespaces": ["shop"], "labelSelector": "app=web"})
    );
    assert_eq!(server.fault("web-0").await, 1);
    let alert = running.alert().await;
    assert_eq!((alert.fault_type.as_str(), alert.severity.as_deref()), ("CrashLoop", Some("warning")));
    assert_eq!((alert.resource.kind.as_str(), alert.resource.name.as_str()), ("Pod", "web-0"));
    assert_eq!(alert.source_id.as_deref(), Some("fault-web-0"));
    assert_eq!(alert.context["subscriptionId"], "sub-session-1");
    running.end().await;
    server.asked("DELETE", 1).await;
}

#[tokio::test]
async fn a_subscription_that_is_dropped_without_a_word_is_made_again_on_the_same_session() {
    let server = McpServer::start(Manners::default()).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    server.drop_subscriptions().await;
    assert_eq!(server.fault("lost").await, 0);
    server.asked("events_subscribe", 2).await;
    server.asked("events_list_subscriptions", 3).await;
    assert_eq!(server.fault("web-1").await, 1);
    assert_eq!(running.alert().await.resource.name, "web-1");
    assert_eq!(server.log().iter().filter(|it| *it == "initialize").count(), 1);
    running.end().await;
}

#[tokio::test]
async fn a_subscription_that_the_server_says_failed_is_made_again() {
    let server = McpServer::start(Manners::default()).await;
    let settings = SourceSettings { check_every: Duration::from_secs(600), ..quick() };
    let mut running = Running::with(mcp(&server), Context { settings, ..Context::default() });
    running.up().await;
    assert_eq!(
        server.tell("error", "kubernetes/subscription_error", &json!({"error": "watch expired"})).await,
        1
    );
    server.asked("events_subscribe", 2).await;
    assert_eq!(server.fault("web-1").await, 1);
    assert_eq!(running.alert().await.resource.name, "web-1");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_subscribed_to_anew() {
    let mut server = McpServer::start(Manners::default()).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    server.kill().await;
    let link = running.link().await;
    assert!(matches!(link, Link::Down { class: ErrorClass::Network, .. }), "{link:?}");
    let link = running.link().await;
    assert!(matches!(link, Link::Failed { class: ErrorClass::Network, attempt: 1, .. }), "{link:?}");
    server.start_again().await;
    assert!(running.up().await.is_some_and(|downtime| downtime > 0.0));
    assert_eq!(server.fault("web-2").await, 1);
    assert_eq!(running.alert().await.resource.name, "web-2");
    running.end().await;
}

#[tokio::test]
async fn a_session_that_the_server_has_forgotten_is_made_anew() {
    let server = McpServer::start(Manners::default()).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    server.forget_sessions().await;
    let (class, error, _) = running.failure().await;
    assert_eq!(class, ErrorClass::Server);
    assert!(error.contains("404") && error.contains("session"), "{error}");
    running.up().await;
    assert_eq!(server.fault("web-3").await, 1);
    assert_eq!(running.alert().await.resource.name, "web-3");
    running.end().await;
}

#[tokio::test]
async fn a_stream_that_is_open_there_still_is_waited_for() {
    let server = McpServer::start(Manners { conflicts: 2, ..Manners::default() }).await;
    let mut running = Running::start(mcp(&server));
    for expected in [1, 2] {
        let link = running.link().await;
        assert!(
            matches!(&link, Link::Failed { class: ErrorClass::Server, attempt, error, .. }
                if *attempt == expected && error.contains("409")),
            "{link:?}"
        );
    }
    assert_eq!(running.link().await, Link::Up { downtime: None });
    running.end().await;
}

#[tokio::test]
async fn who_is_not_let_in_says_so_and_waits_long_and_a_new_token_is_read_for_the_next_attempt() {
    let server = McpServer::start(Manners { refusal: Some((401, None)), ..Manners::default() }).await;
    let (_dir, file) = secret("old");
    let SourceKind::Mcp(mut of) = mcp(&server) else { unreachable!() };
    of.remote.token_file = Some(file);
    let mut running = Running::start(SourceKind::Mcp(of));
    let (class, error, retry_in) = running.failure().await;
    assert_eq!(class, ErrorClass::Auth);
    assert!(error.contains("401") && error.contains("tokenFile"), "{error}");
    assert!((0.15..=0.2).contains(&retry_in), "{retry_in}");
    server.change(|it| it.refusal = None).await;
    running.up().await;
    running.end().await;
}

#[tokio::test]
async fn a_server_that_asks_to_be_left_alone_is() {
    let server = McpServer::start(Manners { refusal: Some((503, Some("1"))), ..Manners::default() }).await;
    let mut running = Running::start(mcp(&server));
    let (class, error, retry_in) = running.failure().await;
    assert_eq!(class, ErrorClass::Server);
    assert!(error.contains("503") && error.contains("go away"), "{error}");
    assert!((1.0..=1.25).contains(&retry_in), "{retry_in}");
    let asked = server.log().len();
    assert_eq!(asked, 1, "one request was enough to hear it");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_only_logs_is_listened_to_and_one_that_does_neither_is_refused() {
    let server = McpServer::start(Manners { tools: vec!["echo"], ..Manners::default() }).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    assert_eq!(server.tell("critical", "disk", &json!({"message": "full"})).await, 1);
    let alert = running.alert().await;
    assert_eq!((alert.severity.as_deref(), alert.message.as_str()), (Some("critical"), "full"));
    assert_eq!(alert.resource.name, "disk");
    running.end().await;

    let server =
        McpServer::start(Manners { tools: vec!["echo"], logging: false, ..Manners::default() }).await;
    let mut running = Running::start(mcp(&server));
    let (class, error, _) = running.failure().await;
    assert_eq!(class, ErrorClass::Protocol);
    assert!(error.contains("events_subscribe"), "{error}");
    running.end().await;
}

#[tokio::test]
async fn faults_come_in_order_and_none_is_lost_while_the_driver_is_slow() {
    let server = McpServer::start(Manners::default()).await;
    let mut running =
        Running::with_room(mcp(&server), Context { settings: quick(), ..Context::default() }, 1);
    running.up().await;
    let tell = async {
        for n in 0..500 {
            assert_eq!(server.fault(&format!("web-{n}")).await, 1);
        }
    };
    let hear = async {
        for n in 0..500 {
            assert_eq!(running.alert().await.resource.name, format!("web-{n}"));
        }
    };
    tokio::join!(tell, hear);
    running.end().await;
}

#[tokio::test]
async fn what_can_not_be_read_is_said_and_the_stream_goes_on() {
    let server = McpServer::start(Manners::default()).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    assert_eq!(server.tell("warning", "kubernetes/faults", &json!({"resource": 7})).await, 1);
    assert_eq!(
        server.tell("warning", "kubernetes/faults", &json!({"context": "x".repeat(2 << 20)})).await,
        1
    );
    assert_eq!(server.fault("web-0").await, 1);
    for _ in 0..2 {
        assert!(matches!(running.heard().await.what, What::Unreadable(_)));
    }
    assert_eq!(running.alert().await.resource.name, "web-0");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_tells_no_tools_and_gives_no_session_is_subscribed_to_all_the_same() {
    let manners = Manners { tells_tools: false, sessions: false, ..Manners::default() };
    let server = McpServer::start(manners).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    assert_eq!(server.fault("web-0").await, 1);
    assert_eq!(running.alert().await.resource.name, "web-0");
    server.drop_subscriptions().await;
    server.asked("events_subscribe", 2).await;
    running.end().await;
}

#[tokio::test]
async fn a_stream_that_ends_once_it_is_subscribed_to_is_waited_for_longer_each_time() {
    let server = McpServer::start(Manners { closes: true, ..Manners::default() }).await;
    let settings = SourceSettings {
        initial_delay: Duration::from_millis(5),
        max_delay: Duration::from_secs(60),
        check_every: Duration::from_secs(600),
    };
    let mut running = Running::with(mcp(&server), Context { settings, ..Context::default() });
    let mut last = 0.0;
    for _ in 0..6 {
        last = running.failure().await.2;
    }
    assert!(last > 0.1, "{last}");
    running.end().await;
}

#[tokio::test]
async fn what_is_not_needed_is_passed_over_and_a_server_that_asks_without_end_is_left() {
    let server = McpServer::start(Manners::default()).await;
    let mut running = Running::start(mcp(&server));
    running.up().await;
    for _ in 0..2000 {
        server.say(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})).await;
    }
    for id in 0..10 {
        server.say(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).await;
    }
    assert_eq!(server.fault("web-0").await, 1);
    assert_eq!(running.alert().await.resource.name, "web-0");
    let ask = async {
        for id in 10..1200 {
            server.say(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).await;
        }
    };
    let ((), (class, error, _)) = tokio::join!(ask, running.failure());
    assert_eq!(class, ErrorClass::Protocol);
    assert!(error.contains("1000 requests"), "{error}");
    running.end().await;
}
