//! Live sessions by kind, for metrics.

use metrics::{Gauge, gauge};

/// Whose a session is, as budgets and metrics tell sessions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// No user is signed in.
    Visitor,
    /// A user is signed in.
    Member,
}

impl SessionKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 2] = [Self::Visitor, Self::Member];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Visitor => "visitors",
            Self::Member => "members",
        }
    }

    /// Counts so many sessions more, or fewer if `change` is negative, in the gauge
    /// `steadfast_sessions{kind="…"}` of the [`metrics`] facade.
    ///
    /// For stores that know without asking a server. All stores of a process add up, so a store takes
    /// back what it counted when it is dropped.
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
