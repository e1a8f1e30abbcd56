//! Names to addresses, off the path of the checks, with a cache.
//!
//! The system's resolver blocks a thread for as long as it likes. So at most one look-up of a name is under way at a
//! time, whoever waits for it, and its answer serves all for [`KEPT_FOR`]: the number of blocked threads is bounded by
//! the number of names, and a hanging name server delays nobody but those who ask for that name. Failures are not
//! kept: the next check asks anew.

use std::{
    collections::HashMap,
    net::{IpAddr, ToSocketAddrs},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use hale_health::Reason;
use tokio::sync::watch;

use crate::result::Fault;

/// How long an answer serves. The system's resolver does not tell how long it may.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(30);

type Answer = Result<Arc<[IpAddr]>, String>;

enum Entry {
    Asking(watch::Receiver<Option<Answer>>),
    Known { addresses: Arc<[IpAddr]>, since: Instant },
}

type Cache = Mutex<HashMap<Box<str>, Entry>>;

fn cache() -> &'static Cache {
    static CACHE: OnceLock<Cache> = OnceLock::new();
    CACHE.get_or_init(Cache::default)
}

/// The addresses of a name, if they are known and fresh. Never blocks on the network.
pub(crate) fn known(name: &str) -> Option<Arc<[IpAddr]>> {
    let cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    match cache.get(name) {
        Some(Entry::Known { addresses, since }) if since.elapsed() < KEPT_FOR => Some(Arc::clone(addresses)),
        _ => None,
    }
}

/// Puts an address of a name first: it answered where others did not.
pub(crate) fn prefer(name: &str, address: IpAddr) {
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Entry::Known { addresses, .. }) = cache.get_mut(name) {
        let mut order: Vec<IpAddr> = addresses.to_vec();
        order.sort_by_key(|it| *it != address);
        *addresses = order.into();
    }
}

/// The addresses of a name, asking the system's resolver where they are not known.
pub(crate) async fn lookup(name: &str) -> Result<Arc<[IpAddr]>, Fault> {
    if let Some(addresses) = known(name) {
        return Ok(addresses);
    }
    let mut answer = ask(name);
    let answer = answer.wait_for(Option::is_some).await.map(|it| it.clone());
    match answer {
        Ok(Some(Ok(addresses))) => Ok(addresses),
        Ok(Some(Err(detail))) => Err(Fault::new(Reason::Dns, detail)),
        Ok(None) | Err(_) => Err(Fault::prober(format!("the look-up of {name} was given up"))),
    }
}

/// Joins the look-up of a name that is under way, or starts one.
fn ask(name: &str) -> watch::Receiver<Option<Answer>> {
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Entry::Asking(answer)) = cache.get(name)
        && answer.has_changed().is_ok()
    {
        return answer.clone();
    }
    let (tell, answer) = watch::channel(None);
    cache.insert(name.into(), Entry::Asking(answer.clone()));
    let name: Box<str> = name.into();
    tokio::task::spawn_blocking(move || {
        let found = resolve(&name);
        keep(name, &found);
        // Nobody may be waiting any more: their checks have timed out.
        let _ = tell.send(Some(found));
    });
    answer
}

fn keep(name: Box<str>, found: &Answer) {
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    match found {
        Ok(addresses) => {
            // Names that nobody asks for any more go when new ones come.
            cache
                .retain(|_, it| !matches!(it, Entry::Known { since, .. } if since.elapsed() > 10 * KEPT_FOR));
            let known = Entry::Known { addresses: Arc::clone(addresses), since: Instant::now() };
            cache.insert(name, known);
        }
        Err(_) => {
            cache.remove(&name);
        }
    }
}

fn resolve(name: &str) -> Answer {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|it| it.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() { Err(format!("{name} has no address")) } else { Ok(addresses.into()) }
        }
        Err(error) => Err(format!("could not resolve {name}: {error}")),
    }
}
