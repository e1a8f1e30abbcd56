//! Where the database may be: `postgres://user:password@h1:5432,h2:5433/db?sslmode=…`, and one look at a host.

use std::{str::FromStr, time::Duration};

use sqlx::{ConnectOptions, Connection, PgConnection, Row, postgres::PgConnectOptions};

use super::within;
use crate::StoreError;

/// How long a host may take to answer before it is taken for dead.
const CONNECT: Duration = Duration::from_secs(3);

/// One host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// Host and port: what may be told.
    pub(super) name: String,
    options: PgConnectOptions,
}

/// A host that takes writes.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) host: Host,
    /// Rises with each failover.
    pub(super) timeline: u32,
}

/// The hosts of an address. What it says of user, password, database and parameters holds for all.
pub(super) fn parse(url: &str) -> Result<Vec<Host>, StoreError> {
    let wrong = |detail: String| StoreError::Url { detail };
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or_else(|| wrong("it does not begin with postgres://".to_owned()))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let host = |host: &str| {
        // The error must not tell the password.
        let options = PgConnectOptions::from_str(&format!("postgres://{user}{host}{tail}"))
            .map_err(|error| wrong(format!("{host:?}: {error}")))?
            .application_name("hale")
            .disable_statement_logging();
        // A backend whose client is gone must not hold the lock of the numbers for long.
        let options = options.options([
            ("idle_in_transaction_session_timeout", "10s"),
            ("lock_timeout", "10s"),
            ("tcp_user_timeout", "10000"),
            ("tcp_keepalives_idle", "10"),
        ]);
        let name = match options.get_socket() {
            Some(socket) => format!("{}:{}", socket.display(), options.get_port()),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Ok(Host { name, options })
    };
    hosts.split(',').map(host).collect()
}

impl Host {
    /// For connections that only read: those may be ended by the server.
    pub(super) fn reading(&self) -> PgConnectOptions {
        self.options.clone().options([("statement_timeout", "10s"), ("default_transaction_read_only", "on")])
    }

    /// A connection for writing.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        within(CONNECT, PgConnection::connect_with(&self.options)).await
    }

    /// Whether it is a primary, and of which timeline; else why not.
    pub(super) async fn look(self) -> Result<Found, String> {
        let asked = within(CONNECT, async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            let timeline = timeline(&mut connection).await?;
            let _closed = connection.close().await;
            Ok(timeline)
        });
        match asked.await {
            Ok(Some(timeline)) => Ok(Found { host: self, timeline }),
            Ok(None) => Err(format!("{} is a standby", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }
}

/// The timeline of a host that takes writes; `None` of one that does not.
pub(super) async fn timeline(connection: &mut PgConnection) -> Result<Option<u32>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END",
    )
    .fetch_one(connection)
    .await?;
    let timeline: Option<String> = row.try_get(0)?;
    Ok(timeline.and_then(|it| u32::from_str_radix(&it, 16).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Vec<String> {
        parse(url).unwrap().into_iter().map(|it| it.name).collect()
    }

    #[test]
    fn every_host_of_an_address_is_found() {
        assert_eq!(names("postgres://u:p@h1:5432,h2:5433/db?sslmode=disable"), ["h1:5432", "h2:5433"]);
        assert_eq!(names("postgresql://h1,[::1]:9/db"), ["h1:5432", "[::1]:9"]);
        assert_eq!(names("postgres:///db?host=/run/pg&port=7"), ["/run/pg:7"]);
        let hosts = parse("postgres://ann:s%40cret@a:1,b:2/hale").unwrap();
        for host in hosts {
            assert_eq!(host.options.get_username(), "ann");
            assert_eq!(host.options.get_database(), Some("hale"));
        }
    }

    #[test]
    fn a_wrong_address_is_told_without_its_password() {
        for url in ["mysql://u:secret@h/db", "postgres://u:secret@h:port/db", "hale.db"] {
            let error = parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
