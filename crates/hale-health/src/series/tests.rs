use proptest::prelude::*;

use super::*;

const T0: u64 = 1_700_000_100;

fn success(ms: u64) -> Checked {
    Checked::Success(Duration::from_millis(ms))
}

#[test]
fn availability_is_the_share_of_the_known_time_and_a_gap_is_not_known() {
    let mut it = Series::new(0);
    for n in 0..20_u64 {
        let checked = if (5..10).contains(&n) { Checked::Failure } else { success(10) };
        assert_eq!(it.outcome((T0 + n * 10) * 1000, checked), None);
    }
    let open = it.open().clone();
    assert_eq!((open.successes, open.failures), (15, 5));
    assert_eq!((open.up, open.down), (140_000, 50_000));
    // An hour of silence is worth three gaps, and closes the bucket.
    let full = it.outcome((T0 + 3800) * 1000, Checked::Failure).unwrap();
    assert_eq!(full, open);
    assert_eq!(it.open().down, 30_000);
    assert_eq!(Bucket::default().availability(), None);
}

#[test]
fn what_can_not_be_checked_is_neither_up_nor_down() {
    let mut it = Series::new(0);
    for n in 0..6 {
        it.outcome((T0 + n) * 1000, if n % 2 == 0 { success(1) } else { Checked::Error });
    }
    assert_eq!((it.open().errors, it.open().up, it.open().availability()), (3, 4000, Some(1.0)));
}

#[test]
fn buckets_of_many_probes_end_at_different_moments() {
    let ends: std::collections::BTreeSet<u64> = (0..300)
        .map(|spread| {
            let mut it = Series::new(spread);
            it.outcome(T0 * 1000, success(1));
            assert!(it.open().start <= T0 && T0 < it.open().end());
            it.open().end()
        })
        .collect();
    assert_eq!(ends.len(), 300);
}

#[test]
fn times_to_detect_and_to_recover_are_averages() {
    let mut it = Series::new(0);
    for n in 1..=2 {
        it.failed(T0 * 1000, Duration::from_secs(n));
        it.recovered(T0 * 1000, Duration::from_secs(10 * n));
    }
    assert_eq!(it.open().mean_detect(), Some(Duration::from_millis(1500)));
    assert_eq!(it.open().mean_recover(), Some(Duration::from_secs(15)));
    assert_eq!(Bucket::default().mean_detect(), None);
}

#[test]
fn a_well_probe_takes_little_room() {
    let mut it = Series::new(7);
    let mut text = String::new();
    let day = T0 / DAY + 1;
    for second in (day * DAY..(day + 1) * DAY).step_by(10) {
        let full = it.outcome(second * 1000, success(3 + second % 4));
        full.into_iter().for_each(|it| it.write(&mut text));
    }
    assert!(text.len() < 288 * 24, "{} bytes for a day", text.len());
    let coarse = text::coarser(day, &text);
    assert!(coarse.len() < 24 * 30, "{} bytes for an old day", coarse.len());
}

#[test]
fn an_older_day_by_the_hour_says_the_same() {
    let mut text = String::new();
    let day = T0 / DAY;
    for n in 0..40 {
        let mut bucket = Bucket::new(day * DAY + n * FINE, FINE);
        bucket.successes = 1;
        bucket.up = 1000;
        bucket.latency.record(Duration::from_millis(n));
        bucket.write(&mut text);
    }
    let coarse = text::coarser(day, &text);
    let (fine, coarse) = (text::read(day, &text), text::read(day, &coarse));
    assert_eq!((fine.len(), coarse.len()), (40, 4));
    let (from, until) = (day * DAY, (day + 1) * DAY);
    assert_eq!(total(&fine, from, until), total(&coarse, from, until));
    assert_eq!(total(&fine, from, from + 600).successes, 2);
}

#[test]
fn what_can_not_be_read_is_passed_over() {
    let mut text = String::new();
    let mut bucket = Bucket::new(0, FINE);
    bucket.successes = 3;
    bucket.write(&mut text);
    let text = format!(".!!{text}.{text}.A.zzzzzzzzzzzzzzzzzzzzzzzzzzz");
    let read = text::read(0, &text);
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].successes, 6, "of the same time: added up");
}

fn bucket() -> impl Strategy<Value = Bucket> {
    let counts = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let times = (0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40, 0..1_u64 << 40);
    let latency = proptest::collection::vec(0..1_u64 << 36, 0..30);
    (0..DAY, any::<bool>(), counts, times, latency).prop_map(|(start, hour, counts, times, latency)| {
        let mut it = Bucket::new(start, if hour { HOUR } else { FINE });
        (it.successes, it.failures, it.errors, it.incidents, it.recoveries) = counts;
        (it.up, it.down) = (times.0 * 100, times.1 * 100);
        if it.incidents > 0 || it.recoveries > 0 {
            (it.detect, it.recover) = (times.2, times.3);
        }
        latency.into_iter().for_each(|us| it.latency.record(Duration::from_micros(us)));
        it
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(bucket in bucket()) {
        let mut text = String::new();
        bucket.write(&mut text);
        prop_assert_eq!(text::read(0, &text), [bucket]);
    }

    #[test]
    fn no_text_is_too_wrong_to_be_read(text in "[.A-Za-z0-9_-]{0,80}") {
        let _ = text::read(3, &text);
    }

    #[test]
    fn quantiles_are_near(mut values in proptest::collection::vec(64_u64..100_000_000, 1..200), share in 0.0..1.0_f64) {
        let mut sketch = Sketch::default();
        values.iter().for_each(|us| sketch.record(Duration::from_micros(*us)));
        values.sort_unstable();
        let rank = ((share * values.len() as f64).ceil() as usize).max(1);
        let exact = values[rank - 1] as f64;
        let near = sketch.quantile(share).unwrap().as_micros() as f64;
        prop_assert!((near - exact).abs() <= exact * 0.0626 + 1.0, "{near} for {exact}");
    }
}
