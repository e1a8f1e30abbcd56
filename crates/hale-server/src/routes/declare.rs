//! Declaring, scaling and deleting what is to run (C4, C10). Durable when it is answered.

use std::path::Path as FilePath;

use axum::{
    Json,
    extract::{Path, Request, State},
};
use hale_api::{
    Code,
    declare::{Applied, AppliedChange, AppliedItem, ApplyQuery, ApplyRequest, DocumentText, ScaleRequest},
};
use hale_model::{
    cluster::Owner,
    document::{self, Document},
    file::FileError,
};
use http::header;

use crate::{
    api::Api,
    asker::Asker,
    cluster,
    problems::{Answer, Refusal, is_json, parse, query, read, required_json},
};

/// Media types of workload files.
pub(crate) const YAML: [&str; 4] = ["application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml"];

/// The most replicas that one request asks for.
const MOST_REPLICAS: u32 = 100_000;

pub(crate) async fn apply(State(api): State<Api>, asker: Asker, request: Request) -> Answer<Json<Applied>> {
    let asked: ApplyQuery = query(request.uri())?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let kind = kind.and_then(|it| it.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let json = is_json(request.headers());
    if !json && !YAML.contains(&kind.as_str()) {
        let detail = "send it with Content-Type: application/json, or a workload file as application/yaml";
        return Err(Refusal::new(Code::UnsupportedMediaType, detail));
    }
    let body = read(request.into_body()).await?;
    let request: ApplyRequest = if json {
        parse(&body)?
    } else {
        let text = std::str::from_utf8(&body);
        let text = text.map_err(|_| Refusal::new(Code::BadRequest, "the body is not UTF-8"))?.to_owned();
        let one = DocumentText { text, dir: "/".to_owned(), origin: String::new() };
        ApplyRequest { documents: vec![one], dry_run: false }
    };
    let documents = documents(&request.documents)?;
    let dry_run = asked.dry_run || request.dry_run;
    let applied = api.cluster()?.apply(&documents, Owner::Api, &asker.person(""), dry_run).await?;
    let item =
        |it: cluster::desired::Applied| AppliedItem { kind: it.kind, name: it.name, change: of(it.change) };
    Ok(Json(Applied { applied: applied.into_iter().map(item).collect() }))
}

const fn of(change: cluster::desired::AppliedChange) -> AppliedChange {
    match change {
        cluster::desired::AppliedChange::Created => AppliedChange::Created,
        cluster::desired::AppliedChange::Updated => AppliedChange::Updated,
        cluster::desired::AppliedChange::Unchanged => AppliedChange::Unchanged,
        cluster::desired::AppliedChange::Deleted => AppliedChange::Deleted,
    }
}

fn documents(texts: &[DocumentText]) -> Answer<Vec<Document>> {
    let (mut documents, mut errors) = (Vec::<Document>::new(), Vec::<FileError>::new());
    for (number, it) in texts.iter().enumerate() {
        let dir = FilePath::new(&it.dir);
        if !dir.is_absolute() || it.dir.contains('\0') {
            let detail = format!("dir is an absolute path, and {:?} is not one", it.dir);
            return Err(Refusal::new(Code::BadRequest, detail));
        }
        let origin =
            if it.origin.is_empty() { format!("document {}", number + 1) } else { it.origin.clone() };
        match document::read_str(&origin, dir, &it.text) {
            Ok(read) => documents.extend(read),
            Err(wrong) => errors.extend(wrong),
        }
    }
    if !errors.is_empty() {
        return Err(Refusal::invalid(&errors));
    }
    if documents.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "there is nothing in it to declare"));
    }
    let mut names: Vec<_> = documents.iter().map(|it| (&it.kind, &it.name)).collect();
    names.sort();
    if let Some(twice) = names.windows(2).find(|it| it[0] == it[1]) {
        let detail = format!("{} {} is declared twice", twice[0].0, twice[0].1);
        return Err(Refusal::new(Code::InvalidDocument, detail));
    }
    Ok(documents)
}

pub(crate) async fn scale(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Json<Applied>> {
    let asked: ScaleRequest = required_json(request).await?;
    if asked.replicas > MOST_REPLICAS {
        return Err(Refusal::new(Code::BadRequest, format!("replicas is at most {MOST_REPLICAS}")));
    }
    let person = asker.person("");
    let it = api.cluster()?.scale(&name, asked.replicas, &person).await?;
    Ok(Json(Applied { applied: vec![AppliedItem { kind: it.kind, name: it.name, change: of(it.change) }] }))
}

pub(crate) async fn delete_workload(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<String>,
) -> Answer<Json<Applied>> {
    delete(&api, &asker, "Workload", name).await
}

pub(crate) async fn delete_target(
    State(api): State<Api>,
    asker: Asker,
    Path(name): Path<String>,
) -> Answer<Json<Applied>> {
    delete(&api, &asker, "Target", name).await
}

async fn delete(api: &Api, asker: &Asker, kind: &str, name: String) -> Answer<Json<Applied>> {
    api.cluster()?.delete(kind, &name, &asker.person("")).await?;
    let change = AppliedChange::Deleted;
    Ok(Json(Applied { applied: vec![AppliedItem { kind: kind.to_owned(), name, change }] }))
}
