//! Probe histories.

use axum::{
    Json,
    extract::{Path, State},
};
use hale_api::outcomes::OutcomeHistory;

use crate::{api::Api, problems::Answer, routes::explain};

pub(crate) async fn outcomes(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Answer<Json<OutcomeHistory>> {
    let probes = api.parts.control.history(&name).await?;
    if probes.is_empty() {
        // Nothing yet is another thing than nothing at all.
        explain::find(&api.parts.control.overview().await?, &name)?;
    }
    Ok(Json(OutcomeHistory { subject: name, probes }))
}
