//! The last one is never taken away (H31).

/// How an endpoint stands with those who decide who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether everything speaks for it: it is ready, its node is heard of, nothing has ejected it.
    pub eligible: bool,
    /// Whether it might still serve: it runs, and only its node, damping or ejection speaks against it.
    pub might_serve: bool,
}

/// Whether an endpoint gets traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// Everything speaks for it.
    Yes,
    /// Only because no other one is left; to be marked as kept.
    Kept,
    /// It does not.
    No,
}

/// Who of the endpoints of one service gets traffic: the eligible; when there is none, all that might still serve, so
/// that the set is never emptied by loss of a node, damping, ejection or panic (H31).
#[must_use]
pub fn who_serves(endpoints: &[Standing]) -> Vec<Serves> {
    let any = endpoints.iter().any(|it| it.eligible);
    endpoints
        .iter()
        .map(|it| match (it.eligible, any, it.might_serve) {
            (true, ..) => Serves::Yes,
            (false, false, true) => Serves::Kept,
            _ => Serves::No,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing(eligible: bool, might_serve: bool) -> Standing {
        Standing { eligible, might_serve }
    }

    #[test]
    fn as_long_as_one_is_eligible_the_others_stay_out() {
        let who = who_serves(&[standing(true, true), standing(false, true), standing(false, false)]);
        assert_eq!(who, [Serves::Yes, Serves::No, Serves::No]);
    }

    #[test]
    fn with_none_eligible_those_that_might_serve_are_kept() {
        let who = who_serves(&[standing(false, true), standing(false, false)]);
        assert_eq!(who, [Serves::Kept, Serves::No]);
        assert_eq!(who_serves(&[]), []);
    }

    proptest! {
        #[test]
        fn the_set_is_empty_only_if_nothing_might_serve(
            all in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..8),
        ) {
            let all: Vec<_> = all.into_iter().map(|(a, b)| standing(a, a || b)).collect();
            let empty = who_serves(&all).iter().all(|it| *it == Serves::No);
            prop_assert_eq!(empty, all.iter().all(|it| !it.might_serve));
        }
    }
}
