//! `hale restart`, `stop`, `start`, `pause`, `resume`: what a person wants done, followed until it is so (C12).

use hale_api::{
    Client, Collection, describe,
    operation::{ActionRequest, Operation, OperationState, StepState, Verb},
};

use super::{block, client, find};
use crate::{
    cli::{ActArgs, PauseArgs, ResumeArgs},
    failure::{Failure, say},
};

/// Restart, stop or start.
///
/// # Errors
/// As its exit status says (C7): 1 when it never came to be.
pub(crate) fn run(verb: Verb, args: &ActArgs) -> Result<(), Failure> {
    block(async {
        let client = client(&args.server)?;
        let request = ActionRequest { reason: said(&args.reason), ..asked() };
        let operation = ask(&client, &args.name, verb, &request).await?;
        if args.no_wait {
            say(&format!("asked to {} {}", verb.as_str(), args.name));
            return Ok(());
        }
        follow(&client, operation).await
    })
}

/// Pause.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn pause(args: &PauseArgs) -> Result<(), Failure> {
    block(async {
        let request = ActionRequest {
            reason: said(&args.reason),
            for_seconds: args.lasting.map(|it| it.as_secs_f64()),
            probe: args.probe,
            ..asked()
        };
        ask(&client(&args.server)?, &args.name, Verb::Pause, &request).await?;
        let what = args.probe.map(|it| format!("the {it} probe of ")).unwrap_or_default();
        let until = match args.lasting {
            Some(lasting) => format!("for {}", describe::duration(lasting)),
            None => format!("until `hale resume {}`", args.name),
        };
        say(&format!("{what}{} is paused {until}", args.name));
        Ok(())
    })
}

/// Resume.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn resume(args: &ResumeArgs) -> Result<(), Failure> {
    block(async {
        let request = ActionRequest { probe: args.probe, ..asked() };
        ask(&client(&args.server)?, &args.name, Verb::Resume, &request).await?;
        let what = args.probe.map(|it| format!("the {it} probe of ")).unwrap_or_default();
        say(&format!("{what}{} goes on", args.name));
        Ok(())
    })
}

async fn ask(client: &Client, name: &str, verb: Verb, request: &ActionRequest) -> Result<Operation, Failure> {
    let on: Collection = find(&client.overview().await?, name)?;
    Ok(client.act(on, name, verb, request).await?)
}

/// Who asks: the user at this end, as far as the environment says.
pub(super) fn user() -> String {
    let name = ["USER", "LOGNAME"].iter().find_map(|it| std::env::var(it).ok()).filter(|it| !it.is_empty());
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

fn asked() -> ActionRequest {
    ActionRequest { by: Some(user()), ..ActionRequest::default() }
}

fn said(reason: &str) -> Option<String> {
    (!reason.is_empty()).then(|| reason.to_owned())
}

async fn follow(client: &Client, mut operation: Operation) -> Result<(), Failure> {
    let mut told = vec![StepState::Waiting; operation.steps.len()];
    loop {
        for (told, step) in told.iter_mut().zip(&operation.steps) {
            if *told != step.state {
                *told = step.state;
                say(&line(operation.verb, &step.name, step.state, step.took_seconds, step.detail.as_deref()));
            }
        }
        match operation.state {
            OperationState::Succeeded => return Ok(()),
            OperationState::Failed => {
                let error = operation.error.unwrap_or_else(|| "it failed".to_owned());
                let hint = format!("`hale explain {}` says why", operation.subject);
                let verb = operation.verb.as_str();
                return Err(Failure::Failed(format!("{verb} of {}: {error}; {hint}", operation.subject)));
            }
            OperationState::Running => {}
        }
        operation = client.operation(operation.id, Some(operation.revision)).await?;
    }
}

fn line(verb: Verb, name: &str, state: StepState, took: Option<f64>, detail: Option<&str>) -> String {
    let (doing, done) = match verb {
        Verb::Stop => ("stopping", "stopped"),
        Verb::Start => ("starting", "ready"),
        Verb::Restart => ("restarting", "ready again"),
        Verb::Pause | Verb::Resume => ("asked", "done"),
    };
    match state {
        StepState::Waiting => format!("{name}: waiting"),
        StepState::Running => format!("{name}: {doing}"),
        StepState::Done => {
            let took = took.map(|it| format!(" after {}", describe::seconds(it))).unwrap_or_default();
            format!("{name}: {}{took}", detail.unwrap_or(done))
        }
        StepState::Failed => format!("{name}: failed: {}", detail.unwrap_or("no reason is known")),
    }
}
