//! What each role may do, route by route (S25).

use hale_model::cluster::Role;

/// What a route asks of its caller. There is no default: a route is declared with one, or does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing, not even a token: health, and pages without data in them.
    Open,
    /// To follow endpoints: gateways, and whoever may see.
    Endpoints,
    /// To see.
    See,
    /// To see, or to be the agent of a cluster and see what is its own, which the route looks at itself (K14).
    SeeOrAgent,
    /// To be the agent of a cluster: for what is its own, which the route looks at itself (K14).
    Agent,
    /// To act on what runs: restart, stop, start, pause, resume.
    Act,
    /// To change what is declared, nodes, tokens and webhooks, and to read the record of who did.
    Admin,
}

impl Access {
    /// Whether a token of this role is enough. Agents of nodes speak gRPC and need nothing of REST; those of clusters have
    /// routes of their own.
    pub(crate) const fn allows(self, role: Role) -> bool {
        match self {
            Self::Open => true,
            Self::Endpoints => !matches!(role, Role::Agent),
            Self::See => matches!(role, Role::Admin | Role::Operator | Role::Viewer),
            Self::SeeOrAgent => !matches!(role, Role::Gateway),
            Self::Agent => matches!(role, Role::Agent),
            Self::Act => matches!(role, Role::Admin | Role::Operator),
            Self::Admin => matches!(role, Role::Admin),
        }
    }

    /// The least role that is enough, in words.
    pub(crate) const fn needs(self) -> &'static str {
        match self {
            Self::Open => "no token",
            Self::Endpoints => "gateway, viewer, operator or admin",
            Self::See => "viewer, operator or admin",
            Self::SeeOrAgent => "viewer, operator or admin, or the agent whose it is",
            Self::Agent => "agent",
            Self::Act => "operator or admin",
            Self::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_its_name_says() {
        let may = |role| {
            [
                Access::Open,
                Access::Endpoints,
                Access::See,
                Access::SeeOrAgent,
                Access::Agent,
                Access::Act,
                Access::Admin,
            ]
            .map(|it| it.allows(role))
        };
        assert_eq!(may(Role::Admin), [true, true, true, true, false, true, true]);
        assert_eq!(may(Role::Operator), [true, true, true, true, false, true, false]);
        assert_eq!(may(Role::Viewer), [true, true, true, true, false, false, false]);
        assert_eq!(may(Role::Gateway), [true, true, false, false, false, false, false]);
        assert_eq!(may(Role::Agent), [true, false, false, true, true, false, false]);
    }
}
