//! A registry as text, in the form a scraper asked for.

use prometheus_client::registry::Registry;

/// The content type of OpenMetrics 1.0.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of Prometheus' own text format.
pub const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Encodes a registry: OpenMetrics for a scraper whose `Accept` names it, Prometheus' text format for any other.
/// Returns the content type and the text.
///
/// # Errors
/// A collector of the registry failed to encode itself.
pub fn encode(registry: &Registry, accept: Option<&str>) -> Result<(&'static str, String), std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        return Ok((OPEN_METRICS, text));
    }
    Ok((PROMETHEUS_TEXT, to_prometheus_text(&text)))
}

/// OpenMetrics names a counter's family without `_total`, the older format with it; units and the end mark are not
/// known to the older one.
fn to_prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let of_counter =
            counter(line) || line.starts_with("# HELP ") && lines.peek().is_some_and(|next| counter(next));
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            [hash, word, name, rest] if of_counter => {
                text.push_str(&format!("{hash} {word} {name}_total {rest}\n"))
            }
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.register("asked", "Questions asked", Counter::<u64>::default());
        registry.register_with_unit(
            "held",
            "Memory held",
            prometheus_client::registry::Unit::Bytes,
            Gauge::<i64>::default(),
        );
        registry
    }

    #[test]
    fn the_older_format_names_counters_whole_and_knows_no_units() {
        let (kind, text) = encode(&registry(), Some("text/plain")).unwrap();
        assert_eq!(kind, PROMETHEUS_TEXT);
        assert_eq!(
            text,
            "# HELP asked_total Questions asked.\n# TYPE asked_total counter\nasked_total 0\n\
             # HELP held_bytes Memory held.\n# TYPE held_bytes gauge\nheld_bytes 0\n"
        );
    }

    #[test]
    fn open_metrics_is_given_to_those_who_ask_for_it() {
        let (kind, text) =
            encode(&registry(), Some("application/openmetrics-text;version=1.0.0,*/*;q=0.1")).unwrap();
        assert_eq!(kind, OPEN_METRICS);
        assert!(text.ends_with("# EOF\n"));
    }
}
