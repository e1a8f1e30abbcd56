//! `hale runs`: what a responder has run, is about to, and what a person says to it (C4, R11, R12).

mod show;

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use hale_api::{
    Client, ClientError,
    runs::{Run, RunDecision, RunDetail, RunQuery},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use tokio::time::sleep;

use super::{act, block, client, output_closed};
use crate::{
    cli::{AlertsArgs, DecideArgs, Format, RunsArgs, RunsCommand},
    failure::{Failure, say},
    output,
};

/// How often watched runs are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// How often a responder that is not there, as while it starts again, is asked before a watch ends.
const TRIES: u32 = 10;

/// The most runs of one page.
const PAGE: u32 = 1000;

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &RunsArgs) -> Result<(), Failure> {
    block(async {
        match &args.command {
            Some(RunsCommand::Approve(it)) => decide(it, true).await,
            Some(RunsCommand::Reject(it)) => decide(it, false).await,
            Some(RunsCommand::Alerts(it)) => alerts(it).await,
            None => look(args).await,
        }
    })
}

/// Shows the newest runs, or one: `hale get runs`.
///
/// # Errors
/// As its exit status says (C7).
pub(super) async fn get(client: &Client, id: Option<&str>, format: Format) -> Result<(), Failure> {
    match id {
        Some(id) => show_one(&client.run(id).await?, format),
        None => show_all(&all(client, RunQuery::default(), 100).await?, format),
    }
}

async fn look(args: &RunsArgs) -> Result<(), Failure> {
    let client = client(&args.server)?;
    let format = args.output.output;
    let mut watched = Watched::new(args.watch, format);
    loop {
        let over = match &args.id {
            Some(id) => {
                let found = watched.asked(client.run(id).await)?;
                match found {
                    Some(found) => {
                        watched.show(&found, || show_one(&found, format))? && found.run.state.is_final()
                    }
                    None => false,
                }
            }
            None => {
                let query =
                    RunQuery { state: args.state, cluster: args.cluster.clone(), ..RunQuery::default() };
                if let Some(found) = watched.asked(all(&client, query, args.limit).await)? {
                    watched.show(&found, || show_all(&found, format))?;
                }
                false
            }
        };
        if !args.watch || over {
            return Ok(());
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            closed = output_closed() => return Err(closed),
        }
    }
}

/// What is shown again and again.
struct Watched {
    watch: bool,
    clears: bool,
    last: Option<String>,
    missed: u32,
}

impl Watched {
    fn new(watch: bool, format: Format) -> Self {
        let clears = watch && format == Format::Table && io::stdout().is_terminal();
        Self { watch, clears, last: None, missed: 0 }
    }

    /// Over a short absence of who is asked, once there was an answer; `None`: there is none just now.
    fn asked<T>(&mut self, answer: Result<T, ClientError>) -> Result<Option<T>, Failure> {
        match answer {
            Err(ClientError::Unreachable(_)) if self.watch && self.last.is_some() && self.missed < TRIES => {
                self.missed += 1;
                Ok(None)
            }
            answer => {
                self.missed = 0;
                Ok(Some(answer?))
            }
        }
    }

    /// Away from a terminal, only what is new is worth another copy. Always true.
    fn show(
        &mut self,
        found: &impl Serialize,
        show: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let told = serde_json::to_string(found).map_err(Failure::failed)?;
        if self.clears {
            write!(output::stdout(), "\x1b[H\x1b[2J")?;
            show()?;
        } else if self.last.as_ref() != Some(&told) {
            show()?;
        }
        self.last = Some(told);
        Ok(true)
    }
}

/// At most so many runs, in as many pages as that takes.
async fn all(client: &Client, mut query: RunQuery, most: u32) -> Result<Vec<Run>, ClientError> {
    let mut found = Vec::new();
    loop {
        let left = most.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        query.limit = Some(left.min(PAGE));
        let page = client.runs(&query).await?;
        found.extend(page.runs);
        found.truncate(most as usize);
        match page.next {
            // A list that leads in a circle has no end.
            Some(next) if found.len() < most as usize && query.before.as_ref() != Some(&next) => {
                query.before = Some(next);
            }
            _ => return Ok(found),
        }
    }
}

async fn decide(args: &DecideArgs, approve: bool) -> Result<(), Failure> {
    let decision = RunDecision { by: Some(act::user()), reason: args.reason.clone() };
    let run = client(&args.server)?.decide_run(&args.id, approve, &decision).await?;
    say(&if approve {
        format!("{} is approved, and {} now", run.id, show::words(run.state))
    } else {
        format!("{} is rejected: nothing is run", run.id)
    });
    Ok(())
}

async fn alerts(args: &AlertsArgs) -> Result<(), Failure> {
    let found = client(&args.server)?.alerts().await?.alerts;
    output::write_value(&found, args.output.output, |out| show::alerts(&found, Timestamp::now(), out))
}

fn show_all(runs: &[Run], format: Format) -> Result<(), Failure> {
    output::write_value(&runs, format, |out| show::list(runs, Timestamp::now(), out))
}

fn show_one(found: &RunDetail, format: Format) -> Result<(), Failure> {
    output::write_value(found, format, |out| show::one(found, Timestamp::now(), &TimeZone::system(), out))
}
