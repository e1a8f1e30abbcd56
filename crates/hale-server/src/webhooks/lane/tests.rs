use hale_model::event::{EventData, NewEvent, NodeStarted};

use super::*;

fn event(id: u64) -> Arc<Event> {
    Arc::new(Event::new(
        id,
        NewEvent {
            time: Timestamp::UNIX_EPOCH,
            source: "/nodes/a".into(),
            subject: "a".into(),
            data: EventData::NodeStarted(NodeStarted { version: "1".into() }),
        },
    ))
}

fn lane() -> Lane {
    Lane::new(WebhookCursor { name: "ops".into(), after: 10, ..WebhookCursor::default() })
}

/// A lane, its clock, and what was sent: event and when, in seconds.
struct Sim {
    lane: Lane,
    now: Time,
    stored: Vec<u64>,
    sent: Vec<(u64, u64)>,
}

impl Sim {
    fn new(stored: &[u64]) -> Self {
        Self { lane: lane(), now: Time::ZERO, stored: stored.to_vec(), sent: Vec::new() }
    }

    /// Goes on until there is nothing to do, with a receiver that answers so.
    fn run(&mut self, mut answer: impl FnMut(u64, u64) -> Attempted) {
        for _ in 0..100_000 {
            match self.lane.next(self.now) {
                Next::Send { event, .. } => {
                    let at = self.now.since(Time::ZERO).as_secs();
                    self.sent.push((event.id, at));
                    self.lane.attempted(self.now, Timestamp::UNIX_EPOCH, answer(event.id, at));
                }
                Next::Wait { until } => self.now = until,
                Next::Events { after } => {
                    let newer: Vec<_> =
                        self.stored.iter().filter(|id| **id > after).take(3).map(|id| event(*id)).collect();
                    let Some(last) = newer.last().map(|it| it.id) else { return };
                    self.lane.events(newer, last);
                }
                Next::Find { event: id } => {
                    self.lane.found(id, self.stored.contains(&id).then(|| event(id)));
                }
                Next::Nothing => return,
            }
        }
        panic!("it never comes to an end");
    }
}

fn taken(_: u64, _: u64) -> Attempted {
    judge(204, None)
}

fn down(_: u64, _: u64) -> Attempted {
    Attempted::Failed { why: "connection refused".into(), retry_after: None }
}

#[test]
fn events_go_in_order_once_each() {
    let mut sim = Sim::new(&[11, 12, 15, 20, 21]);
    sim.run(taken);
    assert_eq!(sim.sent, [(11, 0), (12, 0), (15, 0), (20, 0), (21, 0)]);
    assert_eq!(sim.lane.cursor().after, 21);
    assert_eq!(sim.lane.unwritten(), Unwritten::Delivered);
}

#[test]
fn a_failed_attempt_is_made_again_after_2_4_8_16_and_32_seconds_and_then_given_up() {
    let mut sim = Sim::new(&[11, 12]);
    sim.run(|id, at| if id == 11 { down(id, at) } else { taken(id, at) });
    assert_eq!(sim.sent, [(11, 0), (11, 2), (11, 6), (11, 14), (11, 30), (11, 62), (12, 62)]);
    let cursor = sim.lane.cursor();
    assert_eq!(cursor.after, 12);
    assert_eq!(cursor.dead.len(), 1);
    assert_eq!((cursor.dead[0].event, cursor.dead[0].attempts), (11, 6));
    assert_eq!(cursor.dead[0].reason, "connection refused");
}

#[test]
fn a_receiver_that_comes_back_gets_what_it_missed() {
    let mut sim = Sim::new(&[11, 12, 13]);
    sim.run(|id, at| if at < 20 { down(id, at) } else { taken(id, at) });
    assert_eq!(sim.sent.iter().filter(|(_, at)| *at >= 20).map(|it| it.0).collect::<Vec<_>>(), [11, 12, 13]);
    assert!(sim.lane.cursor().dead.is_empty());
}

#[test]
fn what_will_not_change_is_given_up_at_once() {
    for status in [301, 400, 401, 404, 410, 418] {
        let mut sim = Sim::new(&[11, 12]);
        sim.run(|id, _| judge(if id == 11 { status } else { 200 }, None));
        assert_eq!(sim.sent, [(11, 0), (12, 0)], "{status}");
        assert_eq!(sim.lane.cursor().dead[0].attempts, 1);
    }
}

#[test]
fn what_may_change_is_tried_again() {
    for status in [408, 425, 429, 500, 502, 503, 599] {
        let mut sim = Sim::new(&[11]);
        sim.run(|_, at| judge(if at == 0 { status } else { 200 }, None));
        assert_eq!(sim.sent, [(11, 0), (11, 2)], "{status}");
    }
}

#[test]
fn a_receiver_may_ask_for_a_longer_wait_within_bounds_and_for_no_shorter_one() {
    for (asked, waited) in [(0, 2), (1, 2), (60, 60), (100_000, 300)] {
        let mut sim = Sim::new(&[11]);
        sim.run(|_, at| judge(if at == 0 { 429 } else { 200 }, Some(Duration::from_secs(asked))));
        assert_eq!(sim.sent, [(11, 0), (11, waited)], "asked for {asked} s");
    }
}

#[test]
fn only_the_last_hundred_that_were_given_up_are_kept() {
    let stored: Vec<u64> = (11..=160).collect();
    let mut sim = Sim::new(&stored);
    sim.run(|_, _| judge(404, None));
    let dead: Vec<u64> = sim.lane.cursor().dead.iter().map(|it| it.event).collect();
    assert_eq!(dead, (61..=160).collect::<Vec<u64>>());
}

#[test]
fn what_was_given_up_is_sent_again_by_hand_and_forgotten_when_it_is_taken() {
    let mut sim = Sim::new(&[11, 12, 13]);
    sim.run(|_, _| judge(404, None));
    sim.sent.clear();
    sim.lane.replay(1, &BTreeSet::from([11, 13]));
    sim.run(|id, _| judge(if id == 11 { 200 } else { 410 }, None));
    assert_eq!(sim.sent, [(11, 0), (13, 0)]);
    let cursor = sim.lane.cursor();
    assert_eq!(cursor.dead.iter().map(|it| (it.event, it.attempts)).collect::<Vec<_>>(), [(12, 1), (13, 2)]);
    assert_eq!((cursor.replayed, cursor.after), (1, 13));
    assert_eq!(sim.lane.unwritten(), Unwritten::Decided);

    // The same request again, as after a takeover, does nothing.
    sim.sent.clear();
    sim.lane.replay(1, &BTreeSet::from([12]));
    sim.run(taken);
    assert_eq!(sim.sent, []);
}

#[test]
fn a_replay_to_a_receiver_that_is_still_down_holds_nothing_up() {
    let mut sim = Sim::new(&[11, 12]);
    sim.run(|_, _| judge(404, None));
    sim.sent.clear();
    sim.lane.replay(1, &BTreeSet::from([11, 12]));
    sim.run(down);
    assert_eq!(sim.sent, [(11, 0)]);
    assert_eq!(sim.lane.cursor().dead.len(), 2);
    assert_eq!(sim.lane.cursor().replayed, 1);
}

#[test]
fn an_event_that_is_no_longer_kept_can_not_be_sent_again_and_says_so() {
    let mut sim = Sim::new(&[11]);
    sim.lane.replay(1, &BTreeSet::from([7]));
    sim.run(taken);
    assert_eq!(sim.sent, [(11, 0)]);
    assert_eq!(sim.lane.cursor().replayed, 1);
}

#[test]
fn a_paused_lane_sends_nothing_and_goes_on_where_it_was() {
    let mut sim = Sim::new(&[11, 12]);
    sim.lane.changed(true);
    sim.run(taken);
    assert_eq!(sim.sent, []);
    sim.lane.changed(false);
    sim.run(taken);
    assert_eq!(sim.sent, [(11, 0), (12, 0)]);
}

#[test]
fn a_change_of_the_webhook_ends_the_wait_and_loses_nothing() {
    let mut sim = Sim::new(&[11, 12]);
    let Next::Events { after } = sim.lane.next(Time::ZERO) else { panic!() };
    assert_eq!(after, 10);
    sim.lane.events(vec![event(11), event(12)], 12);
    assert!(matches!(sim.lane.next(Time::ZERO), Next::Send { attempt: 1, .. }));
    sim.lane.attempted(Time::ZERO, Timestamp::UNIX_EPOCH, down(11, 0));
    assert!(matches!(sim.lane.next(Time::ZERO), Next::Wait { .. }));
    sim.lane.changed(false);
    sim.run(taken);
    assert_eq!(sim.sent, [(11, 0), (12, 0)]);
}

#[test]
fn the_cursor_never_passes_an_event_that_still_waits() {
    let mut lane = lane();
    lane.events(vec![event(12), event(30)], 40);
    assert!(matches!(lane.next(Time::ZERO), Next::Send { .. }));
    assert_eq!(lane.cursor().after, 10);
    lane.attempted(Time::ZERO, Timestamp::UNIX_EPOCH, taken(12, 0));
    assert_eq!(lane.cursor().after, 29, "what is between was not wanted");
    assert!(matches!(lane.next(Time::ZERO), Next::Send { .. }));
    assert_eq!(lane.cursor().after, 29);
    lane.attempted(Time::ZERO, Timestamp::UNIX_EPOCH, taken(30, 0));
    assert_eq!(lane.cursor().after, 40);
}

#[test]
fn events_that_are_not_wanted_move_the_cursor_without_hurry() {
    let mut lane = lane();
    assert_eq!(lane.next(Time::ZERO), Next::Events { after: 10 });
    lane.events(Vec::new(), 5000);
    assert_eq!((lane.cursor().after, lane.unwritten()), (5000, Unwritten::Passed));
    assert_eq!(lane.next(Time::ZERO), Next::Events { after: 5000 });
}
