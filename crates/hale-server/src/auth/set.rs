//! The live tokens of a server.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use hale_model::cluster::{Role, TokenRecord};
use hale_store::cluster::{Changes, Kind, Record};
use http::HeaderMap;
use jiff::Timestamp;
use subtle::ConstantTimeEq;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Status, metadata::MetadataMap};

use super::{Caller, Denied, Hash, bearer, digest, short};

/// How often a token that ends at a time is looked at: the wall clock may be set.
const LOOK: Duration = Duration::from_secs(1);

/// The tokens that are taken now. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct TokenSet {
    /// Tokens of this process alone, which no database holds: that of the data directory's command line.
    own: Arc<HashMap<String, Live>>,
    /// Those of the database.
    known: watch::Sender<Arc<Known>>,
}

type Known = BTreeMap<String, Entry>;

/// A record, and what it is compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    revision: u64,
    record: TokenRecord,
    live: Live,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Live {
    name: String,
    role: Role,
    node: Option<String>,
    hash: Hash,
    /// What it was before it was rotated, and until when that is taken, too.
    previous: Option<(Hash, Timestamp)>,
    expires_at: Option<Timestamp>,
}

impl Default for TokenSet {
    fn default() -> Self {
        Self { own: Arc::default(), known: watch::Sender::new(Arc::default()) }
    }
}

impl TokenSet {
    /// No tokens: nobody may ask.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a token of this process alone, under a name that goes into records of what was asked with it. It has no
    /// end, and is no record of the database.
    #[must_use]
    pub fn with(self, name: &str, token: &str, role: Role) -> Self {
        self.with_own(name, token, role, None)
    }

    /// Like [`Self::with`], of the agent of a node.
    #[must_use]
    pub fn with_agent(self, node: &str, token: &str) -> Self {
        self.with_own(node, token, Role::Agent, Some(node.to_owned()))
    }

    fn with_own(mut self, name: &str, token: &str, role: Role, node: Option<String>) -> Self {
        let live =
            Live { name: name.to_owned(), role, node, hash: digest(token), previous: None, expires_at: None };
        if let Some(short) = short(token) {
            Arc::make_mut(&mut self.own).insert(short.to_owned(), live);
        }
        self
    }

    /// Takes these records, each with the revision it was last changed at, in place of those before: called with whatever
    /// the database holds whenever that changes. What is not among them any more is out at once, and its streams are cut.
    pub fn set<'a>(&self, records: impl IntoIterator<Item = (u64, &'a TokenRecord)>) {
        let entries = records.into_iter().filter_map(|(revision, it)| Entry::new(revision, it.clone()));
        let new: Known = entries.map(|it| (it.record.id.clone(), it)).collect();
        self.known.send_if_modified(|known| {
            let changed = **known != new;
            if changed {
                *known = Arc::new(new);
            }
            changed
        });
    }

    /// Takes what the feed of the database tells; for who follows that and keeps no records of its own.
    pub fn take(&self, changes: &Changes) {
        if changes.reset {
            let records = changes.records.iter().filter_map(|it| match &it.record {
                Some(Record::Token(record)) => Some((it.revision, record)),
                _ => None,
            });
            let newer: Vec<_> =
                self.known.borrow().values().filter(|it| it.revision > changes.revision).cloned().collect();
            let newer = newer.iter().map(|it| (it.revision, &it.record));
            return self.set(records.chain(newer));
        }
        for it in changes.records.iter().filter(|it| it.key.kind == Kind::Token) {
            match &it.record {
                Some(Record::Token(record)) => self.apply(it.revision, &it.key.name, Some(record.clone())),
                _ => self.apply(it.revision, &it.key.name, None),
            }
        }
    }

    /// Takes one change.
    pub(crate) fn apply(&self, revision: u64, id: &str, record: Option<TokenRecord>) {
        self.known.send_if_modified(|known| {
            if known.get(id).is_some_and(|it| it.revision >= revision) {
                return false;
            }
            let known = Arc::make_mut(known);
            match record.and_then(|it| Entry::new(revision, it)) {
                Some(entry) => {
                    known.insert(id.to_owned(), entry);
                    true
                }
                None => known.remove(id).is_some(),
            }
        });
    }

    /// The records, by id.
    pub(crate) fn records(&self) -> Vec<TokenRecord> {
        self.known.borrow().values().map(|it| it.record.clone()).collect()
    }

    /// One record, and the revision it was last changed at.
    pub(crate) fn record(&self, id: &str) -> Option<(u64, TokenRecord)> {
        self.known.borrow().get(id).map(|it| (it.revision, it.record.clone()))
    }

    /// Who these headers are from.
    ///
    /// # Errors
    /// When they bear no token that is taken now.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        self.check(bearer(headers)?, Timestamp::now())
    }

    /// Who a gRPC call is from, if its role is one of these.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a token that is taken now; `PERMISSION_DENIED` for one of another role.
    pub fn authenticate(&self, metadata: &MetadataMap, roles: &[Role]) -> Result<Caller, Status> {
        let caller = self.caller(metadata.as_ref()).map_err(|it| Status::unauthenticated(it.to_string()))?;
        if roles.contains(&caller.role) {
            return Ok(caller);
        }
        let needed: Vec<&str> = roles.iter().map(|it| it.as_str()).collect();
        Err(Status::permission_denied(format!(
            "a token of role {} can't do this; one of role {} can",
            caller.role.as_str(),
            needed.join(" or ")
        )))
    }

    /// Completes when a caller's token is taken no longer: revoked, rotated (after its grace), or past its end. What
    /// goes on for long asks this beside what it does, and ends then.
    pub async fn ended(&self, caller: &Caller) {
        let mut changes = self.known.subscribe();
        loop {
            let now = Timestamp::now();
            let known = Arc::clone(&changes.borrow_and_update());
            let live = self.own.get(&caller.token).or_else(|| known.get(&caller.token).map(|it| &it.live));
            let Some(live) = live.filter(|it| it.takes(&caller.hash, now)) else { return };
            let changed = if live.ends() {
                timeout(LOOK, changes.changed()).await.unwrap_or(Ok(()))
            } else {
                changes.changed().await
            };
            // The set lives as long as `self` does; if it could end, waiting is over.
            if changed.is_err() {
                sleep(LOOK).await;
            }
        }
    }

    /// How many of each role are live, for the metrics.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Role, usize> {
        let mut counts = BTreeMap::new();
        for live in self.own.values().chain(self.known.borrow().values().map(|it| &it.live)) {
            *counts.entry(live.role).or_default() += 1;
        }
        counts
    }

    fn check(&self, token: &str, now: Timestamp) -> Result<Caller, Denied> {
        let short = short(token).ok_or(Denied::Unknown)?;
        let hash = digest(token);
        let known = Arc::clone(&self.known.borrow());
        let live =
            self.own.get(short).or_else(|| known.get(short).map(|it| &it.live)).ok_or(Denied::Unknown)?;
        if !live.takes(&hash, now) {
            return Err(Denied::Unknown);
        }
        Ok(Caller {
            token: short.to_owned(),
            name: live.name.clone(),
            role: live.role,
            node: live.node.clone(),
            hash,
        })
    }
}

impl Entry {
    fn new(revision: u64, record: TokenRecord) -> Option<Self> {
        Some(Self { revision, live: Live::from_record(&record)?, record })
    }
}

impl Live {
    /// `None` when its hash is none: such a record was not written by hale, and is nobody's.
    fn from_record(record: &TokenRecord) -> Option<Self> {
        let name = match record.description.trim() {
            "" => record.id.clone(),
            text => format!("{text} ({})", record.id),
        };
        let previous = match &record.previous {
            Some((hash, until)) => Some((unhex(hash)?, *until)),
            None => None,
        };
        Some(Self {
            name,
            role: record.role,
            node: record.node.clone(),
            hash: unhex(&record.hash)?,
            previous,
            expires_at: record.expires_at,
        })
    }

    /// Whether it is taken with this secret. Compares in constant time: the short part is no secret, this is.
    fn takes(&self, hash: &Hash, now: Timestamp) -> bool {
        let current = bool::from(self.hash.ct_eq(hash));
        let previous =
            self.previous.is_some_and(|(previous, until)| bool::from(previous.ct_eq(hash)) && now < until);
        (current || previous) && self.expires_at.is_none_or(|at| now < at)
    }

    /// Whether time alone can end it.
    fn ends(&self) -> bool {
        self.expires_at.is_some() || self.previous.is_some()
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::auth::hash_of;

    fn bearing(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    fn record(id: &str, token: &str, role: Role) -> TokenRecord {
        TokenRecord {
            id: id.to_owned(),
            hash: hash_of(token),
            previous: None,
            role,
            node: None,
            description: String::new(),
            created_at: Timestamp::now(),
            created_by: "cli".to_owned(),
            expires_at: None,
        }
    }

    #[test]
    fn only_a_known_token_as_bearer_names_its_owner() {
        let tokens = TokenSet::new().with("cli", "hale_a_b", Role::Admin);
        tokens.set([(1, &record("c", "hale_c_d", Role::Viewer))]);
        assert_eq!(tokens.caller(&bearing("Bearer hale_c_d")).unwrap().role, Role::Viewer);
        assert_eq!(tokens.caller(&bearing("bearer  hale_a_b ")).unwrap().name, "cli");
        for wrong in [
            "Bearer",
            "Bearer ",
            "Bearer hale_a_",
            "Basic hale_a_b",
            "hale_a_b",
            "Bearer hale_a_b x",
            "Bearer hale_a_d",
        ] {
            assert_eq!(tokens.caller(&bearing(wrong)), Err(Denied::Unknown), "{wrong}");
        }
        assert_eq!(tokens.caller(&HeaderMap::new()), Err(Denied::NoToken));
        assert_eq!(TokenSet::new().caller(&bearing("Bearer ")), Err(Denied::Unknown));
    }

    #[test]
    fn a_token_ends_at_its_time_and_a_rotated_one_after_its_grace() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let tokens = TokenSet::new();
        let mut it = record("a", "hale_a_new", Role::Admin);
        it.previous = Some((hash_of("hale_a_old"), at(10)));
        it.expires_at = Some(at(20));
        tokens.set([(1, &it)]);
        assert!(tokens.check("hale_a_old", at(9)).is_ok());
        assert!(tokens.check("hale_a_old", at(10)).is_err());
        assert!(tokens.check("hale_a_new", at(19)).is_ok());
        assert!(tokens.check("hale_a_new", at(20)).is_err());
    }

    #[test]
    fn a_call_of_another_role_is_not_permitted_and_one_without_a_token_not_authenticated() {
        let tokens = TokenSet::new().with_agent("n1", "hale_a_b");
        let metadata = |value: &str| MetadataMap::from_headers(bearing(value));
        let caller = tokens.authenticate(&metadata("Bearer hale_a_b"), &[Role::Agent]).unwrap();
        assert!(caller.may_be("n1") && !caller.may_be("n2"));
        assert!(!Caller { node: None, ..caller }.may_be("n1"));
        let error = tokens.authenticate(&metadata("Bearer hale_a_b"), &[Role::Gateway]).unwrap_err();
        assert_eq!(error.code(), tonic::Code::PermissionDenied);
        let error = tokens.authenticate(&MetadataMap::new(), &[Role::Gateway]).unwrap_err();
        assert_eq!(error.code(), tonic::Code::Unauthenticated);
    }

    #[tokio::test]
    async fn who_waits_for_the_end_of_a_token_is_told_when_it_is_revoked_rotated_or_past() {
        let tokens = TokenSet::new();
        let it = record("a", "hale_a_b", Role::Viewer);
        let ended = async |change: &dyn Fn()| {
            tokens.set([(1, &it)]);
            let caller = tokens.caller(&bearing("Bearer hale_a_b")).unwrap();
            let mut end = std::pin::pin!(tokens.ended(&caller));
            assert!(timeout(Duration::from_millis(20), &mut end).await.is_err(), "it is taken");
            change();
            timeout(Duration::from_secs(20), end).await.expect("the end is told");
        };
        ended(&|| tokens.set([])).await;
        ended(&|| tokens.set([(2, &TokenRecord { hash: hash_of("hale_a_c"), ..it.clone() })])).await;
        let soon = Timestamp::now() + Duration::from_millis(50);
        ended(&|| tokens.set([(2, &TokenRecord { expires_at: Some(soon), ..it.clone() })])).await;
    }
}
