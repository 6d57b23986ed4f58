//! The reasons for refusing nodes as peers, each logged once rather than at each attempt.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use steadfast_replication::wire::EDITION;

/// The reason for refusing a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it does not know the secret of this node")]
    Stranger,
    #[error("it belongs to the service {0:?}")]
    OtherService(String),
    #[error(
        "it speaks edition {0} of the protocol, and this node speaks {EDITION}: they never form one service"
    )]
    Edition(u64),
}

/// The reasons that were logged, by the address of the refused node.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<String, Discriminant<Refusal>>);

impl Refusals {
    /// Notes a refusal; returns whether it is new.
    pub(super) fn is_new(&mut self, address: &str, why: &Refusal) -> bool {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(address.to_owned(), discriminant(why)) != Some(discriminant(why))
    }

    /// Notes that the node at an address is a peer now.
    pub(super) fn forget(&mut self, address: &str) {
        self.0.remove(address);
    }
}

/// The highest number of remembered addresses.
const MAX_REMEMBERED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_logged_once() {
        let mut refusals = Refusals::default();
        assert!(refusals.is_new("a:1", &Refusal::Edition(2)));
        assert!(!refusals.is_new("a:1", &Refusal::Edition(1)));
        assert!(refusals.is_new("b:1", &Refusal::Edition(2)));
        assert!(refusals.is_new("a:1", &Refusal::Stranger));
        refusals.forget("a:1");
        assert!(refusals.is_new("a:1", &Refusal::Stranger));
    }

    #[test]
    fn the_memory_of_refusals_is_bounded() {
        let mut refusals = Refusals::default();
        for n in 0..10 * MAX_REMEMBERED {
            refusals.is_new(&n.to_string(), &Refusal::Stranger);
        }
        assert!(refusals.0.len() <= MAX_REMEMBERED);
    }
}
