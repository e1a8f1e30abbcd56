use http::Request;
use rstest::rstest;

use super::*;

fn head(request: request::Builder) -> Result<Head, Refusal> {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    for_endpoint(parts, "192.0.2.7".parse().unwrap())
}

#[rstest]
#[case("/a/b?c=d", "/a/b?c=d")]
#[case("*", "*")]
#[case("http://other.test/x", "/x")]
#[case("http://other.test", "/")]
fn the_target_becomes_the_origin_form(#[case] target: &str, #[case] expected: &str) {
    let head = head(Request::options(target).header("host", "web")).unwrap();
    assert_eq!(head.uri.to_string(), expected);
}

#[test]
fn the_authority_of_an_absolute_target_becomes_the_host() {
    let head = head(Request::get("http://other.test:81/x").header("host", "web")).unwrap();
    assert_eq!(head.headers["host"], "other.test:81");
}

#[rstest]
#[case("ftp://a/x")]
#[case("http://me@a/x")]
fn a_target_that_is_not_plain_http_is_refused(#[case] target: &str) {
    assert!(matches!(head(Request::get(target).header("host", "a")), Err(Refusal::BadRequest(_))));
}

#[rstest]
#[case("GET", true)]
#[case("PUT", true)]
#[case("DELETE", true)]
#[case("POST", false)]
#[case("PATCH", false)]
#[case("BREW", false)]
fn only_what_has_the_effect_of_once_may_be_repeated(#[case] method: &str, #[case] repeatable: bool) {
    let head = head(Request::builder().method(method).uri("/").header("host", "a")).unwrap();
    assert_eq!(head.is_idempotent(), repeatable);
}

#[test]
fn only_a_web_socket_may_upgrade() {
    let ask = |protocol: &str| {
        head(
            Request::get("/").header("host", "a").header("connection", "Upgrade").header("upgrade", protocol),
        )
        .unwrap()
    };
    assert!(ask("WebSocket").upgrade && !ask("WebSocket").is_idempotent());
    let other = ask("h2c");
    assert!(
        !other.upgrade && !other.headers.contains_key(UPGRADE) && !other.headers.contains_key(CONNECTION)
    );
}

#[test]
fn connection_cannot_strike_out_where_a_message_goes_and_ends() {
    let request = Request::post("/").header("host", "a").header("content-length", "3");
    let head = head(request.header("connection", "host, content-length, x-a").header("x-a", "1")).unwrap();
    assert!(head.headers.contains_key(HOST) && head.headers.contains_key(CONTENT_LENGTH));
    assert!(!head.headers.contains_key("x-a"));
}

#[test]
fn a_length_beside_a_coding_is_refused() {
    let request = Request::post("/").header("host", "a").header("content-length", "3");
    let refused = head(request.header("transfer-encoding", "chunked"));
    assert!(matches!(refused, Err(Refusal::BadRequest(_))));
}
