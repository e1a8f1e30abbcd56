use std::{net::Ipv4Addr, time::Duration};

use hale_api::{endpoints::Endpoint, model::spec::Balance};
use proptest::prelude::*;

use super::*;

fn set(ready: &[bool]) -> Arc<EndpointSet> {
    let endpoints = ready.iter().enumerate().map(|(at, ready)| Endpoint {
        replica: format!("web-{at}"),
        node: "local".into(),
        address: Ipv4Addr::LOCALHOST.into(),
        port: 1000 + u16::try_from(at).unwrap(),
        weight: 1,
        zone: None,
        ready: *ready,
        serving: true,
        draining: false,
        generation: 1,
        incarnation: 1,
        kept: None,
    });
    Arc::new(EndpointSet {
        service: "web".into(),
        revision: 1,
        balance: Balance::LeastRequest,
        none_ready_since: None,
        endpoints: endpoints.collect(),
        traceparent: None,
    })
}

fn run(replica: &str, incarnation: u64) -> Run {
    Run { replica: replica.to_owned(), generation: 1, incarnation }
}

fn table(ready: &[bool]) -> (watch::Sender<Arc<EndpointSet>>, Arc<Table>) {
    let (sender, source) = watch::channel(set(ready));
    (sender, Arc::new(Table::new(source, &Options::default(), 1, Time::ZERO)))
}

#[test]
fn a_set_is_in_force_from_the_moment_it_is_sent() {
    let (sender, table) = table(&[true, true]);
    sender.send_replace(set(&[false, true]));
    for _ in 0..100 {
        assert_eq!(table.pick(Time::ZERO, &[], Try::First).unwrap().instance().run.replica, "web-1");
    }
    sender.send_replace(set(&[false, false]));
    assert_eq!(table.pick(Time::ZERO, &[], Try::First).unwrap_err(), Nobody::Ready { since: None });
}

#[test]
fn requests_are_counted_at_an_instance_that_has_left_the_set() {
    let (sender, table) = table(&[true]);
    let lease = table.pick(Time::ZERO, &[], Try::First).unwrap();
    sender.send_replace(set(&[]));
    assert!(table.anybody(Time::ZERO).is_err());
    assert_eq!(table.in_flight(&run("web-0", 1)), 1);
    drop(lease);
    assert_eq!(table.in_flight(&run("web-0", 1)), 0);
}

fn pends<F: Future<Output = ()>>(wait: &mut std::pin::Pin<Box<F>>) -> bool {
    wait.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[tokio::test]
async fn a_run_whose_placement_was_granted_anew_has_not_drained_by_its_old_number() {
    let (sender, table) = table(&[true]);
    let lease = table.pick(Time::ZERO, &[], Try::First).unwrap();
    let mut granted = EndpointSet::clone(&set(&[true]));
    granted.endpoints[0].generation = 4;
    sender.send_replace(Arc::new(granted.clone()));
    assert!(Arc::ptr_eq(table.pick(Time::ZERO, &[], Try::First).unwrap().instance(), lease.instance()));
    let known = [1, 4].map(|generation| Run { generation, ..run("web-0", 1) });
    let mut waits: Vec<_> = known.iter().map(|it| Box::pin(Arc::clone(&table).drained(it.clone()))).collect();
    assert!(waits.iter_mut().all(pends), "it takes requests");
    granted.endpoints[0].ready = false;
    sender.send_replace(Arc::new(granted));
    table.tidy(Time::ZERO, Duration::ZERO);
    assert_eq!(known.map(|it| table.in_flight(&it)), [1, 1]);
    assert!(waits.iter_mut().all(pends), "one is in flight");
    drop(lease);
    for wait in waits {
        wait.await;
    }
}

#[test]
fn an_ejected_instance_comes_back_when_its_time_is_over() {
    let (_sender, table) = table(&[true, true]);
    let now = Time::from_secs(100);
    let sick = Arc::clone(table.pick(now, &[], Try::First).unwrap().instance());
    let ejected: Vec<_> = (0..5).map(|_| table.failed(&sick, now)).collect();
    assert_eq!(ejected, [None, None, None, None, Some(Duration::from_secs(30))]);
    let picked =
        |now| (0..50).any(|_| Arc::ptr_eq(table.pick(now, &[], Try::First).unwrap().instance(), &sick));
    assert!(!picked(now + Duration::from_millis(29_999)));
    assert!(picked(now + Duration::from_secs(30)));
}

proptest! {
    /// Whatever is ready, fails and was tried: someone is picked as long as one that is ready was not tried (H31).
    #[test]
    fn ejection_never_empties_a_service(
        ready in prop::collection::vec(any::<bool>(), 1..12),
        failures in prop::collection::vec(0_usize..12, 0..200),
    ) {
        let (_sender, table) = table(&ready);
        let mut now = Time::from_secs(1);
        let wanted = ready.iter().filter(|it| **it).count();
        for at in failures {
            let instance = table.state().entries.get(at).map(|entry| Arc::clone(&entry.instance));
            if let Some(instance) = instance {
                table.failed(&instance, now);
            }
            now += Duration::from_millis(700);
            let mut tried = Vec::new();
            while let Ok(lease) = table.pick(now, &tried, Try::Anew) {
                prop_assert!(!tried.iter().any(|it| Arc::ptr_eq(it, lease.instance())));
                tried.push(Arc::clone(lease.instance()));
            }
            prop_assert_eq!(tried.len(), wanted);
        }
    }
}
