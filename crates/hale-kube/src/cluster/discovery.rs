//! Which path a kind is found under, as the cluster itself says: asked once per API group and version, and again when
//! a kind is not there (its definition may just have been applied).

use std::collections::HashMap;

use serde_json::Value;

use super::{Cluster, ClusterError};

/// A kind that a cluster serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Deployment`
    pub kind: String,
    /// `deployments`
    pub plural: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done to it.
    pub verbs: Vec<String>,
}

impl Resource {
    /// The path of one object, or of all of them.
    #[must_use]
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = root(&self.api_version);
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if let Some(name) = name {
            path += &format!("/{name}");
        }
        path
    }
}

fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}

/// What was found out.
#[derive(Debug, Default)]
pub struct Catalog {
    versions: HashMap<String, Vec<Resource>>,
}

impl Catalog {
    /// Finds a kind. One that is not there is asked for anew.
    ///
    /// # Errors
    /// The cluster can't be asked, or serves no such kind.
    pub async fn find(
        &mut self,
        cluster: &Cluster,
        api_version: &str,
        kind: &str,
    ) -> Result<Resource, ClusterError> {
        if let Some(found) = self.known(api_version, kind) {
            return Ok(found);
        }
        let answer = cluster.get(&root(api_version)).await;
        let listed = match answer {
            Ok(listed) => listed,
            Err(ClusterError::NotFound(_)) => {
                return Err(ClusterError::NotFound(format!("the cluster serves no {api_version}")));
            }
            Err(error) => return Err(error),
        };
        self.versions.insert(api_version.to_owned(), read(api_version, &listed));
        let missing = || ClusterError::NotFound(format!("the cluster serves no {kind} in {api_version}"));
        self.known(api_version, kind).ok_or_else(missing)
    }

    fn known(&self, api_version: &str, kind: &str) -> Option<Resource> {
        self.versions.get(api_version)?.iter().find(|it| it.kind == kind).cloned()
    }

    /// Everything that can be listed and deleted, each kind in the version that the cluster prefers; or in another of its
    /// group where it is only in that (cron jobs before 1.21).
    ///
    /// # Errors
    /// The cluster can't be asked. A group that can't (an extension that is down) is left out.
    pub async fn all(&mut self, cluster: &Cluster) -> Result<Vec<Resource>, ClusterError> {
        let groups = cluster.get("/apis").await?;
        let word = |it: &Value| it["groupVersion"].as_str().map(str::to_owned);
        let mut preferred = vec!["v1".to_owned()];
        let mut others = Vec::new();
        for group in groups["groups"].as_array().into_iter().flatten() {
            preferred.extend(word(&group["preferredVersion"]));
            others.extend(group["versions"].as_array().into_iter().flatten().filter_map(word));
        }
        others.retain(|it| !preferred.contains(it));
        let mut found: Vec<Resource> = Vec::new();
        for version in preferred {
            found.extend(self.version(cluster, &version).await?);
        }
        for version in others {
            // What has gone from the version that is preferred changes seldom: once is enough.
            let resources = match self.versions.get(&version) {
                Some(known) => known.clone(),
                None => self.version(cluster, &version).await?,
            };
            for it in resources {
                if !found.iter().any(|known| known.group() == it.group() && known.plural == it.plural) {
                    found.push(it);
                }
            }
        }
        found.retain(|it| it.can("list") && it.can("delete"));
        Ok(found)
    }

    /// What is in a version; nothing when that can't be asked.
    async fn version(&mut self, cluster: &Cluster, version: &str) -> Result<Vec<Resource>, ClusterError> {
        match cluster.get(&root(version)).await {
            Ok(listed) => {
                let resources = read(version, &listed);
                self.versions.insert(version.to_owned(), resources.clone());
                Ok(resources)
            }
            Err(error @ (ClusterError::Unreachable(_) | ClusterError::Timeout(_))) => Err(error),
            Err(error) => {
                tracing::debug!(%version, %error, "a version of the cluster's API is left out");
                Ok(Vec::new())
            }
        }
    }
}

impl Resource {
    fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|it| it == verb)
    }
}

fn read(api_version: &str, listed: &Value) -> Vec<Resource> {
    let words = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let resources = listed["resources"].as_array().into_iter().flatten();
    let one = |it: &Value| {
        let plural = it["name"].as_str().filter(|it| !it.contains('/'))?;
        Some(Resource {
            api_version: api_version.to_owned(),
            kind: it["kind"].as_str()?.to_owned(),
            plural: plural.to_owned(),
            namespaced: it["namespaced"].as_bool().unwrap_or(false),
            verbs: words(&it["verbs"]),
        })
    };
    resources.filter_map(one).collect()
}
