//! Tokens: made, listed, revoked, given a new secret (S25).

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use hale_api::{
    Code,
    tokens::{NewToken, RotateRequest, Token, TokenRequest},
};
use hale_model::{
    cluster::{Role, TokenRecord},
    file::is_node_name,
};
use hale_store::cluster::{Change, Guard, Key, Kind, Record, Write};
use http::{StatusCode, Uri};
use jiff::Timestamp;

use crate::{
    api::Api,
    asker::Asker,
    auth, list,
    problems::{Answer, Refusal, json, required_json},
};

/// The longest life of a token, and the longest grace: ten years.
const LONGEST: f64 = 10.0 * 366.0 * 24.0 * 3600.0;

/// The longest text that somebody says what a token is for with, in bytes.
const LONGEST_TEXT: usize = 200;

pub(crate) async fn list(State(api): State<Api>, uri: Uri) -> Answer<Response> {
    let now = Timestamp::now();
    let token = |it: TokenRecord| Token {
        expired: it.expires_at.is_some_and(|at| at <= now),
        id: it.id,
        role: it.role,
        node: it.node,
        description: it.description,
        created_at: it.created_at,
        created_by: it.created_by,
        expires_at: it.expires_at,
    };
    list::piece(&uri, api.parts.tokens.records().into_iter().map(token).collect(), |it| &it.id)
}

pub(crate) async fn create(State(api): State<Api>, asker: Asker, request: Request) -> Answer<Response> {
    let asked: TokenRequest = required_json(request).await?;
    check(&asked)?;
    let secret = auth::make_token().map_err(no_random)?;
    let now = Timestamp::now();
    let record = TokenRecord {
        id: auth::short(&secret).unwrap_or_default().to_owned(),
        hash: auth::hash_of(&secret),
        previous: None,
        role: asked.role,
        node: asked.node,
        description: asked.description.trim().to_owned(),
        created_at: now,
        created_by: asker.name().to_owned(),
        expires_at: asked.expires_in_seconds.map(|it| after(now, it)).transpose()?,
    };
    let guard = Guard::Absent(Key::new(Kind::Token, &record.id));
    let for_node = record.node.iter().map(|it| format!("for {it}"));
    let detail = [format!("role {}", record.role.as_str()), record.description.clone()];
    let detail = detail.into_iter().filter(|it| !it.is_empty()).chain(for_node).collect();
    put(&api, &asker, "token.create", record.clone(), guard, detail).await?;
    Ok((StatusCode::CREATED, Json(shown(secret, record))).into_response())
}

pub(crate) async fn rotate(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
    request: Request,
) -> Answer<Json<NewToken>> {
    let asked: RotateRequest = json(request).await?;
    let bounds = 0.0..=LONGEST;
    if !bounds.contains(&asked.grace_seconds) {
        return Err(Refusal::new(Code::BadRequest, "grace_seconds is 0 to ten years"));
    }
    let (revision, old) = api.parts.tokens.record(&id).ok_or_else(|| Refusal::not_found("token", &id))?;
    let secret = auth::remake_token(&id).map_err(no_random)?;
    let now = Timestamp::now();
    let previous = (asked.grace_seconds > 0.0)
        .then(|| Ok::<_, Refusal>((old.hash.clone(), after(now, asked.grace_seconds)?)))
        .transpose()?;
    let record = TokenRecord { hash: auth::hash_of(&secret), previous, created_at: now, ..old };
    let guard = Guard::Unchanged { key: Key::new(Kind::Token, &id), revision };
    let detail = vec![format!("grace {}s", asked.grace_seconds)];
    put(&api, &asker, "token.rotate", record.clone(), guard, detail).await?;
    Ok(Json(shown(secret, record)))
}

pub(crate) async fn revoke(
    State(api): State<Api>,
    asker: Asker,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let (_, old) = api.parts.tokens.record(&id).ok_or_else(|| Refusal::not_found("token", &id))?;
    let detail = vec![format!("role {}", old.role.as_str())];
    let audit = asker.audit(asker.name(), "token.revoke", format!("tokens/{id}"), detail);
    let changes = vec![Change::Delete(Key::new(Kind::Token, &id)), Change::Audit(Box::new(audit))];
    let committed = api.parts.store.write(Write { changes, guards: Vec::new() }).await?;
    api.parts.tokens.apply(committed.revision, &id, None);
    Ok(StatusCode::NO_CONTENT)
}

async fn put(
    api: &Api,
    asker: &Asker,
    action: &str,
    record: TokenRecord,
    guard: Guard,
    detail: Vec<String>,
) -> Answer<()> {
    let audit = asker.audit(asker.name(), action, format!("tokens/{}", record.id), detail);
    let changes = vec![Change::Put(Record::Token(record.clone())), Change::Audit(Box::new(audit))];
    let committed = api.parts.store.write(Write { changes, guards: vec![guard] }).await?;
    // Good here at once; on the other servers as soon as they hear of it.
    let id = record.id.clone();
    api.parts.tokens.apply(committed.revision, &id, Some(record));
    Ok(())
}

fn check(asked: &TokenRequest) -> Answer<()> {
    let bad = |detail: &str| Err(Refusal::new(Code::BadRequest, detail));
    if asked.description.len() > LONGEST_TEXT || asked.description.chars().any(char::is_control) {
        return bad("a description is one line of at most 200 bytes");
    }
    match (asked.role, &asked.node) {
        (Role::Agent, None) => bad("a token for an agent is for one node or cluster: say which, by `--node`"),
        (Role::Agent | Role::Gateway, Some(node)) if !is_node_name(node) => {
            bad("the name of a node is a DNS name in lower case: a-z, 0-9 and -, with dots between")
        }
        (Role::Admin | Role::Operator | Role::Viewer, Some(_)) => {
            bad("only tokens for agents and gateways are for a node")
        }
        _ => Ok(()),
    }
}

fn after(now: Timestamp, seconds: f64) -> Answer<Timestamp> {
    let bad = || Refusal::new(Code::BadRequest, "a time to last is above 0 and at most ten years");
    if !(seconds > 0.0 && seconds <= LONGEST) {
        return Err(bad());
    }
    now.checked_add(Duration::from_secs_f64(seconds)).map_err(|_| bad())
}

fn shown(token: String, record: TokenRecord) -> NewToken {
    let TokenRecord { id, role, node, expires_at, .. } = record;
    NewToken { id, token, role, node, expires_at }
}

fn no_random(error: std::io::Error) -> Refusal {
    Refusal::new(Code::Internal, format!("the system has no random bytes: {error}"))
}
