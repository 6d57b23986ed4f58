//! Live sessions by kind, for metrics.

use metrics::{Gauge, gauge};

/// The kind of a session, as budgets and metrics distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// No user is signed in.
    Visitor,
    /// A user is signed in.
    Member,
}

impl SessionKind {
    /// All kinds, in the order of declaration.
    pub const ALL: [Self; 2] = [Self::Visitor, Self::Member];

    /// Returns the name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visitor => "visitors",
            Self::Member => "members",
        }
    }

    /// Adds `change`, which may be negative, to the gauge `steadfast_sessions{kind="…"}` of the
    /// [`metrics`] facade.
    ///
    /// Stores call it if they know their sessions without asking a server. The gauge is the sum
    /// over all stores of a process, so a store subtracts its share when it is dropped.
    pub fn count(self, change: i64) {
        self.gauge().increment(change as f64);
    }

    fn gauge(self) -> Gauge {
        match self {
            Self::Visitor => gauge!("steadfast_sessions", "kind" => "visitors"),
            Self::Member => gauge!("steadfast_sessions", "kind" => "members"),
        }
    }
}
