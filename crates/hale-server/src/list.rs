//! Lists in pieces (S23): `limit` says how many, `cursor` where to go on.
//!
//! The answer is the array alone, as long lists have it, too; where to go on stands in `Link: <…>; rel="next"`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use hale_api::Code;
use http::{HeaderValue, Uri, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::problems::{Answer, Refusal, query};

/// The most of one answer.
const MOST: usize = 1000;

/// Which piece of a list is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListQuery {
    /// At most so many, up to 1000, which is the default.
    limit: Option<usize>,
    /// Where to go on: as the `Link` of the answer before has it.
    cursor: Option<String>,
}

/// Sorted by name, replicas by workload and ordinal: `web-10` comes after `web-2` (C12).
fn order(name: &str) -> (&str, u64, &str) {
    match name.rsplit_once('-').map(|(workload, ordinal)| (workload, ordinal.parse())) {
        Some((workload, Ok(ordinal))) => (workload, ordinal, name),
        _ => (name, 0, name),
    }
}

/// One piece of a list, by the names of its items.
///
/// # Errors
/// When the query makes no sense.
pub(crate) fn piece<T: Serialize>(
    uri: &Uri,
    mut items: Vec<T>,
    name: impl Fn(&T) -> &str,
) -> Answer<Response> {
    let asked: ListQuery = query(uri)?;
    let limit = asked.limit.unwrap_or(MOST);
    if limit == 0 || limit > MOST {
        return Err(Refusal::new(Code::BadRequest, format!("limit is 1 to {MOST}")));
    }
    items.sort_by(|a, b| order(name(a)).cmp(&order(name(b))));
    if let Some(cursor) = &asked.cursor {
        items.retain(|it| order(name(it)) > order(cursor));
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|it| name(it).to_owned());
    let mut response = Json(items).into_response();
    if let Some(next) = next {
        let link = format!("<{}?limit={limit}&cursor={}>; rel=\"next\"", uri.path(), hale_api::encode(&next));
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(response: &Response) -> Option<String> {
        Some(response.headers().get(header::LINK)?.to_str().unwrap().to_owned())
    }

    async fn names(response: Response) -> Vec<String> {
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn pieces_lead_through_the_whole_list_in_order() {
        let all: Vec<String> = (0..25).rev().map(|it| format!("web-{it}")).collect();
        let mut uri: Uri = "/x?limit=10".parse().unwrap();
        let mut seen = Vec::new();
        loop {
            let response = piece(&uri, all.clone(), |it| it).unwrap();
            let next = link(&response);
            seen.extend(names(response).await);
            let Some(next) = next else { break };
            uri = next.trim_start_matches('<').split('>').next().unwrap().parse().unwrap();
        }
        assert_eq!(seen, (0..25).map(|it| format!("web-{it}")).collect::<Vec<_>>());
    }

    #[test]
    fn a_limit_has_bounds() {
        for wrong in ["/x?limit=0", "/x?limit=1001", "/x?limit=x", "/x?y=1"] {
            assert!(piece(&wrong.parse().unwrap(), vec![String::new()], |it| it).is_err(), "{wrong}");
        }
    }
}
