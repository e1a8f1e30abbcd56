//! Whom a check asks.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use hale_model::spec::PortRef;

use crate::{CompileError, Inside};

/// What a check needs to know of the replica it asks. For a target all of it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The replica's own address, where it has one yet. A check that needs it and has none yields a prober error.
    pub address: Option<IpAddr>,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The whole environment of its `exec` checks; nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// The working directory of its `exec` checks; the agent's own when absent.
    pub working_dir: Option<PathBuf>,
    /// Whom its `exec` checks run as; the agent's own user when absent.
    pub user: Option<User>,
    /// What runs its `exec` checks, where that is not this process: then environment, directory and user are its affair.
    pub inside: Option<Inside>,
}

/// A user and group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Subject {
    /// The number of a port.
    pub(crate) fn port(&self, port: &PortRef) -> Result<u16, CompileError> {
        match port {
            PortRef::Number(number) => Ok(*number),
            PortRef::Name(name) => {
                self.ports.get(name).copied().ok_or_else(|| CompileError::NoSuchPort(name.clone()))
            }
        }
    }

    /// Where a check of this host and port goes.
    pub(crate) fn place(&self, host: Option<&str>, port: &PortRef) -> Result<Place, CompileError> {
        let port = self.port(port)?;
        if port == 0 {
            return Err(CompileError::NoSuchPort("0".into()));
        }
        let host = match host {
            None => self.address.map_or(Host::Missing, Host::Ip),
            Some(host) => {
                let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
                match bare.parse::<IpAddr>() {
                    Ok(ip) => Host::Ip(ip),
                    Err(_) if is_host_name(host) => Host::Name(host.to_ascii_lowercase().into()),
                    Err(_) => return Err(CompileError::Host(host.into())),
                }
            }
        };
        Ok(Place { host, port })
    }

    /// Whether a host given in a check is the replica itself (H7: HTTPS to it is not verified).
    pub(crate) fn is_own(&self, host: Option<&str>) -> bool {
        host.is_none_or(|host| self.address.is_some_and(|own| host.parse() == Ok(own)))
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// A host to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// By address.
    Ip(IpAddr),
    /// By name, in lower case.
    Name(Box<str>),
    /// The replica has no address yet.
    Missing,
}

/// A host and port to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Missing => write!(f, "port {}", self.port),
        }
    }
}
