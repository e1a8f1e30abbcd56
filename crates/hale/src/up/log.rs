//! The log on standard error (O2).

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::{cli::LogFormat, failure::Failure};

/// Starts it.
///
/// # Errors
/// The directives are not understood.
pub(crate) fn init(directives: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives)
        .map_err(|error| Failure::failed(format!("--log {directives}: {error}; try a level such as info")))?;
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_target(false).init(),
    }
    Ok(())
}
