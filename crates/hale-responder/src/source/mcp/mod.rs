//! Model Context Protocol over Streamable HTTP (R2): not spoken yet, and said so.

use std::time::Duration;

use hale_model::spec::McpSource;

use super::connect::{Connector, Failure, Line};

/// Says that it can't be spoken.
pub(crate) struct Mcp(String);

impl Mcp {
    pub(crate) fn new(source: McpSource, _check_every: Duration) -> Self {
        Self(source.remote.url)
    }
}

impl Connector for Mcp {
    async fn connect(&mut self, _line: &mut Line) -> Failure {
        Failure::protocol(format!("{}: sources of kind mcp are not spoken with yet", self.0))
    }
}
