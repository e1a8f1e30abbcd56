//! Whether a node has lost its own way to the network (H22).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::Time;

/// How long a way must be lost until a probe that gets through elsewhere shows that it is not needed.
const NOT_NEEDED_AFTER: Duration = Duration::from_secs(600);

/// What a node sees of its network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Its links but loopback, and whether they are up.
    pub links: BTreeMap<String, bool>,
    /// The links that its default routes go over.
    pub default_routes: BTreeSet<String>,
}

/// What a node is known to have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Had {
    /// It never had a network.
    #[default]
    Nothing,
    /// Links that were up, and no default route.
    Links,
    /// A default route over a link that was up.
    Route,
}

/// Compares what a node sees with what it had: what it never had it can't have lost.
#[derive(Debug, Clone, Default)]
pub struct Uplink {
    had: Had,
    lost_at: Option<Time>,
}

impl Uplink {
    /// Looks.
    ///
    /// # Errors
    /// What is lost, in words.
    pub fn look(&mut self, now: Time, network: &Network) -> Result<(), String> {
        let is_up = |link: &String| network.links.get(link).copied().unwrap_or(true);
        let found = if network.default_routes.iter().any(is_up) {
            Had::Route
        } else if network.links.values().any(|up| *up) {
            Had::Links
        } else {
            Had::Nothing
        };
        let lost = match (self.had, found) {
            (_, Had::Route) | (Had::Nothing | Had::Links, Had::Links) | (Had::Nothing, Had::Nothing) => {
                self.had = found;
                self.lost_at = None;
                return Ok(());
            }
            (Had::Route, _) => match network.default_routes.first() {
                Some(link) => format!("{link}, the link of its default route, is down"),
                None => "its default route is gone".to_owned(),
            },
            (Had::Links, Had::Nothing) => "none of its links is up".to_owned(),
        };
        self.lost_at.get_or_insert(now);
        Err(lost)
    }

    /// A probe got through to another machine. When that goes on although something is lost, then what is left is the
    /// network that this node has now.
    pub fn reached(&mut self, now: Time) {
        if self.lost_at.is_some_and(|at| now.since(at) >= NOT_NEEDED_AFTER) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(links: &[(&str, bool)], routes: &[&str]) -> Network {
        Network {
            links: links.iter().map(|(name, up)| ((*name).to_owned(), *up)).collect(),
            default_routes: routes.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    #[test]
    fn what_a_node_never_had_it_has_not_lost() {
        let mut it = Uplink::default();
        assert_eq!(it.look(Time::ZERO, &network(&[], &[])), Ok(()));
        assert_eq!(it.look(Time::ZERO, &network(&[("eth0", false)], &[])), Ok(()));
        assert_eq!(it.look(Time::ZERO, &network(&[("eth0", true)], &[])), Ok(()));
        assert_eq!(
            it.look(Time::ZERO, &network(&[("eth0", false)], &[])),
            Err("none of its links is up".to_owned())
        );
    }

    #[test]
    fn the_default_route_is_lost_with_its_link_although_others_are_up() {
        let mut it = Uplink::default();
        let well = network(&[("eth0", true), ("docker0", true)], &["eth0"]);
        assert_eq!(it.look(Time::ZERO, &well), Ok(()));
        let down = network(&[("eth0", false), ("docker0", true)], &["eth0"]);
        assert_eq!(
            it.look(Time::ZERO, &down),
            Err("eth0, the link of its default route, is down".to_owned())
        );
        let gone = network(&[("eth0", true), ("docker0", true)], &[]);
        assert_eq!(it.look(Time::ZERO, &gone), Err("its default route is gone".to_owned()));
        let moved = network(&[("eth0", false), ("wlan0", true)], &["eth0", "wlan0"]);
        assert_eq!(it.look(Time::ZERO, &moved), Ok(()), "another one will do");
    }

    #[test]
    fn what_stays_away_while_others_are_reached_is_not_needed() {
        let mut it = Uplink::default();
        it.look(Time::ZERO, &network(&[("eth0", true)], &["eth0"])).unwrap();
        let gone = network(&[("eth0", true)], &[]);
        assert!(it.look(Time::from_secs(10), &gone).is_err());
        it.reached(Time::from_secs(609));
        assert!(it.look(Time::from_secs(609), &gone).is_err());
        it.reached(Time::from_secs(610));
        assert_eq!(it.look(Time::from_secs(610), &gone), Ok(()));
    }
}
