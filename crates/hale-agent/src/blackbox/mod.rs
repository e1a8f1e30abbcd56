//! `/probe?target=…&module=…`: one check, now, told as metrics, so that a Prometheus that is configured for
//! blackbox_exporter can be pointed at hale instead.
//!
//! Whoever may ask this makes the node connect to any address that it reaches. So it is off unless asked for; where it
//! is served says who may ask; and pages in a browser may not.

mod modules;
mod render;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

pub use self::modules::{ModuleError, Modules};

/// Checks at one time; who asks beyond that is told to come back.
pub(crate) const AT_ONCE: usize = 256;

/// What a scraper needs itself of the time it gives, as blackbox_exporter has it.
const OFFSET: Duration = Duration::from_millis(500);

/// The longest check where nobody says how long it may take.
const LONGEST: Duration = Duration::from_secs(120);

/// The header in which Prometheus says how long it waits.
pub const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// Makes checks for scrapers.
#[derive(Debug)]
pub struct Blackbox {
    modules: Modules,
    room: Arc<Semaphore>,
}

/// What is answered: Prometheus' text format, or why there is none.
pub type Told = (StatusCode, String);

impl Blackbox {
    /// Makes checks by these modules.
    #[must_use]
    pub fn new(modules: Modules) -> Self {
        Self { modules, room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Makes the check that a request asks for.
    pub async fn answer(&self, query: &str, headers: &HeaderMap) -> Told {
        if headers.contains_key("origin") || headers.contains_key("sec-fetch-site") {
            return wrong(StatusCode::FORBIDDEN, "pages in a browser may not have hale ask others");
        }
        let parameter = |name: &str| {
            let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| decode(value))
        };
        let Some(target) = parameter("target").filter(|it| !it.is_empty()) else {
            return wrong(StatusCode::BAD_REQUEST, "the parameter target is missing: whom to ask");
        };
        let name = parameter("module").unwrap_or_else(|| modules::USUAL.to_owned());
        let module = match self.modules.get(&name) {
            Ok(module) => module,
            Err(why) => return wrong(StatusCode::BAD_REQUEST, &why),
        };
        let (checker, over_tls) = match module.checker(&target) {
            Ok(found) => found,
            Err(why) => return wrong(StatusCode::BAD_REQUEST, &why),
        };
        let Ok(_permit) = Arc::clone(&self.room).try_acquire_owned() else {
            let why = format!("{AT_ONCE} checks are under way for scrapers already");
            return wrong(StatusCode::SERVICE_UNAVAILABLE, &why);
        };
        let scrape =
            headers.get(TIMEOUT_HEADER).and_then(|it| it.to_str().ok()).and_then(|it| it.parse().ok());
        let timeout = timeout(scrape, module.timeout());
        let began = Instant::now();
        let result = checker.look(timeout).await;
        (StatusCode::OK, render::metrics(module, &result, over_tls, began.elapsed()))
    }
}

fn wrong(status: StatusCode, why: &str) -> Told {
    (status, format!("{why}\n"))
}

/// The shorter of what the module and what the scraper gives; of the latter a little is left for the way back.
fn timeout(scrape: Option<f64>, module: Option<Duration>) -> Duration {
    let scrape = scrape.and_then(|it| Duration::try_from_secs_f64(it).ok()).filter(|it| !it.is_zero());
    let scrape = scrape.map(|it| if it > 2 * OFFSET { it - OFFSET } else { it / 2 });
    scrape.unwrap_or(LONGEST).min(module.unwrap_or(LONGEST))
}

/// Undoes percent-encoding. What is not UTF-8 then is replaced, and names no host.
fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match (first, hex.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_and_the_module_bound_a_check() {
        let seconds = Duration::from_secs;
        assert_eq!(timeout(None, None), LONGEST);
        assert_eq!(timeout(Some(10.0), None), Duration::from_millis(9_500));
        assert_eq!(timeout(Some(10.0), Some(seconds(2))), seconds(2));
        assert_eq!(timeout(Some(0.6), Some(seconds(2))), Duration::from_millis(300));
        assert_eq!(timeout(Some(-1.0), Some(seconds(2))), seconds(2));
    }

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(decode("http%3A%2F%2Fx%2Fa+b"), "http://x/a b");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz"), "%zz");
    }

    #[tokio::test]
    async fn what_can_not_be_asked_is_refused_with_a_word_on_why() {
        let blackbox = Blackbox::new(Modules::default());
        let none = HeaderMap::new();
        for (query, status, says) in [
            ("module=http_2xx", 400, "target is missing"),
            ("target=x&module=nope", 400, "http_2xx"),
            ("target=x&module=icmp", 400, "ICMP"),
            ("target=x&module=tcp_connect", 400, "port"),
            ("target=http://a%20b/&module=http_2xx", 400, "no"),
        ] {
            let (told, text) = blackbox.answer(query, &none).await;
            assert_eq!(told.as_u16(), status, "{query}: {text}");
            assert!(text.contains(says), "{query}: {text}");
        }
        let mut page = HeaderMap::new();
        page.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert_eq!(blackbox.answer("target=127.0.0.1:1&module=tcp_connect", &page).await.0.as_u16(), 403);
    }

    #[tokio::test]
    async fn a_check_is_told_as_metrics_whether_it_succeeds_or_not() {
        let blackbox = Blackbox::new(Modules::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ask = |address| format!("target={address}&module=tcp_connect");
        let (status, text) = blackbox.answer(&ask(address), &HeaderMap::new()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("\nprobe_success 1\n") && text.contains("\nprobe_ip_protocol 4\n"), "{text}");
        drop(listener);
        let (status, text) = blackbox.answer(&ask(address), &HeaderMap::new()).await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("\nprobe_success 0\n"), "{text}");
        assert!(text.contains("hale_probe_failed{reason=\"connection_refused\"} 1"), "{text}");
    }
}
