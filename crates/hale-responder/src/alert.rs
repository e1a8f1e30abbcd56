//! What comes from sources, before and after it is believed.

use std::collections::{BTreeMap, BTreeSet};

use hale_api::runs::{Alert, Resource};
use hale_model::spec::{AlertSeverity, Source};
use jiff::Timestamp;

/// The most bytes of a name: of a cluster, a resource, a namespace, a kind, a label.
pub const MOST_NAME: usize = 253;

/// The most bytes of a message or of a label's value that are kept.
pub const MOST_TEXT: usize = 4096;

/// The most labels of its own that are kept of an alert, in the order of their names.
pub const MOST_LABELS: usize = 64;

/// The most bytes of [`RawAlert::context`] as JSON; of a larger one its size is kept.
pub const MOST_CONTEXT: usize = 256 * 1024;

/// An alert as its sender tells it; nothing of it is believed yet (R4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawAlert {
    /// What its sender calls it.
    pub source_id: Option<String>,
    /// The severity's word as it came; absent: `warning`.
    pub severity: Option<String>,
    /// What kind of fault.
    pub fault_type: String,
    /// What it is about.
    pub resource: Resource,
    /// A sentence for people.
    pub message: String,
    /// Its own labels, beside those of the source.
    pub labels: BTreeMap<String, String>,
    /// All that was told.
    pub context: serde_json::Value,
    /// When it happened; absent: now.
    pub timestamp: Option<Timestamp>,
}

/// Why something is no alert (R4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A name that must be there is not.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// A name is longer than any is.
    #[error("the {0} is longer than {MOST_NAME} bytes")]
    TooLong(&'static str),
    /// A name holds a control character: a line break, an escape sequence.
    #[error("the {0} holds a control character")]
    Control(&'static str),
    /// The word for its severity is none.
    #[error("severity {0:?} is none of debug, info, warning, error, critical")]
    Severity(String),
}

impl RawAlert {
    /// Believes it, if it makes sense (R4), as an alert of this source. Its id is asked for only then.
    ///
    /// Names must be there (that of the resource), short and printable. Texts are for people and programs to read: they are
    /// cut, not refused. Labels of the source win over those of the alert, so that no alert can claim to come from
    /// elsewhere.
    ///
    /// # Errors
    /// [`Invalid`]: what is missing or wrong.
    pub fn accept(
        self,
        from: &Source,
        now: Timestamp,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<Alert, Invalid> {
        let severity = self.severity.as_deref().map_or(Ok(AlertSeverity::default()), severity)?;
        required("cluster", &from.name)?;
        required("resource's name", &self.resource.name)?;
        checked("resource's kind", &self.resource.kind)?;
        checked("kind of fault", &self.fault_type)?;
        let mut resource = self.resource;
        for (what, name) in [
            ("namespace", &mut resource.namespace),
            ("resource's API version", &mut resource.api_version),
            ("resource's uid", &mut resource.uid),
        ] {
            // Senders in Go tell what they don't have as an empty text.
            *name = name.take().filter(|it| !it.is_empty());
            checked(what, name.as_deref().unwrap_or_default())?;
        }
        // As programs see them in their environment: no alert can claim to come from elsewhere.
        let theirs: BTreeSet<String> = from.labels.keys().map(|it| as_variable(it)).collect();
        let room = MOST_LABELS.saturating_sub(theirs.len());
        let own = self.labels.into_iter().filter(|(key, _)| checked("label", key).is_ok());
        let own = own.filter(|(key, _)| !theirs.contains(&as_variable(key))).take(room);
        let mut labels: BTreeMap<String, String> =
            own.map(|(key, value)| (key, cut(value, MOST_TEXT))).collect();
        labels.extend(from.labels.clone());
        Ok(Alert {
            id: new_id(),
            cluster: from.name.clone(),
            source: from.kind.as_str().to_owned(),
            source_id: self.source_id.map(|it| cut(it, MOST_NAME)),
            severity,
            fault_type: self.fault_type,
            resource,
            message: cut(self.message, MOST_TEXT),
            labels,
            context: bounded(self.context),
            timestamp: self.timestamp.unwrap_or(now),
            received_at: now,
        })
    }
}

/// A label's key as a part of a variable's name: `cost-center` and `cost center` are the same there.
pub(crate) fn as_variable(key: &str) -> String {
    key.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect()
}

/// A severity by its word: hale's own five, those of syslog (which MCP speaks), of Kubernetes' events, and what loggers and
/// Alertmanagers usually say. Case does not matter.
///
/// # Errors
/// [`Invalid::Severity`] for any other word.
pub fn severity(word: &str) -> Result<AlertSeverity, Invalid> {
    Ok(match word.trim().to_ascii_lowercase().as_str() {
        "debug" | "trace" => AlertSeverity::Debug,
        "info" | "information" | "informational" | "notice" | "normal" => AlertSeverity::Info,
        "warning" | "warn" => AlertSeverity::Warning,
        "error" | "err" => AlertSeverity::Error,
        "critical" | "crit" | "alert" | "emergency" | "emerg" | "panic" | "fatal" | "page" => {
            AlertSeverity::Critical
        }
        _ => return Err(Invalid::Severity(cut(word.to_owned(), MOST_NAME))),
    })
}

fn required(what: &'static str, name: &str) -> Result<(), Invalid> {
    if name.trim().is_empty() { Err(Invalid::Missing(what)) } else { checked(what, name) }
}

fn checked(what: &'static str, name: &str) -> Result<(), Invalid> {
    if name.len() > MOST_NAME {
        Err(Invalid::TooLong(what))
    } else if name.chars().any(char::is_control) {
        Err(Invalid::Control(what))
    } else {
        Ok(())
    }
}

/// At most so many bytes of a text, whole characters.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

fn bounded(context: serde_json::Value) -> serde_json::Value {
    let bytes = context.to_string().len();
    if bytes <= MOST_CONTEXT { context } else { serde_json::json!({ "tooLarge": bytes }) }
}

/// What makes two alerts the same (R4): cluster, kind of fault, and kind, namespace and name of the resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint {
    /// The cluster.
    pub cluster: String,
    /// What kind of fault.
    pub fault_type: String,
    /// What it is about.
    pub resource: ResourceKey,
}

/// A resource within its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl From<&Resource> for ResourceKey {
    fn from(resource: &Resource) -> Self {
        Self {
            kind: resource.kind.clone(),
            namespace: resource.namespace.clone(),
            name: resource.name.clone(),
        }
    }
}

impl Fingerprint {
    /// Of an alert.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        Self {
            cluster: alert.cluster.clone(),
            fault_type: alert.fault_type.clone(),
            resource: (&alert.resource).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hale_model::spec::{SourceKind, WebhookSource};
    use rstest::rstest;

    use super::*;

    fn source() -> Source {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let webhook = WebhookSource { listen, path: "/".to_owned(), token_file: None, hmac_file: None };
        Source {
            name: "prod-eu".to_owned(),
            labels: BTreeMap::from([("env".to_owned(), "prod".to_owned())]),
            kubeconfig: None,
            kind: SourceKind::Webhook(webhook),
        }
    }

    fn raw() -> RawAlert {
        let resource = Resource { kind: "Pod".to_owned(), name: "web-0".to_owned(), ..Resource::default() };
        RawAlert { fault_type: "CrashLoop".to_owned(), resource, ..RawAlert::default() }
    }

    fn accept(raw: RawAlert) -> Result<Alert, Invalid> {
        raw.accept(&source(), Timestamp::UNIX_EPOCH, &mut || "a1".to_owned())
    }

    #[rstest]
    #[case("debug", AlertSeverity::Debug)]
    #[case("Normal", AlertSeverity::Info)]
    #[case("notice", AlertSeverity::Info)]
    #[case(" WARN ", AlertSeverity::Warning)]
    #[case("err", AlertSeverity::Error)]
    #[case("emergency", AlertSeverity::Critical)]
    fn severities_are_known_by_their_usual_words(#[case] word: &str, #[case] expected: AlertSeverity) {
        assert_eq!(severity(word), Ok(expected));
    }

    #[rstest]
    #[case("")]
    #[case("high")]
    #[case("warning!")]
    fn other_words_are_no_severities(#[case] word: &str) {
        assert_eq!(severity(word), Err(Invalid::Severity(word.to_owned())));
    }

    #[test]
    fn one_without_a_severity_is_a_warning_and_without_a_time_from_now() {
        let alert = accept(raw()).unwrap();
        assert_eq!((alert.severity, alert.timestamp), (AlertSeverity::Warning, Timestamp::UNIX_EPOCH));
        assert_eq!((alert.cluster.as_str(), alert.source.as_str()), ("prod-eu", "webhook"));
    }

    #[rstest]
    #[case(|it: &mut RawAlert| it.resource.name.clear(), Invalid::Missing("resource's name"))]
    #[case(|it: &mut RawAlert| it.resource.name = "  ".to_owned(), Invalid::Missing("resource's name"))]
    #[case(|it: &mut RawAlert| it.resource.name = "a".repeat(254), Invalid::TooLong("resource's name"))]
    #[case(|it: &mut RawAlert| it.resource.name = "a\nb".to_owned(), Invalid::Control("resource's name"))]
    #[case(|it: &mut RawAlert| it.resource.kind = "\u{1b}[2J".to_owned(), Invalid::Control("resource's kind"))]
    #[case(|it: &mut RawAlert| it.resource.namespace = Some("a\0".to_owned()), Invalid::Control("namespace"))]
    #[case(|it: &mut RawAlert| it.fault_type = "a".repeat(254), Invalid::TooLong("kind of fault"))]
    fn what_makes_no_sense_is_refused_with_the_reason(
        #[case] spoil: fn(&mut RawAlert),
        #[case] expected: Invalid,
    ) {
        let mut it = raw();
        spoil(&mut it);
        assert_eq!(accept(it), Err(expected));
    }

    #[test]
    fn no_id_is_used_up_by_one_that_is_refused() {
        let it = RawAlert { severity: Some("loud".to_owned()), ..raw() };
        let mut asked = 0;
        let got = it.accept(&source(), Timestamp::UNIX_EPOCH, &mut || {
            asked += 1;
            String::new()
        });
        assert!(got.is_err());
        assert_eq!(asked, 0);
    }

    #[test]
    fn texts_are_cut_at_whole_characters_and_a_huge_context_leaves_its_size() {
        let it = RawAlert {
            message: format!("a{}", "ä".repeat(MOST_TEXT)),
            context: serde_json::Value::String("x".repeat(MOST_CONTEXT)),
            ..raw()
        };
        let alert = accept(it).unwrap();
        assert_eq!(alert.message.len(), MOST_TEXT - 1);
        assert_eq!(alert.context, serde_json::json!({ "tooLarge": MOST_CONTEXT + 2 }));
    }

    #[test]
    fn an_alert_cannot_pass_for_one_of_another_source() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = BTreeMap::from([label("env", "dev"), label("team", "shop"), label("a\nb", "c")]);
        let alert = accept(RawAlert { labels, ..raw() }).unwrap();
        assert_eq!(alert.labels, BTreeMap::from([label("env", "prod"), label("team", "shop")]));
    }
}
