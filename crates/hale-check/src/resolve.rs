//! Names to addresses, off the path of the checks, with a cache.
//!
//! The system's resolver blocks a thread for as long as it likes. So at most one look-up of a name is under way at a
//! time, whoever waits for it, and its answer serves all. So many different names are looked up at once and no more
//! ([`AT_ONCE`]): a hanging name server must not take the threads that commands and files need. Failures are not kept: the
//! next check asks anew.
//!
//! How long an answer may serve (N15) the system's resolver does not tell. So once it has answered, the name servers of the
//! machine are asked for the same records, and if they answer the same, theirs is the time. What they do not know (a name
//! of `/etc/hosts`, of a search domain, of another service of names) serves for [`LONGEST`].

use std::{
    collections::HashMap,
    fs::File,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use hale_health::Reason;
use hickory_proto::rr::{Name, RData, RecordType};
use rustix::io::Errno;
use tokio::sync::{Semaphore, watch};

use crate::{
    dns::{
        conf,
        exchange::{self, Question},
    },
    net::{self, Trace},
    result::Fault,
};

/// The longest an answer serves, and how long one serves whose time is not known.
const LONGEST: Duration = Duration::from_secs(30);

/// The shortest, whatever the name server says.
const SHORTEST: Duration = Duration::from_secs(1);

/// How long the name servers may take to tell for how long.
const TTL_WITHIN: Duration = Duration::from_secs(2);

/// So many look-ups are under way at a time. Others wait: the threads are those that commands and files need, too.
const AT_ONCE: usize = 64;

type Answer = Result<Arc<[IpAddr]>, Fault>;

/// How far a look-up is.
#[derive(Clone)]
enum Step {
    Waiting,
    Begun,
    Done(Answer),
}

enum Entry {
    Asking(watch::Receiver<Step>),
    Known { addresses: Arc<[IpAddr]>, since: Instant, serves: Duration },
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
        Some(Entry::Known { addresses, since, serves }) if since.elapsed() < *serves => {
            Some(Arc::clone(addresses))
        }
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

/// Puts the first address of a name last: it did not answer, and another may.
pub(crate) fn pass_on(name: &str) {
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Entry::Known { addresses, .. }) = cache.get_mut(name) {
        let mut order: Vec<IpAddr> = addresses.to_vec();
        if !order.is_empty() {
            order.rotate_left(1);
        }
        *addresses = order.into();
    }
}

/// The addresses of a name, asking the system's resolver where they are not known. `lacks`: what it waits for, while
/// so many names are looked up that this one has not begun.
pub(crate) async fn lookup(name: &str, lacks: &mut Option<Fault>) -> Result<Arc<[IpAddr]>, Fault> {
    if let Some(addresses) = known(name) {
        return Ok(addresses);
    }
    let mut answer = ask(name);
    if matches!(*answer.borrow(), Step::Waiting) {
        let detail = format!("{name} was not looked up: {AT_ONCE} other names are, without an answer so far");
        *lacks = Some(Fault::prober(detail));
    }
    let begun = answer.wait_for(|it| !matches!(it, Step::Waiting)).await.is_ok();
    *lacks = None;
    match answer.wait_for(|it| matches!(it, Step::Done(_))).await.as_deref() {
        Ok(Step::Done(found)) if begun => found.clone(),
        _ => Err(Fault::prober(format!("the look-up of {name} was given up"))),
    }
}

/// Joins the look-up of a name that is under way, or starts one.
fn ask(name: &str) -> watch::Receiver<Step> {
    static AT_WORK: Semaphore = Semaphore::const_new(AT_ONCE);
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Entry::Asking(answer)) = cache.get(name)
        && answer.has_changed().is_ok()
    {
        return answer.clone();
    }
    let (tell, answer) = watch::channel(Step::Waiting);
    cache.insert(name.into(), Entry::Asking(answer.clone()));
    let name: Box<str> = name.into();
    tokio::spawn(async move {
        let Ok(place) = AT_WORK.acquire().await else { return };
        let looking = tokio::task::spawn_blocking(move || {
            tell.send_replace(Step::Begun);
            let found = resolve(&name);
            keep(name.clone(), &found);
            // Nobody may be waiting any more: their checks have timed out.
            tell.send_replace(Step::Done(found.clone()));
            (name, found)
        });
        let looked = looking.await;
        drop(place);
        if let Ok((name, Ok(addresses))) = looked {
            learn(&name, &addresses).await;
        }
    });
    answer
}

/// Has an answer serve as long as the name servers say.
async fn learn(name: &str, addresses: &[IpAddr]) {
    // An address is no name, and one word is of a search domain, or of this machine.
    if !name.trim_end_matches('.').contains('.') || name.parse::<IpAddr>().is_ok() {
        return;
    }
    let Ok(servers) = conf::servers() else { return };
    let Some(ttl) = ttl(&servers, name, addresses).await else { return };
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Entry::Known { serves, .. }) = cache.get_mut(name) {
        *serves = ttl;
    }
}

/// For how long the records of a name may be remembered, if these are its addresses.
async fn ttl(servers: &[SocketAddr], name: &str, addresses: &[IpAddr]) -> Option<Duration> {
    let kind = if addresses.first()?.is_ipv4() { RecordType::A } else { RecordType::AAAA };
    let mut fqdn = Name::from_ascii(name).ok()?;
    fqdn.set_fqdn(true);
    let question = Question { name: fqdn, kind, recursion: true, tcp: false };
    let mut trace = Trace::new();
    let asked = exchange::ask(servers, &question, &mut trace, TTL_WITHIN);
    let answered = tokio::time::timeout(TTL_WITHIN, asked).await.ok()?.ok()?;
    let same = answered.message.answers.iter().any(|it| match &it.data {
        RData::A(it) => addresses.contains(&IpAddr::V4(it.0)),
        RData::AAAA(it) => addresses.contains(&IpAddr::V6(it.0)),
        _ => false,
    });
    // Of the names on the way, too: the first of them that changes changes the answer.
    let least = answered.message.answers.iter().map(|it| it.ttl).min().filter(|_| same)?;
    Some(Duration::from_secs(u64::from(least)).clamp(SHORTEST, LONGEST))
}

fn keep(name: Box<str>, found: &Answer) {
    let mut cache = cache().lock().unwrap_or_else(PoisonError::into_inner);
    match found {
        Ok(addresses) => {
            // Names that nobody asks for any more go when new ones come.
            cache.retain(|_, it| !matches!(it, Entry::Known { since, .. } if since.elapsed() > 10 * LONGEST));
            let known =
                Entry::Known { addresses: Arc::clone(addresses), since: Instant::now(), serves: LONGEST };
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
            if addresses.is_empty() {
                return Err(Fault::new(Reason::Dns, format!("{name} has no address")));
            }
            Ok(addresses.into())
        }
        Err(error) => {
            let detail = format!("could not resolve {name}: {error}");
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            // The resolver does not always tell that it had no descriptor: having none left, it can't have asked.
            let opened = File::open("/dev/null").err().and_then(|it| it.raw_os_error());
            let opened = opened.map(Errno::from_raw_os_error);
            let lack = errno.is_some_and(net::is_lack) || opened.is_some_and(net::is_lack);
            Err(Fault::new(if lack { Reason::ProberError } else { Reason::Dns }, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, UdpSocket},
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A real name server; ended by its pid.
    struct Dnsmasq(Child);

    impl Drop for Dnsmasq {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    async fn asked(server: SocketAddr, name: &str, address: [u8; 4]) -> Option<Duration> {
        ttl(&[server], name, &[IpAddr::V4(address.into())]).await
    }

    #[tokio::test]
    async fn an_answer_serves_as_long_as_a_real_name_server_says_within_bounds() {
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let port = format!("--port={}", free.port());
        let records = ["long.test,192.0.2.1,900", "some.test,192.0.2.2,7", "none.test,192.0.2.3,0"];
        let child = Command::new("dnsmasq")
            .args([
                "-C",
                "/dev/null",
                "--no-daemon",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
                "--pid-file=",
            ])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", &port])
            .args(records.map(|it| format!("--host-record={it}")))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _server = Dnsmasq(child);
        let mut tries = 0;
        while asked(free, "some.test", [192, 0, 2, 2]).await.is_none() {
            tries += 1;
            assert!(tries < 20, "it does not answer");
        }
        assert_eq!(asked(free, "some.test", [192, 0, 2, 2]).await, Some(Duration::from_secs(7)));
        assert_eq!(asked(free, "long.test", [192, 0, 2, 1]).await, Some(LONGEST));
        assert_eq!(asked(free, "none.test", [192, 0, 2, 3]).await, Some(SHORTEST));
        assert_eq!(asked(free, "some.test", [10, 0, 0, 1]).await, None, "the system has it from elsewhere");
    }
}
