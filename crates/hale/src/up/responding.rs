//! The responders that the files of `hale up` declare, as parts of it.

use std::sync::Arc;

use hale_api::Client;
use hale_model::event::NewEvent;
use hale_responder::{
    driver::{Settings, Tell},
    metrics::Metrics,
};
use hale_server::cluster::Cluster;
use prometheus_client::registry::Registry;

use super::{files::Files, lock::DataDir, screen::Screen};
use crate::{
    cli::UpArgs,
    failure::Failure,
    responder::together::{Responders, Shared},
};

/// What they tell goes on record with everything else, and to the screen.
struct Told {
    cluster: Cluster,
    screen: Arc<Screen>,
}

impl Tell for Told {
    fn tell(&self, event: NewEvent) {
        self.screen.show(&event);
        if !self.cluster.tell(event) {
            tracing::error!("an event of a responder is lost: the disk takes nothing");
        }
    }
}

/// Starts them; `None`: the files declare none.
///
/// # Errors
/// One can't be started.
pub(super) async fn start(
    args: &UpArgs,
    files: &Files,
    dir: &DataDir,
    cluster: &Cluster,
    screen: &Arc<Screen>,
    metrics: &mut Registry,
) -> Result<Option<Arc<Responders>>, Failure> {
    let responders = &files.declared.responders;
    if responders.is_empty() {
        return Ok(None);
    }
    let shared = Shared {
        dir: dir.path.clone(),
        settings: Settings::default(),
        metrics: Metrics::register(metrics),
        tell: Arc::new(Told { cluster: cluster.clone(), screen: Arc::clone(screen) }),
        // Its socket listens already; what is asked there waits until the API is served.
        own_hale: Some(Client::local(&dir.path)?),
        no_root: args.no_root,
        allow_users: &args.allow_user,
    };
    Ok(Some(Arc::new(Responders::start(responders.clone(), shared).await?)))
}
