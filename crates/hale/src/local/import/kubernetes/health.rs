//! Probes: the blocks are the same, their defaults are not, so that each is written out.

use std::time::Duration;

use hale_model::file::Node;

use super::pod::Controller;
use crate::local::import::{
    draft::Draft,
    out::{Fields, Out},
    probe::timed,
    values::{entries, items, number_at, text, text_at},
};

impl Controller<'_> {
    pub(super) fn probe(&self, kind: &str, node: &Node, draft: &mut Draft) {
        let Some(check) = self.check(kind, node, draft) else { return };
        let seconds = |key: &str, default| {
            Duration::from_secs(number_at(node, &[key]).filter(|it| *it > 0).unwrap_or(default))
        };
        let failures = number_at(node, &["failureThreshold"]).unwrap_or(3);
        let mut probe = timed(check, seconds("periodSeconds", 10), seconds("timeoutSeconds", 1), failures);
        let successes =
            number_at(node, &["successThreshold"]).filter(|it| *it > 1 && kind == "readinessProbe");
        probe.set_some("successThreshold", successes.map(Out::word));
        let delay = number_at(node, &["initialDelaySeconds"]).filter(|it| *it > 0);
        probe.set_some("initialDelaySeconds", delay.map(Out::word));
        let grace = text_at(node, &["terminationGracePeriodSeconds"]).filter(|_| kind != "readinessProbe");
        probe.set_some("terminationGracePeriodSeconds", grace.map(Out::word));
        draft.probes.set(kind, probe);
    }

    fn check(&self, kind: &str, node: &Node, draft: &Draft) -> Option<Fields> {
        let probe = Fields::default();
        if let Some(get) = node.get("httpGet").filter(|it| !it.is_null()) {
            return Some(probe.with("httpGet", self.http(get, draft)));
        }
        if let Some(tcp) = node.get("tcpSocket").filter(|it| !it.is_null()) {
            let mut fields = port(tcp, draft);
            fields.set_some("host", text_at(tcp, &["host"]));
            return Some(probe.with("tcpSocket", fields));
        }
        if let Some(grpc) = node.get("grpc").filter(|it| !it.is_null()) {
            let mut fields = port(grpc, draft);
            fields.set_some("service", text_at(grpc, &["service"]).filter(|it| !it.is_empty()));
            return Some(probe.with("grpc", fields));
        }
        if let Some(command) = node.get("exec").and_then(|it| it.get("command")) {
            let words = Out::texts(items(command).iter().filter_map(|it| text(it)));
            return Some(probe.with("exec", Fields::default().with("command", words)));
        }
        self.object.note_at(
            node,
            &format!("container.{kind}"),
            "no check that is understood, not carried over",
        );
        None
    }

    fn http(&self, get: &Node, draft: &Draft) -> Fields {
        let mut fields = Fields::default();
        fields.set_some("path", text_at(get, &["path"]).filter(|it| it.starts_with('/')));
        let to = port(get, draft);
        fields.set_some("port", to.get("port").cloned());
        fields.set_some("host", text_at(get, &["host"]));
        fields.set_some("scheme", text_at(get, &["scheme"]).filter(|it| *it == "HTTPS"));
        let headers = get.get("httpHeaders").map(items).unwrap_or_default().iter().map(|it| {
            entries(it).iter().fold(Fields::default(), |header, (key, value)| {
                header.with(key.text.as_str(), text(value).unwrap_or_default())
            })
        });
        fields.set_some("httpHeaders", Some(headers.map(Out::from).collect::<Vec<_>>()));
        fields
    }
}

/// A port by number, or by the name that it has in the workload.
fn port(node: &Node, draft: &Draft) -> Fields {
    let Some(given) = text_at(node, &["port"]) else { return Fields::default() };
    let value = match given.parse::<u16>() {
        Ok(number) => draft
            .ports
            .iter()
            .find(|it| it.port == number)
            .map_or(Out::word(number), |it| it.name.as_str().into()),
        Err(_) => given.into(),
    };
    Fields::default().with("port", value)
}
