use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn request() -> DiagnosticsRecord {
    DiagnosticsRecord {
        id: "r1".to_owned(),
        object_id: Some("o1".to_owned()),
        replica: None,
        agent_id: "a1".to_owned(),
        status: DiagnosticsStatus::Pending,
        requested_by: "ann".to_owned(),
        created_at: at(0),
        claimed_at: None,
        completed_at: None,
        expires_at: at(3600),
        error: None,
        claims: 0,
        digest: None,
    }
}

#[test]
fn a_request_is_taken_answered_and_over() {
    let claimed = claim(&request(), CLAIM_LASTS, at(1)).unwrap();
    assert_eq!(
        (claimed.status, claimed.claims, claimed.claimed_at),
        (DiagnosticsStatus::Claimed, 1, Some(at(1)))
    );
    assert_eq!(claim(&claimed, CLAIM_LASTS, at(2)), Err(StepError::Taken { until: at(121) }));
    let Ok(Posted::Ended(done)) = post(&claimed, None, "d1".to_owned(), at(3)) else { panic!("it is taken") };
    assert_eq!((done.status, done.completed_at), (DiagnosticsStatus::Completed, Some(at(3))));
    assert_eq!(claim(&done, CLAIM_LASTS, at(4)), Err(StepError::Over(DiagnosticsStatus::Completed)));
    assert_eq!(run_out(&done, CLAIM_LASTS, at(4000)), None);
    assert_eq!(
        post(&done, None, "d1".to_owned(), at(4)),
        Ok(Posted::Again),
        "the same once more is no mistake"
    );
    let other = post(&done, None, "d2".to_owned(), at(4));
    assert_eq!(other, Err(StepError::Over(DiagnosticsStatus::Completed)));
}

#[test]
fn a_claim_without_a_result_is_given_again_and_after_the_third_the_request_has_failed() {
    let mut it = request();
    for round in 1..=3 {
        let from = i64::from(round) * 200;
        it = claim(&it, CLAIM_LASTS, at(from)).unwrap();
        assert_eq!(it.claims, round);
        assert_eq!(run_out(&it, CLAIM_LASTS, at(from + 119)), None, "on one side of the boundary");
        let out = run_out(&it, CLAIM_LASTS, at(from + 120)).expect("on the other");
        let expected = if round < 3 { DiagnosticsStatus::Pending } else { DiagnosticsStatus::Failed };
        assert_eq!(out.status, expected);
        it = out;
    }
    assert!(it.error.as_deref().unwrap().starts_with("claim_expired"), "{:?}", it.error);
    assert_eq!(it.completed_at, Some(at(720)));
    assert_eq!(claim(&it, CLAIM_LASTS, at(800)), Err(StepError::Over(DiagnosticsStatus::Failed)));
}

#[test]
fn nobody_needs_to_notice_that_a_claim_ran_out_for_it_to_be_given_again() {
    let mut it = claim(&request(), CLAIM_LASTS, at(1)).unwrap();
    assert!(!is_claimable(&it, CLAIM_LASTS, at(120)));
    assert!(is_claimable(&it, CLAIM_LASTS, at(121)));
    it = claim(&it, CLAIM_LASTS, at(121)).unwrap();
    it = claim(&it, CLAIM_LASTS, at(300)).unwrap();
    assert_eq!(it.claims, 3);
    assert_eq!(claim(&it, CLAIM_LASTS, at(500)), Err(StepError::Over(DiagnosticsStatus::Failed)));
}

#[test]
fn a_result_that_comes_late_is_as_good_until_something_else_has_ended_the_request() {
    let claimed = claim(&request(), CLAIM_LASTS, at(1)).unwrap();
    let again = run_out(&claimed, CLAIM_LASTS, at(200)).unwrap();
    assert!(matches!(post(&again, None, "d".to_owned(), at(201)), Ok(Posted::Ended(_))));
    let failed = fail(&claimed, "superseded", at(5)).unwrap();
    assert_eq!(post(&failed, None, "d".to_owned(), at(6)), Err(StepError::Over(DiagnosticsStatus::Failed)));
    assert_eq!(fail(&failed, "superseded", at(7)), None, "an end is an end");
}

#[test]
fn a_request_whose_time_is_over_is_neither_given_nor_answered() {
    let claimed = claim(&request(), CLAIM_LASTS, at(3599)).unwrap();
    assert!(!has_expired(&claimed, at(3599)));
    assert!(has_expired(&claimed, at(3600)));
    assert_eq!(claim(&request(), CLAIM_LASTS, at(3600)), Err(StepError::Expired));
    assert_eq!(post(&claimed, None, "d".to_owned(), at(3600)), Err(StepError::Expired));
}

#[test]
fn whatever_happens_in_whatever_order_an_end_stays_and_claims_never_exceed_three() {
    // A walk over all short sequences of steps: 4 steps, 8 deep.
    fn walk(it: &DiagnosticsRecord, depth: u32, now: i64) {
        assert!(it.claims <= MOST_CLAIMS);
        assert_eq!(it.status.is_final(), it.completed_at.is_some());
        if depth == 0 {
            return;
        }
        let steps = [
            claim(it, CLAIM_LASTS, at(now)).ok(),
            run_out(it, CLAIM_LASTS, at(now)),
            match post(it, None, "d".to_owned(), at(now)) {
                Ok(Posted::Ended(next)) => Some(*next),
                _ => None,
            },
            fail(it, "gone", at(now)),
        ];
        for next in steps.into_iter().flatten() {
            assert!(!it.status.is_final(), "{it:?} became {next:?}");
            walk(&next, depth - 1, now + 70);
        }
    }
    walk(&request(), 8, 1);
}

#[test]
fn a_claim_of_what_a_node_was_asked_for_runs_out_for_good() {
    let asked = DiagnosticsRecord { object_id: None, replica: Some("web-0".to_owned()), ..request() };
    let claimed = claim(&asked, CLAIM_LASTS, at(1)).unwrap();
    assert_eq!(run_out(&claimed, CLAIM_LASTS, at(120)), None);
    let over = run_out(&claimed, CLAIM_LASTS, at(121)).unwrap();
    assert_eq!((over.status, over.claims), (DiagnosticsStatus::Failed, 1));
    assert!(over.error.unwrap().contains("ask again"));
    // Nobody takes it again.
    assert_eq!(claim(&claimed, CLAIM_LASTS, at(121)), Err(StepError::Over(DiagnosticsStatus::Failed)));
}
