//! What is shown on the screen of what the node reports.

use std::sync::Arc;

use hale_model::report::Report;
use hale_supervisor::sink::Sink;

use super::screen::Screen;

/// Shows each event as it happens.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) screen: Arc<Screen>,
}

impl Sink for Outside {
    fn report(&self, report: Report) {
        if let Report::Event(event) = &report {
            self.screen.show(event);
        }
    }
}
