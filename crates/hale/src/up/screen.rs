//! One line per change as it happens: when, who, what, why (N1).

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use hale_api::describe;
use hale_model::event::{Event, NewEvent, Severity};
use jiff::tz::TimeZone;
use owo_colors::{OwoColorize, Style};

use crate::cli::Format;

/// Lines that may wait for a terminal that is not read. Further ones are not shown, and counted; the event stream has
/// them all.
const WAITING: usize = 10_000;

/// How long the last lines may take at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Line {
    Text(String),
    /// Tells when all before it was printed.
    All(SyncSender<()>),
}

/// Standard output of `hale up`. A reader that is slow or gone holds nothing up.
#[derive(Debug)]
pub(super) struct Screen {
    format: Format,
    zone: TimeZone,
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Screen {
    /// Prints in this form: lines for people, or one CloudEvent a line.
    pub(super) fn new(format: Format) -> Self {
        let (lines, waiting) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::spawn(move || print(&waiting, &lost));
        Self { format, zone: TimeZone::system(), lines, dropped }
    }

    /// Prints an event.
    pub(super) fn show(&self, event: &NewEvent) {
        match self.format {
            Format::Table => self.line(self.drawn(event)),
            // Its number comes with the commit; `hale events` has it.
            Format::Json | Format::Yaml => {
                if let Ok(text) = serde_json::to_string(&Event::new(0, event.clone())) {
                    self.line(text);
                }
            }
        }
    }

    /// Prints something that is not an event; between JSON lines there is no place for it.
    pub(super) fn say(&self, text: &str) {
        match self.format {
            Format::Table => self.line(text.to_owned()),
            Format::Json | Format::Yaml => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    /// Where the status page is, with the token that opens it; after the `listening on` line. On a terminal only: what
    /// is redirected may be kept in a file that others read.
    pub(super) fn invite(&self, address: SocketAddr, token: &str) {
        if self.format == Format::Table && io::stdout().is_terminal() {
            self.line(format!("status page  http://{address}/#token={token}"));
        }
    }

    /// Waits until all was printed, within a bound.
    pub(super) fn close(&self) {
        let (printed, all) = sync_channel(1);
        if self.lines.try_send(Line::All(printed)).is_ok() {
            let _ = all.recv_timeout(LAST_LINES);
        }
    }

    fn drawn(&self, event: &NewEvent) -> String {
        let at = event.time.to_zoned(self.zone.clone()).strftime("%H:%M:%S%.3f").to_string();
        let style = match event.data.severity() {
            Severity::Info => Style::new(),
            Severity::Warning => Style::new().yellow(),
            Severity::Error => Style::new().red(),
            Severity::Critical => Style::new().red().bold(),
        };
        let subject = format!("{:<12}", event.subject);
        format!("{}  {}  {}", at.dimmed(), subject.bold(), describe::event(&event.data).style(style))
    }

    fn line(&self, text: String) {
        if self.lines.try_send(Line::Text(text)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn print(lines: &Receiver<Line>, dropped: &AtomicU64) {
    for line in lines {
        let line = match line {
            Line::Text(line) => line,
            Line::All(told) => {
                let _ = told.send(());
                continue;
            }
        };
        let mut out = anstream::stdout().lock();
        let lost = dropped.swap(0, Ordering::Relaxed);
        let told = if lost > 0 {
            writeln!(out, "… {lost} lines were not shown; `hale events` has them")
        } else {
            Ok(())
        };
        if told.and_then(|()| writeln!(out, "{line}")).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
