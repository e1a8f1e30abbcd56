//! The book names every word of the closed lists.

use hale_model::{Reason, event::EventData};

fn chapter(name: &str) -> String {
    let path = format!("{}/../../docs/src/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_reason_has_its_place_in_the_runbook() {
    let runbook = chapter("runbook.md");
    for reason in Reason::ALL {
        assert!(runbook.contains(&format!("\n### {reason}\n")), "{reason} is not in the runbook");
    }
}

#[test]
fn every_event_is_in_the_list_of_events() {
    let events = chapter("events.md");
    for kind in EventData::TYPES {
        assert!(events.contains(&format!("| `{kind}` |")), "{kind} is not in the list of events");
    }
}
