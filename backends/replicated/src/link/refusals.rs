//! Why a node that was reached is no peer: said once to the operator, not at each attempt.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use super::PROTOCOL;

/// Why a node is no peer of this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it does not know the secret of this node")]
    Stranger,
    #[error("it belongs to the service {0:?}")]
    OtherService(String),
    #[error("it has the name of this node, and names have to differ")]
    SameName,
    #[error("it speaks protocol {0}, and this node speaks {PROTOCOL}")]
    Protocol(u64),
    #[error("its clock differs from that of this node by {0:?}")]
    Clock(Duration),
}

/// What was said already, by the address where somebody was refused.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, Discriminant<Refusal>>);

impl Refusals {
    /// Takes note of a refusal, and says whether it is news.
    pub(super) fn is_new(&mut self, address: &str, why: &Refusal) -> bool {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(address.to_owned(), discriminant(why)) != Some(discriminant(why))
    }

    /// Whoever is at an address is a peer now.
    pub(super) fn forget(&mut self, address: &str) {
        self.0.remove(address);
    }
}

/// How many addresses are remembered at most.
const MAX_REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_news_once_until_it_changes_or_is_mended() {
        let mut refusals = Refusals::default();
        let clock = |secs| Refusal::Clock(Duration::from_secs(secs));
        assert!(refusals.is_new("a:1", &clock(400)));
        assert!(!refusals.is_new("a:1", &clock(401)));
        assert!(refusals.is_new("b:1", &clock(400)));
        assert!(refusals.is_new("a:1", &Refusal::SameName));
        refusals.forget("a:1");
        assert!(refusals.is_new("a:1", &Refusal::SameName));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refusals = Refusals::default();
        for n in 0..10 * MAX_REMEMBERED {
            refusals.is_new(&n.to_string(), &Refusal::Stranger);
        }
        assert!(refusals.0.len() <= MAX_REMEMBERED);
    }
}
