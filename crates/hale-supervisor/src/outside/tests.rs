use hale_model::{event::EventData, report::Report};

use super::*;
use crate::{clock::BootClock, sim::Recorder};

type Seen = Arc<Mutex<Network>>;

fn network(up: bool) -> Network {
    Network {
        links: [("eth0".to_owned(), up)].into(),
        default_routes: if up { ["eth0".to_owned()].into() } else { Default::default() },
    }
}

fn outside(references: &[String]) -> (Outside, Seen, Arc<Recorder>) {
    let seen: Seen = Arc::new(Mutex::new(network(true)));
    let (looked, told) = (Arc::clone(&seen), Arc::new(Recorder::default()));
    let look: Look = Arc::new(move || Some(looked.lock().unwrap().clone()));
    let sink = Arc::clone(&told) as _;
    (Outside::start_with("n1", sink, Arc::new(BootClock), references.to_vec(), look), seen, told)
}

fn verdicts(told: &Recorder) -> Vec<String> {
    let verdict = |report| match report {
        Report::Event(event) => match event.data {
            EventData::NodeObserverSuspect(it) => Some(it.verdict),
            _ => None,
        },
        _ => None,
    };
    told.reports().into_iter().filter_map(verdict).collect()
}

async fn until(observer: &mut watch::Receiver<Observer>, is: impl Fn(&Observer) -> bool) {
    let waited = timeout(Duration::from_secs(20), observer.wait_for(|it| is(it))).await;
    waited.expect("it comes in time").unwrap();
}

#[tokio::test]
async fn a_lost_link_holds_the_very_failure_that_shows_it_and_a_mended_one_ends_it() {
    let (outside, seen, told) = outside(&[]);
    let mut observer = outside.observer();
    outside.outcome("target a", "10.0.0.1", false);
    assert_eq!(*observer.borrow(), Observer::Sound, "the network is there: it is believed");
    tokio::time::sleep(LOOKS).await;
    *seen.lock().unwrap() = network(false);
    outside.outcome("target here", "127.0.0.1", false);
    assert_eq!(*observer.borrow(), Observer::Sound, "for what is here the network is nothing");
    outside.outcome("target a", "10.0.0.1", false);
    assert!(matches!(*observer.borrow(), Observer::Suspect { confirmed: true, .. }));
    *seen.lock().unwrap() = network(true);
    until(&mut observer, |it| *it == Observer::Sound).await;
    let verdicts = verdicts(&told);
    assert_eq!(verdicts.len(), 2, "{verdicts:?}");
    assert!(verdicts[0].contains("default route is gone"), "{verdicts:?}");
    assert!(verdicts[1].starts_with("recovered"), "{verdicts:?}");
}

#[tokio::test]
async fn references_are_asked_at_a_failure_and_one_that_refuses_is_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (well, _, told) = outside(&[free.to_string()]);
    let mut observer = well.observer();
    well.outcome("target a", "10.0.0.1", false);
    assert!(matches!(*observer.borrow(), Observer::Suspect { confirmed: false, .. }));
    until(&mut observer, |it| *it == Observer::Sound).await;
    assert!(verdicts(&told).is_empty());

    let nowhere = ["no-such-name.invalid:1".to_owned(), "256.0.0.1:1".to_owned()];
    let (cut, _, told) = outside(&nowhere);
    let mut observer = cut.observer();
    cut.outcome("target a", "10.0.0.1", false);
    until(&mut observer, |it| matches!(it, Observer::Suspect { confirmed: true, .. })).await;
    assert!(verdicts(&told)[0].contains("no-such-name.invalid"), "{:?}", verdicts(&told));
}

#[test]
fn names_and_addresses_of_this_machine_are_not_elsewhere() {
    for here in
        ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LOCALHOST.", "a.localhost"]
    {
        assert!(!is_elsewhere(here), "{here}");
    }
    for there in ["10.0.0.1", "fe80::1", "example.com", "localhost.example.com"] {
        assert!(is_elsewhere(there), "{there}");
    }
}
