//! The retry budget (S17): retries are a share of the requests, so that they never make an overload worse. Pure.

use hale_health::Time;

/// How many seconds are looked back.
const SECONDS: usize = 10;

/// Counts requests and retries of the last ten seconds, second by second.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    ratio: f64,
    per_second: u32,
    buckets: [Bucket; SECONDS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    second: u64,
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// `ratio` retries per request, and `per_second` however few the requests.
    pub(crate) fn new(ratio: f64, per_second: u32) -> Self {
        Self { ratio, per_second, buckets: [Bucket::default(); SECONDS] }
    }

    /// Counts a request.
    pub(crate) fn request(&mut self, now: Time) {
        let bucket = self.bucket(now);
        bucket.requests = bucket.requests.saturating_add(1);
    }

    /// Whether one more retry is within the budget; counts it if so.
    pub(crate) fn retry(&mut self, now: Time) -> bool {
        let oldest = second(now).saturating_sub(SECONDS as u64 - 1);
        let recent = self.buckets.iter().filter(|bucket| bucket.second >= oldest);
        let (requests, retries) = recent.fold((0_u64, 0_u64), |(requests, retries), bucket| {
            (requests + u64::from(bucket.requests), retries + u64::from(bucket.retries))
        });
        #[expect(clippy::cast_precision_loss, reason = "a share of a count needs no last digit")]
        let allowed = self.ratio * requests as f64 + f64::from(self.per_second) * SECONDS as f64;
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let granted = retries as f64 + 1.0 <= allowed;
        if granted {
            self.bucket(now).retries += 1;
        }
        granted
    }

    fn bucket(&mut self, now: Time) -> &mut Bucket {
        let second = second(now);
        let bucket = &mut self.buckets[usize::try_from(second % SECONDS as u64).unwrap_or(0)];
        if bucket.second != second {
            *bucket = Bucket { second, ..Bucket::default() };
        }
        bucket
    }
}

const fn second(now: Time) -> u64 {
    now.as_nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &mut RetryBudget, now: Time) -> usize {
        std::iter::from_fn(|| budget.retry(now).then_some(())).take(100_000).count()
    }

    #[test]
    fn few_requests_may_always_be_repeated() {
        let mut budget = RetryBudget::new(0.2, 10);
        assert_eq!(granted(&mut budget, Time::from_secs(100)), 100);
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_repeated() {
        let mut budget = RetryBudget::new(0.2, 10);
        let now = Time::from_secs(100);
        (0..1000).for_each(|_| budget.request(now));
        assert_eq!(granted(&mut budget, now), 300);
    }

    #[test]
    fn what_is_older_than_ten_seconds_is_forgotten() {
        let mut budget = RetryBudget::new(0.0, 1);
        assert_eq!(granted(&mut budget, Time::from_millis(100_999)), 10);
        assert_eq!(granted(&mut budget, Time::from_millis(109_999)), 0);
        assert_eq!(granted(&mut budget, Time::from_millis(110_000)), 10);
    }
}
