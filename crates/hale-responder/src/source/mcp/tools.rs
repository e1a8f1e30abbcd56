//! Which tools a server has: of all that it lists, those that are needed, and how many there are.

use rmcp::{
    ServiceError,
    model::PaginatedRequestParams,
    service::{Peer, RoleClient},
};

use super::{LIST, SUBSCRIBE};

/// The most pages of the list that are read: a server may always name a next one.
const MAX_PAGES: usize = 50;

/// The most tools that are looked at.
const MAX_TOOLS: usize = 10_000;

/// What a server's list of tools says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tools {
    /// There is one to subscribe.
    pub(super) subscribe: bool,
    /// There is one that lists subscriptions.
    pub(super) list: bool,
    /// How many were listed.
    pub(super) count: usize,
    /// The list goes on beyond what is read.
    cut: bool,
}

impl Tools {
    /// Takes a page; says whether a next one is to be read.
    fn take<'a>(&mut self, names: impl Iterator<Item = &'a str>, pages: usize, more: bool) -> bool {
        for name in names {
            if self.count == MAX_TOOLS {
                self.cut = true;
                return false;
            }
            self.count += 1;
            self.subscribe |= name == SUBSCRIBE;
            self.list |= name == LIST;
        }
        self.cut = more && (pages >= MAX_PAGES || self.count == MAX_TOOLS);
        more && !self.cut
    }

    /// Nothing is known of a tool that may stand where the list was not read: asking for it shows whether it is there.
    pub(super) fn known(self) -> Option<Self> {
        if !self.cut || (self.subscribe && self.list) {
            return Some(self);
        }
        tracing::warn!(tools = self.count, "the MCP server lists more tools than are read");
        None
    }
}

/// Asks for the list, page by page.
pub(super) async fn list(peer: Peer<RoleClient>) -> Result<Tools, ServiceError> {
    let mut tools = Tools::default();
    let mut cursor = None;
    for page in 1.. {
        let asked = PaginatedRequestParams::default().with_cursor(cursor);
        let answer = peer.list_tools(Some(asked)).await?;
        cursor = answer.next_cursor;
        if !tools.take(answer.tools.iter().map(|it| it.name.as_ref()), page, cursor.is_some()) {
            break;
        }
    }
    Ok(tools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_an_end_is_read_to_the_bound_and_what_was_not_read_is_not_known() {
        let mut tools = Tools::default();
        let pages = (1..).take_while(|page| tools.take(["a", SUBSCRIBE].into_iter(), *page, true)).count();
        assert_eq!((pages + 1, tools.count), (MAX_PAGES, 2 * MAX_PAGES));
        assert_eq!(tools.clone().known(), None);
        tools.list = true;
        assert!(tools.known().is_some_and(|it| it.subscribe));

        let mut tools = Tools::default();
        assert!(!tools.take(std::iter::repeat_n("a", MAX_TOOLS + 1), 1, true));
        assert_eq!((tools.count, tools.known()), (MAX_TOOLS, None));

        let mut tools = Tools::default();
        assert!(tools.take([LIST].into_iter(), 1, true));
        assert!(!tools.take(["a"].into_iter(), 2, false));
        assert!(tools.known().is_some_and(|it| it.list && !it.subscribe && it.count == 2));
    }
}
