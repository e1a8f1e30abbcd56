//! `hale logs NAME`: what a replica, or each replica of a workload, printed.

use std::{
    collections::HashSet,
    io::{self, Write},
};

use hale_api::logs::{LogLine, LogQuery};
use owo_colors::OwoColorize;

use super::{block, client, find, output_closed};
use crate::{cli::LogsArgs, failure::Failure, output};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &LogsArgs) -> Result<(), Failure> {
    block(async {
        let client = client(&args.server)?;
        let overview = client.overview().await?;
        find(&overview, &args.name)?;
        let workload = overview.workloads.iter().find(|it| it.name == args.name);
        let mut printer =
            Printer { named: workload.is_some_and(|it| it.replicas.len() > 1), open: HashSet::new() };
        let tail = args.tail.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
        let mut lines = client.logs(&args.name, &LogQuery { tail, follow: args.follow }).await?;
        let mut out = io::BufWriter::new(output::stdout());
        let mut closed = std::pin::pin!(output_closed());
        loop {
            // What came is shown before it waits for more.
            let next = match lines.take_ready() {
                Some(line) => Some(line),
                None => {
                    out.flush()?;
                    tokio::select! {
                        next = lines.next() => next?,
                        closed = &mut closed => return Err(closed),
                    }
                }
            };
            let Some(line) = next else { break };
            printer.print(&line, &mut out)?;
        }
        out.flush()?;
        Ok(())
    })
}

struct Printer {
    /// Whether lines are marked with who printed them.
    named: bool,
    /// Those whose line has not ended.
    open: HashSet<(String, String)>,
}

impl Printer {
    fn print(&mut self, line: &LogLine, out: &mut impl Write) -> io::Result<()> {
        let key = (line.replica.clone(), line.stream.clone());
        let continues = self.open.remove(&key);
        if self.named && !continues {
            write!(out, "{} ", format_args!("{} |", line.replica).dimmed())?;
        }
        if line.stream == "hale" {
            write!(out, "{}", line.text.dimmed())?;
        } else {
            write!(out, "{}", line.text)?;
        }
        if line.whole {
            writeln!(out)
        } else {
            self.open.insert(key);
            Ok(())
        }
    }
}
