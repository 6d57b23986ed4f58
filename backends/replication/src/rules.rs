//! The rules that a test can leave out, by their names in `PROTOCOL.md`.

use std::time::Duration;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident,)*) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$rule,)*];
        }
    };
}

rules! {
    /// A voter that promised grants no new slot.
    A1,
    /// A voter that accepted grants nothing.
    A2,
    /// Promises are taken up.
    A3,
    /// A proposer proposes the value accepted under the highest ballot.
    A4,
    /// Accepting includes promising.
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
    /// Sides of a split, and copies of a slot that was given up, are merged.
    D1,
    /// Descent goes before size.
    D2,
    /// The default policy does not relax.
    P1,
    /// A majority of the voters puts a member aside, by the own word of each.
    S1,
    /// A stall of the judge is not evidence.
    S2,
    /// The holders when last served are heard, except for at most *a* of them.
    T2,
    /// One of them is complete.
    T3,
    /// Old copies are not evidence.
    T5,
    /// A node that was not a holder when last served replaces its own state.
    T6,
    /// Tentative writes are committed again.
    T7,
    /// Holders that are equal know it before the slot is served.
    T8,
    /// Holders that are complete drop tentative writes of earlier epochs.
    T10,
    /// No two writes of a record have one revision.
    V1,
    /// A record goes whole to a holder that may lack what a write changes.
    W1,
    /// Nothing tentative is shown.
    W3,
    /// A read lease is not longer than the owner's.
    R1,
    /// Only an owner that serves the slot says that there is no session.
    R2,
    /// A holder that asks for a read lease has its owner ask for one.
    R3,
    /// An end waits for readers.
    X1,
    /// A list names what ends for a login again when the login is asked again.
    Q3,
    /// A tombstone ends when every holder has it.
    X2,
    /// Every holder remembers an end that is to be reported.
    X3,
    /// Outcomes of calls travel with the record.
    C1,
    /// A call below the lowest open number is refused.
    C2,
    /// A slot is given up only after its holders were asked, and no voter heard them.
    G1,
    /// The copies that were complete last go before older ones, in a slot that was given up.
    G2,
    /// Copies that were not heard when a slot was given up are dropped.
    G3,
    /// A member that is aside for long is forgotten.
    E3,
    /// A list that was given up is rebuilt before it answers.
    Q2,
    /// Deadlines are judged by the median of all clocks.
    K1,
    /// A budget ends sessions by a write of their owner.
    B1,
    /// Each class of sessions has a budget of its own.
    B2,
    /// Near its deadline, a record is read at its owner.
    K3,
    /// Acknowledgements follow from settings.
    P2,
    /// Entries of lists that are not settled are asked about.
    Q1,
    /// The owner's silence about a record counts.
    Y1,
}

/// The rules in force: all of them, unless a test leaves one out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    #[cfg(any(test, feature = "mutants"))]
    without: Option<Rule>,
    #[cfg(any(test, feature = "mutants"))]
    forgets_soon: bool,
}

impl Rules {
    /// All rules but one.
    #[cfg(any(test, feature = "mutants"))]
    pub fn without(rule: Rule) -> Self {
        Self { without: Some(rule), ..Self::default() }
    }

    /// The same rules, but the ends of sessions are remembered for seconds in place of hours: a test sees what
    /// happens once they are forgotten.
    #[cfg(any(test, feature = "mutants"))]
    #[must_use]
    pub fn that_forget_soon(self) -> Self {
        Self { forgets_soon: true, ..self }
    }

    /// The time for which the end of a session is remembered.
    #[cfg_attr(not(any(test, feature = "mutants")), allow(clippy::unused_self))]
    pub(crate) fn remembered(self, kept: Duration) -> Duration {
        #[cfg(any(test, feature = "mutants"))]
        if self.forgets_soon {
            return kept / 20_000;
        }
        kept
    }

    /// Returns true if a rule is in force.
    #[cfg_attr(not(any(test, feature = "mutants")), allow(clippy::unused_self))]
    pub(crate) fn keep(self, rule: Rule) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        return self.without != Some(rule);
        #[cfg(not(any(test, feature = "mutants")))]
        matches!(rule, _)
    }
}
