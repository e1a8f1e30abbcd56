//! `healthcheck`: an exec probe that begins when the service runs, and one that keeps asking.

use std::time::Duration;

use hale_model::file::{Key, Kind, Node};

use super::service::Service;
use crate::local::import::{
    draft::Draft,
    probe,
    values::{number_at, time, true_at},
    words::literal,
};

impl Service<'_> {
    pub(super) fn healthcheck(&self, key: &Key, node: &Node, draft: &mut Draft) {
        let test = node.get("test").map(|it| self.test(it));
        let none = test.as_ref().is_some_and(|it| it.first().is_some_and(|it| it == "NONE"));
        if true_at(node, &["disable"]) || none {
            draft.container.set("healthcheck", crate::local::import::out::Out::word("off"));
            return;
        }
        let command = match test.as_deref() {
            Some([how, rest @ ..]) if how == "CMD" && !rest.is_empty() => rest.to_vec(),
            Some([how, line]) if how == "CMD-SHELL" => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
            None => {
                let what =
                    "without test it changes the image's own, whose times can't be changed: not carried over";
                return self.note(key, "healthcheck", what);
            }
            _ => return self.note(key, "healthcheck.test", "not understood, not carried over"),
        };
        // What was written replaces the image's own.
        draft.container.set("healthcheck", crate::local::import::out::Out::word("off"));
        let command: Vec<String> = command.iter().map(|it| literal(it)).collect();
        let default = Duration::from_secs(30);
        let of = |key: &str, default: Duration| {
            let given = self.compose.text_of(node, key).and_then(|it| time(&it));
            given.filter(|it| !it.is_zero()).unwrap_or(default)
        };
        let (interval, timeout) = (of("interval", default), of("timeout", default));
        let retries = number_at(node, &["retries"]).filter(|it| *it > 0).unwrap_or(3);
        let live = probe::timed(probe::exec(&command), interval, timeout, retries);
        draft.probes.set("livenessProbe", live);
        // The time to start, and then as many failures as later make it unhealthy.
        let often = of("start_interval", Duration::from_secs(5)).min(interval);
        let patience =
            of("start_period", Duration::ZERO) + interval.saturating_mul(u32::try_from(retries).unwrap_or(3));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is above 0"
        )]
        let failures = (patience.as_secs_f64() / often.as_secs_f64()).ceil() as u64;
        let start = probe::timed(probe::exec(&command), often, timeout, failures);
        draft.probes.set("startupProbe", start);
    }

    fn test(&self, node: &Node) -> Vec<String> {
        match &node.kind {
            Kind::Seq(_) => self.compose.texts(node),
            _ => {
                let line = self.compose.text(node).unwrap_or_default();
                vec!["CMD-SHELL".to_owned(), line]
            }
        }
    }
}
