//! `hale probe URL|host:port|grpc://…|tls://…|dns://…` (C5): checks made now, with their timings, and what they come to.
//!
//! Ctrl-C ends the run as its last check would: what has ended is summed up and decides the exit status; the check that
//! was under way is no outcome.

pub(crate) mod args;
mod endpoint;
mod summary;
mod told;

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use hale_check::{CheckResult, Checker, Subject};
use serde::Serialize;

use self::{
    args::ProbeArgs,
    summary::{Figures, Summary},
    told::Told,
};
use crate::{cli::Format, failure::Failure, output, up::signals::Signals};

/// Closes what is told piece by piece to a program.
#[derive(Serialize)]
struct Sum<'a> {
    summary: &'a Figures,
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// Makes the checks and prints each as it ends. One that fails makes the command fail.
pub(crate) fn run(args: &ProbeArgs) -> Result<(), Failure> {
    let check = endpoint::parse(args)?;
    let checker = Checker::compile(&check, &Subject::default()).map_err(Failure::failed)?;
    // The provider may be installed already by a test or an embedding; either way there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    let done = runtime.block_on(ask(&checker, args));
    // A name that is still being looked up is waited for by nobody.
    runtime.shutdown_background();
    let (summary, interrupted) = done?;
    match (summary.failed(), summary.checks()) {
        (0, 0) if interrupted => Err(Failure::failed("interrupted before a check was done")),
        (0, _) => Ok(()),
        (failed, checks) => {
            Err(Failure::failed(format!("{}: {failed} of {checks} checks failed", args.endpoint)))
        }
    }
}

/// Makes the checks; whether it was interrupted.
async fn ask(checker: &Checker, args: &ProbeArgs) -> Result<(Summary, bool), Failure> {
    let mut summary = Summary::default();
    let screen = Screen::new(args);
    let mut signals = Signals::new()?;
    let mut ticks = tokio::time::interval(args.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut interrupted = false;
    while args.count == 0 || summary.checks() < u64::from(args.count) {
        let check = async {
            ticks.tick().await;
            checker.look(args.timeout).await
        };
        let result = tokio::select! {
            biased;
            _ = signals.next() => {
                interrupted = true;
                break;
            }
            result = check => result,
        };
        summary.add(result.verdict.is_success().then_some(result.timings.total));
        screen.tell(&result, &summary)?;
    }
    screen.close(&summary)?;
    Ok((summary, interrupted))
}

/// Where the checks are told.
struct Screen {
    format: Format,
    /// More than one is made, so that there is something to sum up.
    sums: bool,
    /// The summary so far stands on a line of its own at the foot of the screen.
    live: bool,
}

impl Screen {
    fn new(args: &ProbeArgs) -> Self {
        let format = args.output.output;
        let sums = args.count != 1;
        let on_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self { format, sums, live: sums && on_terminal && matches!(format, Format::Table) }
    }

    fn tell(&self, result: &CheckResult, summary: &Summary) -> Result<(), Failure> {
        let told = Told::of(result);
        self.wipe();
        match self.format {
            Format::Table => writeln!(output::stdout(), "{}", told.line())?,
            // One object a line, as with everything that is told piece by piece.
            _ => self.piece(&told)?,
        }
        if self.live {
            let mut foot = io::stderr().lock();
            // The terminal may be gone: then the next line of output says so.
            let _ = write!(foot, "{}", summary.figures().line()).and_then(|()| foot.flush());
        }
        Ok(())
    }

    fn close(&self, summary: &Summary) -> Result<(), Failure> {
        self.wipe();
        if !self.sums {
            return Ok(());
        }
        let figures = summary.figures();
        match self.format {
            Format::Table => Ok(writeln!(output::stdout(), "{}", figures.line())?),
            _ => self.piece(&Sum { summary: &figures }),
        }
    }

    fn piece(&self, value: &impl Serialize) -> Result<(), Failure> {
        match self.format {
            Format::Yaml => {
                let document = serde_saphyr::to_string(value).map_err(Failure::failed)?;
                write!(output::stdout(), "---\n{document}")?;
            }
            _ => {
                let line = serde_json::to_string(value).map_err(Failure::failed)?;
                writeln!(output::stdout(), "{line}")?;
            }
        }
        Ok(())
    }

    /// Takes the line at the foot away.
    fn wipe(&self) {
        if self.live {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}
