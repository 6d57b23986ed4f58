//! What an example says about its store.

/// Where an example keeps sessions, in words for its page.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    /// Its name, for example `Session clustering`.
    pub name: &'static str,
    /// What it does, in a sentence or two.
    pub summary: &'static str,
    /// What a node does that holds a session, in the order of the session's route: `owner`, `backup`.
    /// Without a route, the node that serves has the first role. Empty if no node holds sessions.
    pub roles: &'static [&'static str],
    /// What holds every session beside the nodes, for example `Redis`.
    pub beside: Option<&'static str>,
    /// The reason why a session outlives its node.
    pub survives: &'static str,
    /// The reason why a session can be gone after its node was stopped.
    pub lost: &'static str,
}
