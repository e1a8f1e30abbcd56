//! Commands that ask a running hale: over the socket in its data directory, or its URL (C4).

pub(crate) mod act;
pub(crate) mod cluster;
pub(crate) mod declare;
pub(crate) mod diagnose;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod get;
mod history;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod runs;
pub(crate) mod stack;
pub(crate) mod stacks;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod webhook;

use std::{future::Future, time::Duration};

use hale_api::{Client, ClientError, Collection};
use hale_model::status::Overview;

use crate::{cli::ServerArgs, failure::Failure};

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Unreachable(_) | ClientError::Timeout(_) => Self::Unreachable(text),
            ClientError::NotFound(_) => Self::NotFound(text),
            ClientError::NotAllowed(_) => Self::NotAllowed(text),
            ClientError::Invalid(_) => Self::InvalidFile(format!("error: {text}")),
            ClientError::Refused(_) | ClientError::Protocol(_) => Self::Failed(text),
        }
    }
}

/// Runs a command that asks.
fn block<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::failed)?.block_on(command)
}

/// The hale that is meant.
fn client(args: &ServerArgs) -> Result<Client, Failure> {
    let Some(url) = &args.server else { return Ok(Client::local(&args.data_dir.path())?) };
    let token = match &args.token_file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::Failed(format!("the token can't be read from {}: {error}", path.display()))
        })?,
        None => std::env::var("HALE_TOKEN").map_err(|_| {
            Failure::NotAllowed(format!("{url} wants a token: give --token-file, or set HALE_TOKEN"))
        })?,
    };
    Ok(Client::remote_with(url, &token, &args.tls.client())?)
}

/// What a name stands for.
fn find(overview: &Overview, name: &str) -> Result<Collection, Failure> {
    if overview.workloads.iter().any(|it| it.name == name) {
        return Ok(Collection::Workloads);
    }
    if overview.workloads.iter().flat_map(|it| &it.replicas).any(|it| it.name == name) {
        return Ok(Collection::Replicas);
    }
    if overview.targets.iter().any(|it| it.name == name) {
        return Ok(Collection::Targets);
    }
    let text = format!("there is no workload, replica or target {name:?}; `hale status` lists what there is");
    Err(Failure::NotFound(text))
}

/// Completes when nobody reads standard output any more, so that a stream with nothing to tell ends too (C12).
async fn output_closed() -> Failure {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let stdout = rustix::stdio::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec::default()));
        if polled.is_ok() && fds[0].revents().intersects(PollFlags::ERR) {
            return Failure::OutputClosed;
        }
    }
}
