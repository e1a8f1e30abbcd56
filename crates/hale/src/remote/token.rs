//! `hale token …`: who may ask a server (S25, C10).

use hale_api::{
    describe,
    tokens::{NewToken, RotateRequest, Token, TokenRequest},
};
use jiff::Timestamp;

use super::{
    block, client,
    status::ago,
    table::{Cell, Table, dim},
};
use crate::{
    cli::{Format, TokenArgs, TokenCommand},
    failure::{Failure, say},
    output,
};

/// Runs the command.
///
/// # Errors
/// As its exit status says (C7).
pub(crate) fn run(args: &TokenArgs) -> Result<(), Failure> {
    block(async {
        match &args.command {
            TokenCommand::Create(it) => {
                let request = TokenRequest {
                    role: it.role,
                    node: it.node.clone(),
                    description: it.description.clone(),
                    expires_in_seconds: it.expires.map(|it| it.as_secs_f64()),
                };
                show_new(&client(&it.server)?.create_token(&request).await?, it.output.output)
            }
            TokenCommand::List(it) => {
                let tokens = client(&it.server)?.tokens().await?;
                output::write_value(&tokens, it.output.output, |out| table(&tokens).write(out))
            }
            TokenCommand::Revoke(it) => {
                client(&it.server)?.revoke_token(&it.id).await?;
                say(&format!("{} is revoked", it.id));
                Ok(())
            }
            TokenCommand::Rotate(it) => {
                let request = RotateRequest { grace_seconds: it.grace.as_secs_f64() };
                show_new(&client(&it.server)?.rotate_token(&it.id, &request).await?, it.output.output)?;
                if !it.grace.is_zero() {
                    say(&format!("the one before is taken for {} more", describe::duration(it.grace)));
                }
                Ok(())
            }
        }
    })
}

/// The token alone stands on standard output, so that it can go into a file.
fn show_new(token: &NewToken, format: Format) -> Result<(), Failure> {
    output::write_value(token, format, |out| writeln!(out, "{}", token.token))?;
    if format == Format::Table {
        let whose = token.node.as_deref().map(|it| format!(" for {it}")).unwrap_or_default();
        say(&format!("token {} of role {}{whose}; it is shown this once", token.id, token.role.as_str()));
    }
    Ok(())
}

/// Tokens as columns.
pub(super) fn table(tokens: &[Token]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&["ID", "ROLE", "NODE", "CREATED", "BY", "EXPIRES", "FOR"]);
    for it in tokens {
        let expires: Cell = match it.expires_at {
            None => dim("never"),
            Some(_) if it.expired => "expired".into(),
            Some(at) => format!("in {}", span(now, at)).into(),
        };
        table.row([
            it.id.as_str().into(),
            it.role.as_str().into(),
            it.node.as_deref().unwrap_or_default().into(),
            ago(it.created_at, now).into(),
            it.created_by.as_str().into(),
            expires,
            it.description.as_str().into(),
        ]);
    }
    table
}

fn span(from: Timestamp, to: Timestamp) -> String {
    describe::duration(to.duration_since(from).try_into().unwrap_or_default())
}
