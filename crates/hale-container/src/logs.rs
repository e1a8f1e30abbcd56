//! What containers write, followed into the same rotated files as that of processes (N4).
//!
//! The engine keeps the output and gives each line its time; the stored line bears that time. So the files themselves say
//! how far an earlier agent came, and nothing is lost or doubled when the next one goes on: lines before the last stored
//! time are passed over, and as many of exactly that time as are stored.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use futures_util::StreamExt;
use hale_keeper::{LINE_MAX, LogBook, LogLimits, Stream, clock, logs};
use hale_supervisor::runtime::InstanceId;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{
    error::CallError,
    link::Engine,
    shared::{CALL, Shared},
};

/// Batches that wait for the disk. Whoever follows a container waits when it is full: the engine keeps what comes
/// meanwhile. Remarks are dropped then.
const QUEUE: usize = 1024;

/// Lines that are written at once.
const BATCH: usize = 64;

/// How often the size of all files is counted anew: the keeper writes beside us.
const RECOUNT: Duration = Duration::from_secs(30);

/// Between attempts to follow a container again.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];

/// The end of the log that is looked through for how far an earlier agent came, lines and bytes.
const TAIL: (usize, u64) = (2000, 4 << 20);

/// One line, or a piece of one.
#[derive(Debug)]
struct Line {
    stream: Stream,
    whole: bool,
    micros: u64,
    text: Vec<u8>,
}

#[derive(Debug)]
enum Order {
    Open(String),
    Close(String),
    Lines(String, Vec<Line>),
    Remark(String, String),
    /// Answered once all before it is written.
    Written(oneshot::Sender<()>),
}

/// The thread that writes: a slow disk keeps nobody else waiting.
#[derive(Debug)]
pub(crate) struct Writer {
    dir: PathBuf,
    limits: LogLimits,
    orders: OnceLock<mpsc::Sender<Order>>,
}

impl Writer {
    pub(crate) fn start(data_dir: &Path, limits: LogLimits) -> Self {
        Self { dir: data_dir.join("logs"), limits, orders: OnceLock::new() }
    }

    /// Its inbox; the thread begins with the first order.
    fn orders(&self) -> &mpsc::Sender<Order> {
        self.orders.get_or_init(|| {
            let (orders, inbox) = mpsc::channel(QUEUE);
            let (dir, limits) = (self.dir.clone(), self.limits);
            let thread = std::thread::Builder::new().name("hale-containers".to_owned());
            if let Err(error) = thread.spawn(move || write(dir, limits, inbox)) {
                tracing::error!(%error, "the output of containers can't be kept: no thread");
            }
            orders
        })
    }

    async fn send(&self, order: Order) {
        // Fails only where there is no thread, which was told.
        let _ = self.orders().send(order).await;
    }

    /// A line of hale's own; lost where the disk does not keep up.
    pub(crate) fn remark(&self, replica: &str, text: &str) {
        let _ = self.orders().try_send(Order::Remark(replica.to_owned(), text.to_owned()));
    }
}

fn write(dir: PathBuf, limits: LogLimits, mut inbox: mpsc::Receiver<Order>) {
    let mut book = match LogBook::new(dir.clone(), limits) {
        Ok(book) => book,
        Err(error) => {
            return tracing::error!(dir = %dir.display(), %error, "the output of containers can't be kept");
        }
    };
    let mut counted = clock::boot_nanos();
    while let Some(order) = inbox.blocking_recv() {
        let (now, wall) = (clock::boot_nanos(), clock::wall_micros());
        if now.saturating_sub(counted) > u64::try_from(RECOUNT.as_nanos()).unwrap_or(u64::MAX) {
            counted = now;
            book.recount();
        }
        match order {
            Order::Open(replica) => book.open(&replica, now),
            Order::Close(replica) => book.close(&replica, wall),
            Order::Lines(replica, lines) => {
                for line in lines {
                    book.add(&replica, (line.stream, line.whole, &line.text), line.micros, now);
                }
            }
            Order::Remark(replica, text) => {
                book.open(&replica, now);
                book.add(&replica, (Stream::Hale, true, text.as_bytes()), wall, now);
                book.close(&replica, wall);
            }
            Order::Written(answer) => drop(answer.send(())),
        }
    }
}

/// Where following begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// With the container.
    Beginning,
    /// With what is written from this moment on.
    At(Timestamp),
    /// Where what is stored ends.
    Stored,
}

/// How far it has come: the last time of a stored line, and how many of that time are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cursor {
    micros: u64,
    stored: u64,
    /// Lines of that time that were met again since the engine was asked anew; `None`: all that comes is new.
    again: Option<u64>,
}

impl Cursor {
    /// Whether a line of this time is new; counts it.
    const fn takes(&mut self, micros: u64) -> bool {
        if let Some(met) = self.again {
            if micros < self.micros {
                return false;
            }
            if micros == self.micros && met < self.stored {
                self.again = Some(met + 1);
                return false;
            }
            self.again = None;
        }
        // The two outputs are stamped apart: a line may bear an earlier time than the one before it.
        if micros > self.micros {
            (self.micros, self.stored) = (micros, 1);
        } else if micros == self.micros {
            self.stored += 1;
        }
        true
    }

    /// The engine is asked anew, from this second on.
    fn ask_again(&mut self) -> i32 {
        self.again = Some(0);
        i32::try_from(self.micros / 1_000_000).unwrap_or(i32::MAX)
    }

    fn of_files(files: &[PathBuf]) -> Self {
        let lines = logs::tail(files, TAIL.0, TAIL.1).unwrap_or_default();
        let times = lines.iter().rev().filter(|line| line.stream != "hale");
        let mut times = times.filter_map(|line| Some(micros(line.time.parse::<Timestamp>().ok()?)));
        let Some(micros) = times.next() else { return Self::default() };
        let stored = 1 + times.take_while(|it| *it == micros).count() as u64;
        Self { micros, stored, again: None }
    }
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

/// What the engine gives: `TIME TEXT`, ended by a line end unless it is a piece of a longer line.
fn read(output: LogOutput) -> Vec<Line> {
    let (stream, bytes) = match output {
        LogOutput::StdErr { message } => (Stream::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
            (Stream::Stdout, message)
        }
    };
    let space = bytes.iter().take(40).position(|it| *it == b' ');
    let at = space.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()?.parse::<Timestamp>().ok());
    let text = if at.is_some() { &bytes[space.map_or(0, |it| it + 1)..] } else { &bytes[..] };
    let micros = at.map_or_else(clock::wall_micros, micros);
    let (text, ends) = match text.strip_suffix(b"\n") {
        Some(text) => (text.strip_suffix(b"\r").unwrap_or(text), true),
        None => (text, false),
    };
    // Within a stored line there is none.
    let text: Vec<u8> = text.iter().map(|it| if *it == b'\n' { b' ' } else { *it }).collect();
    let mut pieces: Vec<Line> = text
        .chunks(LINE_MAX)
        .map(|piece| Line { stream, whole: false, micros, text: piece.to_vec() })
        .collect();
    if pieces.is_empty() {
        pieces.push(Line { stream, whole: ends, micros, text: Vec::new() });
    }
    if let Some(last) = pieces.last_mut() {
        last.whole = ends;
    }
    pieces
}

impl Shared {
    /// Follows what a container writes, until it has ended and all of it is stored.
    pub(crate) fn follow(self: &Arc<Self>, id: &InstanceId, since: Since) {
        let (shared, id) = (Arc::clone(self), id.clone());
        tokio::spawn(async move {
            shared.writer.send(Order::Open(id.replica.clone())).await;
            shared.follow_to_end(&id, since).await;
            shared.writer.send(Order::Close(id.replica.clone())).await;
            let (answer, written) = oneshot::channel();
            shared.writer.send(Order::Written(answer)).await;
            let _ = timeout(CALL, written).await;
            shared.table.with(&id, |live| live.followed.cancel());
        });
    }

    async fn follow_to_end(&self, id: &InstanceId, since: Since) {
        let files = || logs::files(self.dir(), &id.replica);
        let mut cursor = match since {
            Since::Beginning => Cursor::default(),
            Since::At(at) => Cursor { micros: micros(at), ..Cursor::default() },
            Since::Stored => Cursor::of_files(&files()),
        };
        let Some(live) = self.table.get(id) else { return };
        let Some(container) = live.container else { return };
        let (mut tries, mut last) = (0, false);
        loop {
            let engine = tokio::select! {
                engine = self.link.next_engine() => engine,
                // There may never be one again.
                () = live.ended.cancelled() => timeout(CALL, self.link.next_engine()).await.unwrap_or_default(),
            };
            let Some(engine) = engine else { return };
            let before = cursor;
            match self.follow_once(&engine, id, &container, &mut cursor, !last).await {
                Ok(()) if last => return,
                Ok(()) => {}
                Err(error) if error.is_not_found() => return,
                Err(error) if never_followed(&error) => {
                    self.say(id, &format!("what this container writes can't be followed: {error}"));
                    tracing::warn!(replica = id.replica, %error, "the output of a container can't be followed");
                    return;
                }
                Err(_) if last => return,
                Err(error) => tracing::debug!(replica = id.replica, %error, "following is begun anew"),
            }
            // An engine can close the stream before the end, and tells no end of its own: what was read while it
            // follows is made whole once the container has ended.
            last = live.ended.is_cancelled();
            tries = if cursor.micros > before.micros { 0 } else { (tries + 1).min(AGAIN.len() - 1) };
            if !last {
                tokio::select! {
                    () = sleep(AGAIN[tries]) => {}
                    () = live.ended.cancelled() => last = true,
                }
            }
        }
    }

    async fn follow_once(
        &self,
        engine: &Engine,
        id: &InstanceId,
        container: &str,
        cursor: &mut Cursor,
        follow: bool,
    ) -> Result<(), CallError> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .follow(follow)
            .since(cursor.ask_again())
            .build();
        let mut stream = Box::pin(engine.docker.logs(container, Some(options)).ready_chunks(BATCH));
        loop {
            let next = if follow {
                stream.next().await
            } else {
                timeout(CALL, stream.next()).await.map_err(|_| CallError::Late(CALL))?
            };
            let Some(outputs) = next else { return Ok(()) };
            let (mut lines, mut wrong) = (Vec::new(), None);
            for output in outputs {
                match output {
                    Ok(output) => lines.extend(read(output).into_iter().filter(|it| cursor.takes(it.micros))),
                    Err(error) => wrong = Some(CallError::from(error)),
                }
            }
            if !lines.is_empty() {
                self.writer.send(Order::Lines(id.replica.clone(), lines)).await;
            }
            if let Some(error) = wrong {
                return Err(error);
            }
        }
    }
}

/// Whether an engine says that it has no output to give, now or later (its log driver keeps none). Any other refusal may
/// pass: it runs out of descriptors, or is going down.
fn never_followed(error: &CallError) -> bool {
    matches!(error, CallError::Refused { status: 400 | 501, .. })
        || error.says("does not support reading")
        || error.says("this container is using the none log driver")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn following_is_given_up_only_where_there_is_nothing_to_follow() {
        let refused = |status, message: &str| CallError::Refused { status, message: message.to_owned() };
        assert!(never_followed(&refused(500, "configured logging driver does not support reading")));
        assert!(never_followed(&refused(501, "not implemented")));
        assert!(!never_followed(&refused(500, "open /var/lib/docker/x.log: too many open files")));
        assert!(!never_followed(&refused(503, "shutting down")));
        assert!(!never_followed(&CallError::Late(CALL)));
    }

    fn stdout(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into_bytes().into() }
    }

    #[test]
    fn a_line_has_the_time_the_engine_gave_it() {
        let lines = read(stdout("1970-01-01T00:00:01.000002345Z hello world\n"));
        assert_eq!((lines[0].micros, lines[0].whole), (1_000_002, true));
        assert_eq!(lines[0].text, b"hello world");
        let piece = read(stdout("1970-01-01T00:00:01Z no end yet"));
        assert!(!piece[0].whole);
        assert_eq!(read(stdout("1970-01-01T00:00:01Z \n"))[0].text, b"");
        assert_eq!(read(stdout("no time\n"))[0].text, b"no time");
    }

    #[test]
    fn a_long_line_is_cut_and_nothing_of_it_lost() {
        let long = format!("1970-01-01T00:00:01Z {}\n", "x".repeat(LINE_MAX + 5));
        let lines = read(stdout(&long));
        assert_eq!(lines.iter().map(|it| it.text.len()).collect::<Vec<_>>(), [LINE_MAX, 5]);
        assert_eq!(lines.iter().map(|it| it.whole).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn going_on_loses_nothing_and_doubles_nothing_even_at_one_moment() {
        let told = [5, 7, 7, 7, 9];
        // Whatever an earlier agent had stored, the next one stores the rest.
        for stored in 0..=told.len() {
            let mut cursor = Cursor::default();
            let first: Vec<u64> = told[..stored].iter().copied().filter(|it| cursor.takes(*it)).collect();
            cursor.ask_again();
            let rest: Vec<u64> = told.iter().copied().filter(|it| cursor.takes(*it)).collect();
            assert_eq!([first, rest].concat(), told, "after {stored}");
        }
    }

    #[test]
    fn the_two_outputs_may_be_out_of_step_by_a_little() {
        let mut cursor = Cursor::default();
        cursor.ask_again();
        assert!([5, 9, 8, 9].into_iter().all(|it| cursor.takes(it)));
        assert_eq!((cursor.micros, cursor.stored), (9, 2));
    }

    #[test]
    fn how_far_an_earlier_agent_came_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web-0.log");
        let line = |second: u32, stream: &str| format!("1970-01-01T00:00:0{second}.000000Z {stream} F x\n");
        let text = [line(1, "stdout"), line(2, "stdout"), line(2, "stderr"), line(9, "hale")].concat();
        std::fs::write(&path, text).unwrap();
        assert_eq!(Cursor::of_files(&[path]), Cursor { micros: 2_000_000, stored: 2, again: None });
        assert_eq!(Cursor::of_files(&[]), Cursor::default());
    }
}
