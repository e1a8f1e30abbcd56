//! Judging what is known: every top-level workload, or one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Moment, Settings, batch,
    decide::{self, Group},
    event::{Event, Events},
    kin::{Key, is_workload, key_of},
    objects::{Kind, Meta, Pod},
    pod::Seen,
    resources,
    verdict::{Draft, Resource, Verdict},
    workload::Workload,
    world::{Claim, Ranked, World},
};

/// How volume claims are.
pub(super) struct Claims<'w>(&'w BTreeMap<(String, String), Ranked<Claim>>, &'w Events<'w>);

impl Claims<'_> {
    /// One of them; none of which nothing is known.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Resource> {
        let claim = self.0.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(resources::claim(&claim.it, self.1))
    }
}

impl World {
    /// Judges every top-level workload, sorted by namespace and name: one that no other of these kinds controls.
    /// What a kind of somebody else's controls is as good as on top: nothing is known of what is above it.
    #[must_use]
    pub fn judge(&self, now: Timestamp, settings: &Settings) -> Vec<Verdict> {
        let events = Events::of(self.events.values().map(|it| &it.it));
        let look = Look { world: self, moment: Moment { now, settings }, events };
        let top = |meta: &Meta| meta.controller.as_ref().is_none_or(|it| !is_workload(it));
        let workloads = self.workloads.values().map(|it| &it.it).filter(|it| top(&it.meta));
        let mut verdicts: Vec<Verdict> = workloads.map(|it| look.workload(it)).collect();
        let pods = self.pods.values().map(|it| &it.it).filter(|it| top(&it.meta));
        verdicts.extend(pods.map(|it| look.bare_pod(it)));
        verdicts.sort_by(|a, b| (&a.namespace, &a.name, a.kind).cmp(&(&b.namespace, &b.name, b.kind)));
        verdicts
    }

    /// Judges one thing that is here, whoever controls it. None when it is not here, or nothing that is judged alone.
    pub(super) fn judge_one(&self, key: &Key, now: Timestamp, settings: &Settings) -> Option<Verdict> {
        let events = Events::of(self.events_of_family(key).into_iter());
        let look = Look { world: self, moment: Moment { now, settings }, events };
        match key.1 {
            Kind::Event | Kind::Node => None,
            Kind::Pod => {
                let pod = self.pods.get(&(key.0.clone(), key.2.clone()))?;
                Some(look.bare_pod(&pod.it))
            }
            Kind::PersistentVolumeClaim => {
                let claim = look.claims().get(&key.0, &key.2)?;
                Some(decide::claim(claim))
            }
            _ => Some(look.workload(&self.workloads.get(key)?.it)),
        }
    }

    /// Events about something, what it made, and what that made; and about the claims that pods of it mount.
    fn events_of_family(&self, key: &Key) -> Vec<&Event> {
        let mut found = Vec::new();
        let mut family = vec![key.clone()];
        let mut claims = Vec::new();
        while let Some(one) = family.pop() {
            found.extend(self.kin.events(&one).filter_map(|it| self.events.get(it)).map(|it| &it.it));
            if one.1 == Kind::Pod {
                let pod = self.pods.get(&(one.0.clone(), one.2.clone()));
                let names = pod.into_iter().flat_map(|it| it.it.claims.iter());
                claims.extend(names.map(|it| (one.0.clone(), Kind::PersistentVolumeClaim, it.clone())));
            } else {
                family.extend(self.kin.children(&one).cloned());
            }
        }
        claims.sort();
        claims.dedup();
        for claim in &claims {
            found.extend(self.kin.events(claim).filter_map(|it| self.events.get(it)).map(|it| &it.it));
        }
        found
    }
}

/// A look at the world, for judgements of one moment.
struct Look<'w> {
    world: &'w World,
    moment: Moment<'w>,
    events: Events<'w>,
}

impl<'w> Look<'w> {
    /// What a workload controls itself.
    fn made(&self, key: &Key) -> impl Iterator<Item = (&'w Key, &'w Meta)> {
        let world = self.world;
        world.kin.children(key).filter_map(move |child| {
            let meta = world.meta(child)?;
            world.controller(meta).is_some_and(|(it, _)| it == key).then_some((child, meta))
        })
    }

    /// Whether the pods of a workload would be known if there were any: some of its namespace are, and some of what is
    /// between it and them.
    fn known(&self, root: &Workload) -> bool {
        let has = |kind| self.world.has(&root.meta.namespace, kind);
        has(Kind::Pod)
            && match root.kind {
                Kind::Deployment => has(Kind::ReplicaSet),
                Kind::CronJob => has(Kind::Job),
                _ => true,
            }
    }

    fn look(&self, pod: &'w Pod) -> Seen<'w> {
        let node = pod.node.as_deref().and_then(|it| self.world.nodes.get(it)).map(|it| it.it);
        Seen::at(pod, &self.events, node, self.moment)
    }

    fn group(&self, key: &Key, controller: &'w Workload) -> Group<'w> {
        let world = self.world;
        let pods = self.made(key).filter(|(it, _)| it.1 == Kind::Pod);
        let pods = pods.filter_map(|(_, it)| world.pods.get(&(it.namespace.clone(), it.name.clone())));
        Group { controller, pods: pods.map(|it| self.look(&it.it)).collect() }
    }

    fn groups(&self, key: &Key, kind: Kind) -> Vec<Group<'w>> {
        let those = self.made(key).filter(|(it, _)| it.1 == kind);
        let those = those.filter_map(|(it, _)| self.world.workloads.get_key_value(it));
        those.map(|(key, it)| self.group(key, &it.it)).collect()
    }

    fn workload(&self, root: &'w Workload) -> Verdict {
        let key = key_of(root.kind, &root.meta);
        let groups = match root.kind {
            Kind::Deployment => self.groups(&key, Kind::ReplicaSet),
            Kind::CronJob => self.groups(&key, Kind::Job),
            _ => vec![self.group(&key, root)],
        };
        let known = self.known(root);
        let mut draft = match (root.kind, groups.first()) {
            (Kind::CronJob, _) => batch::cron_job(root, &groups, known, &self.events, self.moment),
            (Kind::Job, Some(group)) => batch::job(group, known, &self.events, self.moment),
            _ => decide::workload(root, &groups, known, &self.events, self.moment),
        };
        resources::list(&mut draft, Some(root), &groups, &self.claims());
        draft.of(root.kind, &root.meta.namespace, &root.meta.name)
    }

    fn bare_pod(&self, pod: &'w Pod) -> Verdict {
        let seen = self.look(pod);
        let mut draft: Draft = decide::bare_pod(&seen, self.moment);
        resources::pod(&mut draft, &seen, &self.claims());
        draft.of(Kind::Pod, &pod.meta.namespace, &pod.meta.name)
    }

    fn claims(&self) -> Claims<'_> {
        Claims(&self.world.claims, &self.events)
    }
}
