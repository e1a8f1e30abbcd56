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
    let mut probes = api.parts.control.history(&name).await?;
    if probes.is_empty() {
        // Nothing yet is another thing than nothing at all.
        explain::find(&api.parts.control.overview().await?, &name)?;
    }
    // There is a route of its own for these.
    probes.iter_mut().for_each(|it| it.series.clear());
    probes.retain(|it| !it.outcomes.is_empty());
    Ok(Json(OutcomeHistory { subject: name, probes }))
}
