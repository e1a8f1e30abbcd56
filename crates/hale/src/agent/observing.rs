//! How a node finds out that it has lost its own network (H22).

use clap::Args;

/// What the node's doubts go by.
#[derive(Debug, Args)]
pub(crate) struct ObserverArgs {
    /// A machine elsewhere, as HOST:PORT, that answers while this node's network is there; may be given more than once.
    /// When a target fails and none of them answers, the node holds its verdicts on what is elsewhere.
    #[arg(
        long = "observer-reference",
        env = "HALE_OBSERVER_REFERENCES",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        value_parser = reference
    )]
    pub(crate) references: Vec<String>,
}

fn reference(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("a reference is HOST:PORT")?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err("a reference is HOST:PORT".to_owned());
    }
    Ok(text.to_owned())
}
