//! `hale webhook`: who is told of events, and how that goes (S22).

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use hale_api::webhooks::{ReplayRequest, Webhook, WebhookMade, WebhookRequest};
use hale_model::event::Severity;

use super::{block, client};
use crate::{
    cli::{OutputArgs, ServerArgs, parse_event_type},
    failure::{Failure, say},
    output,
};

/// `hale webhook`.
#[derive(Debug, Args)]
pub(crate) struct WebhookArgs {
    #[command(subcommand)]
    command: Webhooks,
}

#[derive(Debug, Subcommand)]
enum Webhooks {
    /// Makes a webhook, or changes the one of its name: what is left out stays as it is.
    Create(CreateArgs),
    /// Lists the webhooks.
    List(ListArgs),
    /// Shows one, and what could not be delivered to it.
    Show(NameArgs),
    /// Takes one away, with what waits for it.
    Delete(NameArgs),
    /// Delivers nothing to it until it is resumed; what happens meanwhile waits.
    Pause(NameArgs),
    /// Goes on with what has waited.
    Resume(NameArgs),
    /// Sends one message now, and tells what came of it.
    Test(NameArgs),
    /// Sends again what was given up.
    Replay(ReplayArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// Its name: a DNS label.
    name: String,
    /// Where events are sent: a URL of https or http.
    #[arg(long, value_name = "URL", env = "HALE_WEBHOOK_URL")]
    url: Option<String>,
    /// A file with what deliveries are signed with: `whsec_` and base64 [default: one is made and printed once].
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Only events of this type: whole, or its end: `restarted`. May be given more than once [default: all].
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_event_type)]
    types: Vec<String>,
    /// Only events about this workload with its replicas, replica, target or node.
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Only events that matter at least so much: info, warning, error or critical.
    #[arg(long, value_name = "SEVERITY", value_parser = parse_severity)]
    severity: Option<Severity>,
    /// Allows a private, loopback or link-local address.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    allow_private: Option<bool>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Its name.
    name: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Its name.
    name: String,
    /// This event, given up or not. May be given more than once [default: all that were given up].
    #[arg(long = "event", value_name = "ID")]
    events: Vec<u64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    server: ServerArgs,
}

fn parse_severity(word: &str) -> Result<Severity, String> {
    let all = [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];
    let found = all.into_iter().find(|it| it.as_str() == word);
    found.ok_or_else(|| "expected info, warning, error or critical".to_owned())
}

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &WebhookArgs) -> Result<(), Failure> {
    block(async {
        match &args.command {
            Webhooks::Create(args) => create(args).await,
            Webhooks::List(args) => {
                let all = client(&args.server)?.webhooks().await?;
                output::write_value(&all, args.output.output, |out| list(&all, out))
            }
            Webhooks::Show(args) => {
                let one = client(&args.server)?.webhook(&args.name).await?;
                show(&one, args.output)
            }
            Webhooks::Delete(args) => {
                client(&args.server)?.delete_webhook(&args.name).await?;
                say(&format!("webhook {} is gone", args.name));
                Ok(())
            }
            Webhooks::Pause(args) => {
                let one = client(&args.server)?.pause_webhook(&args.name, true).await?;
                show(&one, args.output)
            }
            Webhooks::Resume(args) => {
                let one = client(&args.server)?.pause_webhook(&args.name, false).await?;
                show(&one, args.output)
            }
            Webhooks::Test(args) => {
                let tested = client(&args.server)?.test_webhook(&args.name).await?;
                let line = format!("{}: {}", args.name, tested.detail);
                output::write_value(&tested, args.output.output, |out| writeln!(out, "{line}"))?;
                if tested.delivered {
                    Ok(())
                } else {
                    Err(Failure::Failed("the message was not delivered".into()))
                }
            }
            Webhooks::Replay(args) => {
                let request = ReplayRequest { events: args.events.clone() };
                let one = client(&args.server)?.replay_webhook(&args.name, &request).await?;
                say(&format!("{} events are sent to {} again", one.replaying, one.name));
                show(&one, args.output)
            }
        }
    })
}

async fn create(args: &CreateArgs) -> Result<(), Failure> {
    let secret = match &args.secret_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Failure::Failed(format!("the secret can't be read from {}: {error}", path.display()))
        })?),
        None => None,
    };
    let types: Vec<String> =
        args.types.iter().flat_map(|it| it.split(',')).map(|it| it.trim().to_owned()).collect();
    let request = WebhookRequest {
        name: args.name.clone(),
        url: args.url.clone(),
        secret: secret.map(|it| it.trim().to_owned()),
        types: (!types.is_empty()).then_some(types),
        subject: args.subject.clone(),
        severity: args.severity,
        allow_private: args.allow_private,
    };
    let WebhookMade { webhook, secret, created } = client(&args.server)?.put_webhook(&request).await?;
    say(&format!("webhook {} is {}", webhook.name, if created { "made" } else { "changed" }));
    if let (true, Some(_)) = (created && args.secret_file.is_none(), &secret) {
        say("its secret is shown this once; the receiver needs it to check signatures");
    }
    let made = WebhookMade { webhook, secret, created };
    output::write_value(&made, args.output.output, |out| match &made.secret {
        Some(secret) if args.secret_file.is_none() => writeln!(out, "{secret}"),
        _ => Ok(()),
    })
}

fn list(all: &[Webhook], out: &mut dyn Write) -> std::io::Result<()> {
    let mut table = output::table(["NAME", "HOST", "EVENTS", "STATE", "BEHIND", "GIVEN UP", "LAST"]);
    for one in all {
        table.add_row([
            one.name.clone(),
            one.host.clone(),
            wanted(one),
            if one.paused { "paused" } else { "on" }.to_owned(),
            one.behind.to_string(),
            one.dead.len().to_string(),
            one.last.clone().unwrap_or_default(),
        ]);
    }
    output::write_table(out, &table)
}

/// Which events it wants, in words.
fn wanted(one: &Webhook) -> String {
    let types = if one.types.is_empty() { "all".to_owned() } else { one.types.join(",") };
    let subject = one.subject.as_ref().map(|it| format!(" of {it}")).unwrap_or_default();
    match one.severity {
        Severity::Info => format!("{types}{subject}"),
        severity => format!("{types}{subject} from {}", severity.as_str()),
    }
}

fn show(one: &Webhook, output: OutputArgs) -> Result<(), Failure> {
    output::write_value(one, output.output, |out| {
        list(std::slice::from_ref(one), out)?;
        if !one.dead.is_empty() {
            let mut table = output::table(["EVENT", "ATTEMPTS", "GIVEN UP AT", "WHY"]);
            for dead in &one.dead {
                let (event, attempts) = (dead.event.to_string(), dead.attempts.to_string());
                table.add_row([event, attempts, dead.at.to_string(), dead.reason.clone()]);
            }
            writeln!(out)?;
            output::write_table(out, &table)?;
        }
        Ok(())
    })
}
