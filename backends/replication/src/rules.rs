//! The rules that a test can leave out, by their names in `PROTOCOL.md`.

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A voter that promised grants no new slot.
    A1,
    /// A voter that accepted grants nothing.
    A2,
    /// Promises are taken up.
    A3,
    /// What was accepted under the highest ballot is proposed.
    A4,
    /// To accept is to promise.
    A5,
    /// A majority of the voters stays.
    E1,
    /// A new name votes when it is full.
    E2,
    /// A node waits for all that discovery names before it founds.
    F1,
    /// A boot that was replaced ends itself.
    I2,
    /// Waiting for a lease to end takes longer than the lease.
    L1,
    /// A lease ends with its epoch.
    L2,
    /// Messages between two boots are handled in the order of their numbers, and once.
    N1,
    /// Each voter name is there before a lineage is founded after a loss, and none knows a higher epoch.
    M1,
    /// A node that left a lineage grants nothing before its old leases are over.
    M2,
    /// Descent goes before size.
    D2,
    /// The default policy does not relax.
    P1,
    /// A majority of the voters puts a member aside, by the own word of each.
    S1,
    /// A stall of the judge is no evidence.
    S2,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 18] = [
        Self::A1,
        Self::A2,
        Self::A3,
        Self::A4,
        Self::A5,
        Self::E1,
        Self::E2,
        Self::F1,
        Self::I2,
        Self::L1,
        Self::L2,
        Self::M1,
        Self::M2,
        Self::N1,
        Self::D2,
        Self::P1,
        Self::S1,
        Self::S2,
    ];
}

/// Which rules are kept: all of them, unless a test leaves one out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    #[cfg(any(test, feature = "mutants"))]
    without: Option<Rule>,
}

impl Rules {
    /// All rules but one.
    #[cfg(any(test, feature = "mutants"))]
    pub fn without(rule: Rule) -> Self {
        Self { without: Some(rule) }
    }

    /// Whether a rule is kept.
    #[cfg_attr(not(any(test, feature = "mutants")), allow(clippy::unused_self))]
    pub(crate) fn keep(self, rule: Rule) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        return self.without != Some(rule);
        #[cfg(not(any(test, feature = "mutants")))]
        matches!(rule, _)
    }
}
