//! Connecting, and connecting again (R3).

use std::{future::Future, time::Duration};

use hale_health::{Backoff, BackoffPolicy};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{ErrorClass, Heard, Link, Message, SourceSettings, Taken, What};

/// The share of a wait that chance adds or takes.
const JITTER: f64 = 0.25;

/// However long a server asks to be left alone: no longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// A connection that stood this long did what it is for, whatever was heard on it; where waits are shorter, the longest
/// of them.
const SETTLED: Duration = Duration::from_secs(10);

/// Why a connection ended or did not come about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) class: ErrorClass,
    pub(crate) error: String,
    /// How long the server asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(class: ErrorClass, error: impl Into<String>) -> Self {
        Self { class, error: error.into(), retry_after: None }
    }

    pub(crate) fn network(error: impl Into<String>) -> Self {
        Self::new(ErrorClass::Network, error)
    }

    pub(crate) fn timeout(error: impl Into<String>) -> Self {
        Self::new(ErrorClass::Timeout, error)
    }

    pub(crate) fn protocol(error: impl Into<String>) -> Self {
        Self::new(ErrorClass::Protocol, error)
    }
}

/// Speaks to one kind of source.
pub(crate) trait Connector: Send {
    /// One connection, made of nothing that an earlier one left but the cursor, from its beginning to its end. Dropped
    /// in the middle when the responder ends.
    fn connect(&mut self, line: &mut Line) -> impl Future<Output = Failure> + Send;
}

/// Connects, and again whenever the connection is lost, until `end`.
pub(crate) async fn keep(mut connector: impl Connector, mut line: Line, end: CancellationToken) {
    end.run_until_cancelled(async {
        loop {
            let failure = connector.connect(&mut line).await;
            sleep(line.failed(failure).await).await;
        }
    })
    .await;
}

/// What a source says to the driver, and the waits between its connections.
#[derive(Debug)]
pub(crate) struct Line {
    voice: Voice,
    policy: BackoffPolicy,
    /// The first wait as it is configured: no server makes it shorter.
    least: Duration,
    backoff: Backoff,
    up_since: Option<Instant>,
    down_since: Option<Instant>,
    attempt: u32,
    chance: Chance,
}

impl Line {
    pub(crate) fn new(
        source: &str,
        out: mpsc::Sender<Message>,
        settings: &SourceSettings,
        seed: u64,
    ) -> Self {
        let policy = BackoffPolicy {
            initial: settings.initial_delay.min(settings.max_delay),
            max: settings.max_delay,
            multiplier: 2.0,
            jitter: JITTER,
        };
        Self {
            voice: Voice { source: source.to_owned(), out },
            least: policy.initial,
            policy,
            backoff: Backoff::new(),
            up_since: None,
            down_since: None,
            attempt: 0,
            chance: Chance(seed),
        }
    }

    /// The source's name.
    pub(crate) fn source(&self) -> &str {
        &self.voice.source
    }

    /// It is connected.
    pub(crate) async fn up(&mut self) {
        if self.up_since.is_some() {
            return;
        }
        let now = Instant::now();
        self.up_since = Some(now);
        self.attempt = 0;
        let downtime = self.down_since.take().map(|since| (now - since).as_secs_f64());
        self.tell(Link::Up { downtime }).await;
    }

    /// The connection does what it is for, as what was heard on it shows: the next one is made without a long wait (R3).
    /// That it opened shows nothing: some close again at once.
    pub(crate) const fn works(&mut self) {
        self.backoff.reset();
    }

    /// The other side asks for another first wait; never for a shorter one than is configured.
    pub(crate) fn first_wait(&mut self, wait: Duration) {
        self.policy.initial = wait.clamp(self.least, self.policy.max);
    }

    /// The connection ended, or did not come about. Tells how long to wait before the next.
    pub(crate) async fn failed(&mut self, failure: Failure) -> Duration {
        let now = Instant::now();
        let lasted = self.up_since.take().map(|since| now - since);
        if lasted.is_some_and(|it| it >= SETTLED.min(self.policy.max)) {
            self.backoff.reset();
        }
        let wait = self.wait(&failure);
        let (class, error, retry_in) = (failure.class, failure.error, wait.as_secs_f64());
        let link = match lasted {
            Some(lasted) => {
                self.down_since = Some(now);
                Link::Down { lasted: lasted.as_secs_f64(), class, error, retry_in }
            }
            None => {
                self.attempt = self.attempt.saturating_add(1);
                Link::Failed { class, error, attempt: self.attempt, retry_in }
            }
        };
        self.tell(link).await;
        wait
    }

    fn wait(&mut self, failure: &Failure) -> Duration {
        let chance = self.chance.next();
        let grown = self.backoff.next(&self.policy, chance);
        // Whom it does not believe now it hardly will in a second.
        let slow = BackoffPolicy { initial: self.policy.max, ..self.policy };
        let own = if failure.class == ErrorClass::Auth { Backoff::new().peek(&slow, chance) } else { grown };
        // Never sooner than asked for; later by chance, so that not all come back at once.
        let asked = failure.retry_after.map(|it| it.min(MAX_RETRY_AFTER).mul_f64(1.0 + JITTER * chance));
        asked.map_or(own, |asked| asked.max(own))
    }

    /// Something was heard.
    pub(crate) async fn hear(&self, what: What, cursor: Option<String>) {
        self.voice.hear(what, cursor).await;
    }

    /// What many can speak with at once.
    pub(crate) fn voice(&self) -> Voice {
        self.voice.clone()
    }

    async fn tell(&self, link: Link) {
        self.voice.send(Message::Link(self.voice.source.clone(), link)).await;
    }
}

/// The way to the driver.
#[derive(Debug, Clone)]
pub(crate) struct Voice {
    source: String,
    out: mpsc::Sender<Message>,
}

impl Voice {
    /// Something was heard.
    pub(crate) async fn hear(&self, what: What, cursor: Option<String>) {
        let heard = Heard { source: self.source.clone(), what, cursor, answer: None };
        self.send(Message::Heard(heard)).await;
    }

    /// Something was heard whose sender waits for an answer.
    pub(crate) async fn ask(&self, what: What) -> oneshot::Receiver<Taken> {
        let (answer, taken) = oneshot::channel();
        let heard = Heard { source: self.source.clone(), what, cursor: None, answer: Some(answer) };
        self.send(Message::Heard(heard)).await;
        taken
    }

    /// Waits while the driver is busy: a stream is not read on meanwhile, and a sender not answered.
    async fn send(&self, message: Message) {
        if self.out.send(message).await.is_err() {
            // Without a driver there is no source for long.
            std::future::pending::<()>().await;
        }
    }
}

/// Chance from a seed: SplitMix64.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// In `[0, 1)`.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        f64::from((mixed >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seed: u64) -> (Line, mpsc::Receiver<Message>) {
        let (out, messages) = mpsc::channel(1000);
        (Line::new("a", out, &SourceSettings::default(), seed), messages)
    }

    fn network() -> Failure {
        Failure::network("refused")
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_from_one_second_to_sixty_and_chance_moves_them_by_a_quarter_at_most() {
        let mut spread = [f64::MAX, f64::MIN];
        for seed in 0..200 {
            let (mut line, _messages) = line(seed);
            for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
                let wait = line.failed(network()).await.as_secs_f64();
                assert!(
                    (expected * 0.75..=(expected * 1.25_f64).min(60.0)).contains(&wait),
                    "{wait} for {expected}"
                );
                if expected == 1.0 {
                    spread = [spread[0].min(wait), spread[1].max(wait)];
                }
            }
        }
        assert!(spread[0] < 0.8 && spread[1] > 1.2, "{spread:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_works_begins_the_waits_anew_and_one_that_only_stands_does_not() {
        let (mut line, _messages) = line(1);
        for _ in 0..6 {
            line.failed(network()).await;
        }
        line.up().await;
        assert!(line.failed(network()).await > Duration::from_secs(20));
        line.up().await;
        line.works();
        assert!(line.failed(network()).await < Duration::from_secs(2));
        for _ in 0..6 {
            line.failed(network()).await;
        }
        line.up().await;
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(line.failed(network()).await < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_ask_for_a_longer_first_wait_and_not_for_a_shorter_one() {
        for (asked, expected) in [(0, 1.0), (500, 1.0), (5000, 5.0), (1_000_000_000, 60.0)] {
            let (mut line, _messages) = line(1);
            line.first_wait(Duration::from_millis(asked));
            let wait = line.failed(network()).await.as_secs_f64();
            assert!((expected * 0.75..=expected * 1.25).contains(&wait), "{wait} for {asked}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_believed_waits_long_at_once() {
        let (mut line, _messages) = line(1);
        let wait = line.failed(Failure::new(ErrorClass::Auth, "401")).await;
        assert!((45.0..=60.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_left_alone_for_as_long_as_it_asks_within_bounds() {
        let after = |seconds| Failure { retry_after: Some(Duration::from_secs(seconds)), ..network() };
        let (mut line, _messages) = line(1);
        let wait = line.failed(after(30)).await.as_secs_f64();
        assert!((30.0..=37.5).contains(&wait), "{wait}");
        let wait = line.failed(after(0)).await.as_secs_f64();
        assert!((1.5..=2.5).contains(&wait), "{wait}");
        let wait = line.failed(after(1_000_000_000)).await.as_secs_f64();
        assert!((600.0..=750.0).contains(&wait), "{wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_driver_is_told_of_each_change_once_with_attempts_and_downtime() {
        let (mut line, mut messages) = line(1);
        line.failed(network()).await;
        line.failed(network()).await;
        line.up().await;
        line.up().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        line.failed(network()).await;
        tokio::time::advance(Duration::from_secs(7)).await;
        line.failed(network()).await;
        line.up().await;
        let mut told = Vec::new();
        while let Ok(Message::Link(_, link)) = messages.try_recv() {
            told.push(match link {
                Link::Up { downtime } => format!("up {downtime:?}"),
                Link::Down { lasted, class, .. } => format!("down {lasted} {}", class.as_str()),
                Link::Failed { attempt, .. } => format!("failed {attempt}"),
            });
        }
        assert_eq!(told, ["failed 1", "failed 2", "up None", "down 5 network", "failed 1", "up Some(7.0)"]);
    }

    struct Never;

    impl Connector for Never {
        async fn connect(&mut self, line: &mut Line) -> Failure {
            line.up().await;
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_ends_at_once_however_it_stands() {
        let (line, mut messages) = line(1);
        let end = CancellationToken::new();
        let task = tokio::spawn(keep(Never, line, end.clone()));
        assert!(matches!(messages.recv().await, Some(Message::Link(..))));
        end.cancel();
        task.await.unwrap();
    }
}
