//! Entries of lists become targets.

use std::path::Path;

use super::*;

fn list(check: &str) -> Target {
    let text =
        format!("kind: Target\nname: shop\nlabels: {{team: a}}\ntargetsFrom: {{file: list.json}}\n{check}\n");
    let declared = crate::file::read_str("t.yaml", Path::new("/srv"), &text).unwrap();
    (*declared.targets[0]).clone()
}

fn made(check: &str, text: &str) -> Members {
    members(&list(check), &parse(text.as_bytes()).unwrap())
}

/// The address that a check asks, as a URL.
fn asked(target: &Target) -> String {
    match &target.check {
        Check::HttpGet(it) => {
            let PortRef::Number(port) = it.port else { panic!() };
            let scheme = if it.tls { "https" } else { "http" };
            format!("{scheme}://{}:{port}{}", it.host.as_deref().unwrap(), it.path)
        }
        Check::TcpSocket(it) => {
            let PortRef::Number(port) = it.port else { panic!() };
            format!("tcp://{}:{port}", it.host.as_deref().unwrap())
        }
        Check::Tls(it) => format!("tls://{}:{}", it.host, it.port),
        other => panic!("{other:?}"),
    }
}

#[rstest::rstest]
#[case::host_and_port("httpGet: {}", "10.0.0.1:8080", "http://10.0.0.1:8080/healthz", "shop-10-0-0-1-8080")]
#[case::base_url("httpGet: {}", "http://a.example:81", "http://a.example:81/healthz", "shop-a-example-81")]
#[case::trailing_slash(
    "httpGet: {}",
    "https://a.example/",
    "https://a.example:443/healthz",
    "shop-a-example"
)]
#[case::base_path(
    "httpGet: {path: /up}",
    "http://a.example/x//",
    "http://a.example:80/x/up",
    "shop-a-example-x"
)]
#[case::scheme_of_the_template(
    "httpGet: {scheme: HTTPS}",
    "a.example",
    "https://a.example:443/healthz",
    "shop-a-example"
)]
#[case::port_of_the_template(
    "httpGet: {port: 9000}",
    "a.example",
    "http://a.example:9000/healthz",
    "shop-a-example"
)]
#[case::an_ipv6_address("httpGet: {}", "[::1]:80", "http://::1:80/healthz", "shop-1-80")]
#[case::tcp("tcpSocket: {}", "db.example:5432", "tcp://db.example:5432", "shop-db-example-5432")]
#[case::tls("tls: {}", "www.example", "tls://www.example:443", "shop-www-example")]
fn an_entry_is_a_host_and_port_or_a_base_url(
    #[case] check: &str,
    #[case] entry: &str,
    #[case] url: &str,
    #[case] name: &str,
) {
    let made = made(check, &format!("[{{\"targets\": [\"{entry}\"], \"labels\": {{\"env\": \"prod\"}}}}]"));
    assert_eq!(made.refused, []);
    let [target] = made.targets.as_slice() else { panic!() };
    assert_eq!((asked(target).as_str(), target.name.as_str()), (url, name));
    assert_eq!(target.origin.list.as_deref(), Some("shop"));
    let labels: Vec<_> = target.origin.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["env=prod", "team=a"]);
}

#[rstest::rstest]
#[case::a_query("httpGet: {}", "http://a/?x=1")]
#[case::a_user("httpGet: {}", "http://me@a/")]
#[case::a_scheme("httpGet: {}", "ftp://a/")]
#[case::no_host("httpGet: {}", ":80")]
#[case::no_port("tcpSocket: {}", "a.example")]
#[case::a_url_for_tcp("tcpSocket: {}", "http://a:80")]
#[case::a_port_that_is_none("httpGet: {}", "a:http")]
#[case::empty("httpGet: {}", "")]
#[case::not_ascii("httpGet: {}", "ä.example:80")]
fn an_entry_that_no_target_can_be_made_of_is_passed_over(#[case] check: &str, #[case] entry: &str) {
    let made = made(check, &format!("[{{\"targets\": [\"{entry}\", \"good.example:80\"]}}]"));
    assert_eq!((made.targets.len(), made.refused.len()), (1, 1), "{:?}", made.refused);
}

#[test]
fn names_are_labels_of_their_own_whatever_stands_in_the_list() {
    let long = "a".repeat(200);
    let text = format!(
        "[{{\"targets\": [\"a.b:80\", \"a-b:80\", \"a.b:80\", \"{long}:80\", \"{long}:81\"]}}, \
         {{\"targets\": [\"c:80\"], \"labels\": {{\"name\": \"Front Door\"}}}}]"
    );
    let made = made("httpGet: {}", &text);
    let names: BTreeSet<&str> = made.targets.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    assert!(names.iter().all(|it| is_label(it)), "{names:?}");
    assert!(names.contains("shop-front-door") && !names.contains("shop-a-b-80"));
}

#[test]
fn another_address_or_template_is_another_target_and_other_labels_are_not() {
    let digest = |check: &str, text: &str| made(check, text).targets[0].digest.clone();
    let one = digest("httpGet: {}", r#"[{"targets": ["a:80"]}]"#);
    assert_eq!(one, digest("httpGet: {}", r#"[{"targets": ["a:80"], "labels": {"x": "y"}}]"#));
    assert_ne!(one, digest("httpGet: {}", r#"[{"targets": ["a:81"]}]"#));
    assert_ne!(one, digest("httpGet: {path: /up}", r#"[{"targets": ["a:80"]}]"#));
}

#[rstest::rstest]
#[case::garbage("<html>")]
#[case::an_object(r#"{"targets": []}"#)]
#[case::cut_off(r#"[{"targets": ["a:80"]"#)]
#[case::no_texts(r#"[{"targets": [1]}]"#)]
#[case::empty("")]
#[case::labels_without_end(&format!(r#"[{{"targets": [], "labels": {{"a": "{}"}}}}]"#, "x".repeat(2000)))]
#[case::too_many(&format!(r#"[{{"targets": [{}"a:1"]}}]"#, "\"a:1\",".repeat(MAX_ENTRIES)))]
fn what_is_no_list_is_refused_whole(#[case] text: &str) {
    assert!(parse(text.as_bytes()).is_err());
}

#[test]
fn an_empty_list_is_a_list() {
    assert_eq!(parse(b"[]").unwrap(), []);
    assert_eq!(parse(br#"[{"targets": []}]"#).unwrap(), []);
}

proptest::proptest! {
    /// No entry makes it panic, and no two targets have one name.
    #[test]
    fn any_entries_become_targets_with_names_of_their_own(addresses in proptest::collection::vec(".{0,80}", 0..20)) {
        let entries: Vec<ListEntry> =
            addresses.into_iter().map(|address| ListEntry { address, ..ListEntry::default() }).collect();
        let made = members(&list("httpGet: {}"), &entries);
        let names: BTreeSet<&str> = made.targets.iter().map(|it| it.name.as_str()).collect();
        proptest::prop_assert_eq!(names.len(), made.targets.len());
        proptest::prop_assert!(names.iter().all(|it| is_label(it)));
    }
}

#[test]
fn labels_that_all_targets_of_a_group_have_are_bounded_in_all() {
    let labels: BTreeMap<String, String> =
        (0..64).map(|nth| (format!("{nth:02}{}", "k".repeat(1000)), "v".repeat(1000))).collect();
    let group = |count: usize| {
        let targets: Vec<String> = (0..count).map(|nth| format!("h{nth}:80")).collect();
        parse(serde_json::json!([{ "targets": targets, "labels": labels }]).to_string().as_bytes())
    };
    assert_eq!(group(100).map(|it| it.len()), Ok(100));
    assert!(group(1000).unwrap_err().contains("64 MiB"));
}
