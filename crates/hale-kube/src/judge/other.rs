//! Any other kind, by the conditions that most controllers write (K5): `Ready`, `Reconciling`, `Stalled`, guarded by
//! the observed generation. What has none of them is as it should be when it is there.

use hale_model::Status;
use serde_json::Value;

use super::{
    PROGRESSING,
    objects::{Condition, Conditions},
    read::{integer, text, time},
};

/// How an object of any kind is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// In one word.
    pub status: Status,
    /// What it is in: a reason, or `progressing`.
    pub condition: Option<String>,
    /// What is to be said of it.
    pub message: Option<String>,
}

/// Conditions that say whether a thing does what it is for, in the order in which they are believed.
const MAIN: [&str; 3] = ["Ready", "Available", "Established"];

/// Judges an object of a kind that is not known.
#[must_use]
pub fn other(object: &Value) -> Other {
    let told = |status, condition: &str, message: String| Other {
        status,
        condition: (!condition.is_empty()).then(|| condition.to_owned()),
        message: (!message.is_empty()).then_some(message),
    };
    if time(object, &["metadata", "deletionTimestamp"]).is_some() {
        return told(Status::Degraded, PROGRESSING, "it is being deleted".to_owned());
    }
    let conditions = Conditions::read(object);
    let generation = integer(object, &["metadata", "generation"]);
    let observed = integer(object, &["status", "observedGeneration"]);
    let old = matches!((generation, observed), (Some(wanted), Some(seen)) if seen < wanted);
    let holds = |kind: &str| conditions.get(kind).filter(|it| it.holds == Some(true));
    if let Some(stalled) = holds("Stalled").filter(|_| !old) {
        return told(Status::Failing, reason(stalled, "Stalled"), words(stalled));
    }
    if old {
        return told(Status::Degraded, PROGRESSING, "its controller has not looked at it yet".to_owned());
    }
    if let Some(going) = holds("Reconciling") {
        return told(Status::Degraded, PROGRESSING, words(going));
    }
    match MAIN.iter().find_map(|it| conditions.get(it)) {
        Some(it) if it.holds == Some(false) => told(Status::Degraded, reason(it, "NotReady"), words(it)),
        Some(it) if it.holds.is_none() => told(Status::Degraded, PROGRESSING, words(it)),
        _ if text(object, &["status", "phase"]) == Some("Failed") => {
            told(Status::Failing, "Failed", "its phase is Failed".to_owned())
        }
        _ => told(Status::Healthy, "", String::new()),
    }
}

fn reason<'c>(condition: &'c Condition, otherwise: &'c str) -> &'c str {
    if condition.reason.is_empty() { otherwise } else { &condition.reason }
}

fn words(condition: &Condition) -> String {
    let words = [condition.reason.as_str(), condition.message.as_str()];
    words.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!([]), Status::Healthy, None)]
    #[case(json!([{"type":"Ready","status":"True"}]), Status::Healthy, None)]
    #[case(json!([{"type":"Ready","status":"False","reason":"Pending"}]), Status::Degraded, Some("Pending"))]
    #[case(json!([{"type":"Ready","status":"Unknown"}]), Status::Degraded, Some("progressing"))]
    #[case(json!([{"type":"Reconciling","status":"True"},{"type":"Ready","status":"False"}]), Status::Degraded, Some("progressing"))]
    #[case(json!([{"type":"Ready","status":"False"},{"type":"Stalled","status":"True","reason":"NoIssuer"}]), Status::Failing, Some("NoIssuer"))]
    fn the_usual_conditions_are_understood(
        #[case] conditions: Value,
        #[case] status: Status,
        #[case] condition: Option<&str>,
    ) {
        let object =
            json!({"metadata":{"generation":2},"status":{"observedGeneration":2,"conditions":conditions}});
        let judged = other(&object);
        assert_eq!((judged.status, judged.condition.as_deref()), (status, condition));
    }

    #[test]
    fn conditions_of_an_older_generation_say_nothing() {
        let object = json!({"metadata":{"generation":3},
            "status":{"observedGeneration":2,"conditions":[{"type":"Stalled","status":"True"}]}});
        assert_eq!(other(&object).condition.as_deref(), Some(PROGRESSING));
    }
}
