//! Whether checks are made for scrapers (`/probe`), and by which modules.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use hale_agent::blackbox::{Blackbox, Modules};

use crate::failure::Failure;

/// Checks for scrapers.
#[derive(Debug, Args)]
pub(crate) struct ScrapeArgs {
    /// Makes checks for a Prometheus that is configured for blackbox_exporter, at /probe beside /metrics: whoever may
    /// ask there can have any address asked that this node reaches.
    #[arg(long, env = "HALE_PROBE_ENDPOINT")]
    pub(crate) probe_endpoint: bool,
    /// A file of modules in the format of blackbox_exporter, beside those that are there by themselves.
    #[arg(long, env = "HALE_PROBE_MODULES", value_name = "FILE", requires = "probe_endpoint")]
    pub(crate) probe_modules: Option<PathBuf>,
}

impl ScrapeArgs {
    /// What makes them; `None`: none are made.
    pub(crate) fn open(&self) -> Result<Option<Arc<Blackbox>>, Failure> {
        if !self.probe_endpoint {
            return Ok(None);
        }
        let modules = match &self.probe_modules {
            None => Modules::default(),
            Some(path) => Modules::read(path).map_err(|error| Failure::InvalidFile(error.to_string()))?,
        };
        Ok(Some(Arc::new(Blackbox::new(modules))))
    }
}
