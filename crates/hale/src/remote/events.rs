//! `hale events`: what happened, oldest first (C9, C12).

use std::io::{self, Write};

use hale_api::{
    Client, Followed, describe,
    events::{EventQuery, MAX_PAGE},
};
use hale_model::event::Event;
use jiff::tz::TimeZone;
use owo_colors::OwoColorize;

use super::{block, client, output_closed, table::of_severity};
use crate::{
    cli::{EventsArgs, Format},
    failure::{Failure, say},
    output,
};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &EventsArgs) -> Result<(), Failure> {
    let query = EventQuery {
        after: Some(args.after.unwrap_or(0)),
        kind: args.kind.clone(),
        subject: args.subject.clone(),
        ..EventQuery::default()
    };
    block(async {
        if args.follow {
            follow(args, query).await
        } else {
            list(&client(&args.server)?, query, args.output.output).await
        }
    })
}

/// Prints one event.
///
/// # Errors
/// Standard output can't be written.
pub(super) fn print(event: &Event, format: Format) -> Result<(), Failure> {
    let mut out = output::stdout();
    Printer::new(format).print(event, &mut out)?;
    out.flush()?;
    Ok(())
}

/// Prints all events there are.
///
/// # Errors
/// As its exit status says (C7).
pub(super) async fn list(client: &Client, mut query: EventQuery, format: Format) -> Result<(), Failure> {
    let printer = Printer::new(format);
    let mut out = io::BufWriter::new(output::stdout());
    query.limit = Some(MAX_PAGE);
    loop {
        let page = client.events(&query).await?;
        for event in &page.events {
            printer.print(event, &mut out)?;
        }
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    out.flush()?;
    Ok(())
}

async fn follow(args: &EventsArgs, query: EventQuery) -> Result<(), Failure> {
    let mut events = client(&args.server)?.follow(query).await?;
    let printer = Printer::new(args.output.output);
    let mut closed = std::pin::pin!(output_closed());
    loop {
        let followed = tokio::select! {
            followed = events.next() => followed?,
            closed = &mut closed => return Err(closed),
        };
        match followed {
            Followed::Event(event) => {
                let mut out = output::stdout();
                printer.print(&event, &mut out)?;
                out.flush()?;
            }
            Followed::Reset => {
                say("note: the stream is shorter than that; it is told from its beginning");
            }
        }
    }
}

struct Printer {
    format: Format,
    zone: TimeZone,
}

impl Printer {
    fn new(format: Format) -> Self {
        Self { format, zone: TimeZone::system() }
    }

    fn print(&self, event: &Event, out: &mut impl Write) -> Result<(), Failure> {
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut *out, event).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            Format::Yaml => {
                write!(out, "---\n{}", serde_saphyr::to_string(event).map_err(Failure::failed)?)?;
            }
            Format::Table => {
                let kind = event.data.kind();
                let kind = kind.strip_prefix("dev.hale.").unwrap_or(kind);
                let at = event.time.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f");
                writeln!(
                    out,
                    "{:>6}  {}  {:<16}  {:<26}  {}",
                    event.id.dimmed(),
                    at.to_string().dimmed(),
                    event.subject,
                    kind.style(of_severity(event.severity)),
                    describe::event(&event.data),
                )?;
            }
        }
        Ok(())
    }
}
