//! Lists of targets (N12): reading one, and making targets of its entries. Pure: who reads it from where is elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    event::TargetOrigin,
    file::{host_and_port, is_label},
    spec::{Check, ListEntry, PortRef, Target},
};

/// The most bytes of a list.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// The most entries of a list.
pub const MAX_ENTRIES: usize = 100_000;
/// The longest address of an entry.
const ADDRESS: usize = 2048;
/// The most labels of an entry, and the longest key or value of one; what is beyond that is no list but a mistake.
const LABELS: usize = 64;
const LABEL: usize = 1024;
/// The most bytes of labels, over all targets: a group says its labels once, and each of its targets has them.
const LABEL_BYTES: usize = 64 * 1024 * 1024;
/// The longest name (a DNS label).
const NAME: usize = 63;
/// The path asked for where neither entry nor template has one.
pub const DEFAULT_PATH: &str = "/healthz";

/// A group of Prometheus' HTTP and file service discovery.
#[derive(Deserialize)]
struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads a list in the JSON form of Prometheus' HTTP and file service discovery:
/// `[{"targets": ["10.0.0.1:80"], "labels": {"env": "prod"}}]`.
///
/// A group of one target whose label `name` is set gives it that name.
///
/// # Errors
/// What is wrong with it: it is no such list, or one that is too long.
pub fn parse(text: &[u8]) -> Result<Vec<ListEntry>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it is larger than {} MiB", MAX_BYTES >> 20));
    }
    let groups: Vec<Group> = serde_json::from_slice(text).map_err(|error| {
        format!("it is not a list of targets such as [{{\"targets\": [\"10.0.0.1:80\"]}}]: {error}")
    })?;
    let (mut entries, mut label_bytes) = (Vec::new(), 0_usize);
    for Group { targets, labels } in groups {
        let long = |it: &String| it.len() > LABEL;
        if labels.len() > LABELS || labels.iter().any(|(key, value)| long(key) || long(value)) {
            return Err(format!("a group has more than {LABELS} labels, or one of more than {LABEL} bytes"));
        }
        if entries.len() + targets.len() > MAX_ENTRIES {
            return Err(format!("it has more than {MAX_ENTRIES} targets"));
        }
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        label_bytes = label_bytes.saturating_add(bytes.saturating_mul(targets.len()));
        if label_bytes > LABEL_BYTES {
            return Err(format!("the labels of all its targets take more than {} MiB", LABEL_BYTES >> 20));
        }
        let name = labels.get("name").filter(|_| targets.len() == 1).cloned();
        for address in targets {
            let (name, labels) = (name.clone(), labels.clone());
            entries.push(ListEntry { address, name, labels, ..ListEntry::default() });
        }
    }
    Ok(entries)
}

/// What the entries of a list became.
#[derive(Debug, Default)]
pub struct Members {
    /// The targets, in the order of the list.
    pub targets: Vec<Target>,
    /// Entries that are none, with the reason.
    pub refused: Vec<(String, String)>,
}

/// Makes targets of the entries of a list. What stands in it twice counts once; an entry that no target can be made of
/// is passed over.
///
/// Names are those of the list and of the entry, as far as it can stand in a DNS label, and do not depend on the
/// others; where two come out the same, both get a part that tells them apart.
#[must_use]
pub fn members(of: &Target, entries: &[ListEntry]) -> Members {
    let mut seen = BTreeSet::new();
    let mut made = Members::default();
    let mut names: HashMap<String, u32> = HashMap::new();
    for entry in entries {
        if !seen.insert((&entry.address, &entry.replica)) {
            continue;
        }
        match member(of, entry) {
            Ok(target) => {
                *names.entry(target.name.clone()).or_default() += 1;
                made.targets.push(target);
            }
            Err(why) => made.refused.push((shorten(&entry.address), why)),
        }
    }
    for target in made.targets.iter_mut().filter(|it| names.get(&it.name).is_some_and(|n| *n > 1)) {
        target.name = with_end(&target.name, &target.digest[..8]);
    }
    made
}

fn member(of: &Target, entry: &ListEntry) -> Result<Target, String> {
    if entry.address.len() > ADDRESS {
        return Err(format!("it has more than {ADDRESS} bytes"));
    }
    let check = fill(&of.check, &entry.address)?;
    let digest = {
        let mut hash = Sha256::new();
        for part in [&of.digest, &entry.address, entry.replica.as_ref().unwrap_or(&String::new())] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let own = entry.name.as_deref().or(entry.replica.as_deref()).unwrap_or(&entry.address);
    let mut labels = of.origin.labels.clone();
    labels.extend(entry.labels.clone());
    Ok(Target {
        name: name(&of.name, own, &digest[..8]),
        check,
        timing: of.timing,
        policy: of.policy,
        maintenance: of.maintenance.clone(),
        list: None,
        origin: TargetOrigin {
            list: Some(of.name.clone()),
            replica: entry.replica.clone(),
            container_id: entry.container_id.clone(),
            labels,
        },
        digest,
    })
}

/// The name of the list and of the entry, as a DNS label.
fn name(list: &str, entry: &str, hash: &str) -> String {
    let bare = entry.split_once("://").map_or(entry, |(_, rest)| rest);
    let mut slug = String::new();
    for c in bare.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    let slug = slug.trim_end_matches('-');
    let whole = format!("{list}-{slug}");
    if !slug.is_empty() && is_label(&whole) { whole } else { with_end(&whole, hash) }
}

/// A name that ends in a part of its own, cut where it is too long.
fn with_end(name: &str, end: &str) -> String {
    let most = NAME - end.len() - 1;
    let cut = name.get(..most.min(name.len())).unwrap_or(name).trim_end_matches('-');
    format!("{cut}-{end}")
}

/// The check of an entry: the template with the entry's host, port, scheme and base path.
fn fill(template: &Check, address: &str) -> Result<Check, String> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme == "https"), rest),
        Some((scheme, _)) => return Err(format!("its scheme is {}, not http or https", shorten(scheme))),
        None => (None, address),
    };
    let (authority, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if rest.contains(['?', '#', '@', ' ']) || rest.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err("it is neither host:port nor a base URL".to_owned());
    }
    let base = base.trim_end_matches('/');
    let (host, port) = host_and_port(authority, 0).map_err(|why| format!("it {why}"))?;
    let pick = |template: &PortRef, default: Option<u16>| match (port, template) {
        (0, PortRef::Number(0)) => default.ok_or("it has no port, and the template has none".to_owned()),
        (0, PortRef::Number(number)) => Ok(*number),
        (0, PortRef::Name(name)) => Err(format!("port {name} is no number")),
        (port, _) => Ok(port),
    };
    let plain = || match (scheme, base) {
        (None, "") => Ok(()),
        _ => Err("it is a URL, but it is not asked over HTTP".to_owned()),
    };
    let mut check = template.clone();
    match &mut check {
        Check::HttpGet(it) => {
            it.tls = scheme.unwrap_or(it.tls);
            it.port = PortRef::Number(pick(&it.port, Some(if it.tls { 443 } else { 80 }))?);
            it.host = Some(host);
            it.path = format!("{base}{}", it.path);
        }
        Check::TcpSocket(it) => {
            plain()?;
            it.port = PortRef::Number(pick(&it.port, None)?);
            it.host = Some(host);
        }
        Check::Grpc(it) => {
            plain()?;
            it.port = PortRef::Number(pick(&it.port, None)?);
            it.host = Some(host);
        }
        Check::Tls(it) => {
            plain()?;
            it.port = pick(&PortRef::Number(it.port), Some(443))?;
            it.host = host;
        }
        Check::Dns(_) | Check::Exec(_) | Check::Notify => {
            return Err(format!("{} can't be asked of the entries of a list", template.as_str()));
        }
    }
    Ok(check)
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests;
