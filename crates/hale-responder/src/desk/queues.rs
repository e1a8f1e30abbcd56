//! A queue per cluster, a bound over all, and whose turn it is (R5, R6).

use std::collections::{BTreeMap, VecDeque};

use hale_health::Time;
use hale_model::spec::ResponderLimits;

/// Which bound has been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bound {
    /// That of the cluster.
    Cluster,
    /// That of all.
    All,
}

/// The queues. Bounds of 0 count as 1: everything passes through a queue.
#[derive(Debug)]
pub(super) struct Queues {
    // No empty ones.
    lines: BTreeMap<String, VecDeque<String>>,
    total: usize,
    size: usize,
    global: usize,
    served: String,
}

impl Queues {
    /// Empty.
    pub(super) fn new(limits: &ResponderLimits) -> Self {
        let bound = |it: u32| usize::try_from(it.max(1)).unwrap_or(usize::MAX);
        Self {
            lines: BTreeMap::new(),
            total: 0,
            size: bound(limits.queue_size),
            global: bound(limits.global_queue_size),
            served: String::new(),
        }
    }

    /// How many wait in a cluster's queue.
    pub(super) fn len(&self, cluster: &str) -> usize {
        self.lines.get(cluster).map_or(0, VecDeque::len)
    }

    /// How many wait.
    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// How many may wait of one cluster.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// How many may wait of all.
    pub(super) const fn global_size(&self) -> usize {
        self.global
    }

    /// Clusters for which something waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &str> {
        self.lines.keys().map(String::as_str)
    }

    /// All that wait, the oldest of each cluster first.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.lines.values().flatten().map(String::as_str)
    }

    /// Which bound refuses one more of a cluster.
    pub(super) fn full(&self, cluster: &str) -> Option<Bound> {
        if self.len(cluster) >= self.size {
            return Some(Bound::Cluster);
        }
        (self.total >= self.global).then_some(Bound::All)
    }

    /// Takes one more. Whether there is room was asked before.
    pub(super) fn push(&mut self, cluster: &str, id: String) {
        self.lines.entry(cluster.to_owned()).or_default().push_back(id);
        self.total += 1;
    }

    /// Takes out the oldest of a cluster.
    pub(super) fn pop(&mut self, cluster: &str) -> Option<String> {
        let id = self.lines.get_mut(cluster)?.pop_front()?;
        self.taken_out(cluster);
        Some(id)
    }

    /// Takes out this one.
    pub(super) fn remove(&mut self, cluster: &str, id: &str) {
        let Some(line) = self.lines.get_mut(cluster) else { return };
        if let Some(place) = line.iter().position(|it| it == id) {
            line.remove(place);
            self.taken_out(cluster);
        }
    }

    fn taken_out(&mut self, cluster: &str) {
        self.total -= 1;
        if self.len(cluster) == 0 {
            self.lines.remove(cluster);
        }
    }

    /// Whose oldest gives way to one more of a cluster.
    pub(super) fn gives_way(
        &self,
        cluster: &str,
        bound: Bound,
        since: impl Fn(&str) -> Option<Time>,
    ) -> Option<String> {
        if bound == Bound::Cluster {
            return Some(cluster.to_owned());
        }
        // The newcomer counts as one that waits already, and a tie is its own cluster's loss.
        let own = self.len(cluster);
        let longest = self.lines.iter().max_by(|(a, x), (b, y)| {
            let oldest = |line: &VecDeque<String>| line.front().and_then(|it| since(it));
            (x.len().cmp(&y.len()))
                .then_with(|| oldest(y).cmp(&oldest(x)))
                .then_with(|| b.as_str().cmp(a.as_str()))
        });
        let (name, line) = longest?;
        let is_own = own > 0 && own + 1 >= line.len();
        Some(if is_own { cluster.to_owned() } else { name.clone() })
    }

    /// Clusters for which something waits, from the one after that which was served last.
    pub(super) fn by_turn(&self) -> impl Iterator<Item = &str> {
        let after = |(name, _): &(&String, _)| name.as_str() > self.served.as_str();
        let later = self.lines.iter().filter(move |it| after(it));
        let earlier = self.lines.iter().filter(move |it| !after(it));
        later.chain(earlier).map(|(name, _)| name.as_str())
    }

    /// A cluster had its turn.
    pub(super) fn serve(&mut self, cluster: &str) {
        cluster.clone_into(&mut self.served);
    }
}
