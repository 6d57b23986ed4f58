//! The feed of changes: owners of records report them to nodes with listeners.

use std::collections::BTreeSet;

use crate::member::Boot;

/// The listeners of this node, and those of others.
#[derive(Debug, Default)]
pub struct Feed {
    /// True if this node has listeners.
    listens: bool,
    /// Members that have not said yet that they tell this node.
    awaited: BTreeSet<Boot>,
    /// Members that want to hear of changes.
    others: BTreeSet<Boot>,
}

impl Feed {
    /// Notes that this node has listeners from now on, and returns the members that have to know.
    pub fn listen(&mut self, members: BTreeSet<Boot>) -> bool {
        let is_new = !std::mem::replace(&mut self.listens, true);
        if is_new {
            self.awaited = members;
        }
        is_new
    }

    /// Another epoch: members tell each other again. Says whether this node's listeners may miss something
    /// from here on.
    pub fn on_epoch(&mut self, members: BTreeSet<Boot>) -> bool {
        self.others.clear();
        if self.listens {
            self.awaited = members;
        }
        self.listens
    }

    /// True if this node has listeners.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// Returns true if this node hears of every change.
    pub fn hears_all(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Notes that a member wants to hear of changes.
    pub fn on_listen(&mut self, from: Boot) {
        self.others.insert(from);
    }

    /// A member tells this node from now on; says whether it was the last one.
    pub fn on_telling(&mut self, from: Boot) -> bool {
        self.awaited.remove(&from) && self.awaited.is_empty()
    }

    /// Returns the members that want to hear of changes.
    pub fn others(&self) -> impl Iterator<Item = Boot> {
        self.others.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::boot;

    #[test]
    fn a_feed_is_whole_once_all_members_tell() {
        let mut feed = Feed::default();
        assert!(feed.listen(members()));
        assert!(!feed.listen(members()), "it listens already");
        assert!(!feed.on_telling(boot(1)));
        assert!(!feed.hears_all());
        assert!(feed.on_telling(boot(2)));
        assert!(feed.hears_all());
        assert!(!feed.on_telling(boot(2)), "said twice");
    }

    #[test]
    fn an_epoch_begins_again() {
        let mut feed = Feed::default();
        assert!(!feed.on_epoch(members()), "nothing listens here");
        feed.on_listen(boot(1));
        assert_eq!(feed.others().collect::<Vec<_>>(), [boot(1)]);
        feed.listen(BTreeSet::new());
        assert!(feed.on_epoch(members()));
        assert!(!feed.hears_all());
        assert_eq!(feed.others().count(), 0);
    }

    fn members() -> BTreeSet<Boot> {
        [boot(1), boot(2)].into()
    }
}
