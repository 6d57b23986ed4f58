//! The description of a store, which an example gives to its page.

/// The way in which an example keeps sessions, in words for its page.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Its name, for example `Session clustering`.
    pub name: &'static str,
    /// Its idea, in a sentence or two.
    pub summary: &'static str,
    /// The roles of nodes that hold a session, in the order of its route: `owner`, `backup`.
    /// Without a route, the node that serves has the first role. Empty if no node holds sessions.
    pub roles: &'static [&'static str],
    /// The store beside the nodes that holds every session, for example `Redis`.
    pub beside: Option<&'static str>,
    /// The reason why a session outlives its node.
    pub survives: &'static str,
    /// The reason why a session can be gone after its node was stopped.
    pub lost: &'static str,
}
