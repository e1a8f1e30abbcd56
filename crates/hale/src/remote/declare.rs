//! `hale apply`, `hale scale`, `hale delete`: what is to run on a server (C4, C10).

use hale_api::declare::{Applied, ApplyRequest, DocumentText};
use hale_model::document;

use super::{block, client, table::Table};
use crate::{
    cli::{ApplyArgs, DeleteArgs, OutputArgs, ScaleArgs},
    failure::Failure,
    files, output,
};

/// Declares what the files declare.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn apply(args: &ApplyArgs) -> Result<(), Failure> {
    let documents = document::read(&args.files).map_err(|errors| files::invalid(&errors))?;
    let text = |it: document::Document| {
        let origin = format!("{} {}", it.kind.to_lowercase(), it.name);
        DocumentText { text: it.json, dir: it.dir, origin }
    };
    let request =
        ApplyRequest { documents: documents.into_iter().map(text).collect(), dry_run: args.dry_run };
    block(async { show(&client(&args.server)?.apply(&request).await?, args.output, args.dry_run) })
}

/// Changes how many replicas are wanted.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn scale(args: &ScaleArgs) -> Result<(), Failure> {
    block(async { show(&client(&args.server)?.scale(&args.name, args.replicas).await?, args.output, false) })
}

/// Takes something away.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn delete(args: &DeleteArgs) -> Result<(), Failure> {
    block(async {
        let client = client(&args.server)?;
        match args.kind.as_str() {
            kind @ ("workloads" | "targets") => {
                show(&client.undeclare(kind, &args.name).await?, args.output, false)
            }
            "nodes" => Ok(client.delete_node(&args.name).await?),
            "stacks" => Ok(client.delete_stack(&args.name).await?),
            "deployments" => Ok(client.delete_deployment_object(&args.name).await?),
            "agents" => Ok(client.delete_kube_agent(&args.name).await?),
            "tokens" => Ok(client.revoke_token(&args.name).await?),
            kind => Ok(client.delete(&format!("/api/v1/{kind}/{}", hale_api::encode(&args.name))).await?),
        }
    })
}

fn show(applied: &Applied, output: OutputArgs, dry: bool) -> Result<(), Failure> {
    output::write_value(applied, output.output, |out| {
        let mut table = Table::new(&["KIND", "NAME", if dry { "WOULD BE" } else { "CHANGE" }]);
        for it in &applied.applied {
            table.row([it.kind.as_str().into(), it.name.as_str().into(), it.change.as_str().into()]);
        }
        table.write(out)?;
        out.flush()
    })
}
