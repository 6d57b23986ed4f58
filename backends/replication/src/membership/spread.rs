//! The nodes that still have to learn an epoch that this node proposed.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::epoch::EpochId;
use crate::member::Boot;

/// The nodes that have not said yet that they know the epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    epoch: Option<EpochId>,
    pending: BTreeMap<Boot, Telling>,
}

#[derive(Clone, Copy, Debug)]
struct Telling {
    next: Duration,
    times: u32,
}

impl Spread {
    /// Begins to spread an epoch to these nodes, to which it was sent once.
    pub(super) fn begin(
        &mut self,
        epoch: EpochId,
        boots: impl Iterator<Item = Boot>,
        now: Duration,
    ) {
        let telling = Telling { next: now + FIRST, times: 1 };
        self.epoch = Some(epoch);
        self.pending = boots.map(|boot| (boot, telling)).collect();
    }

    /// Another node had a later epoch chosen, and tells it.
    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Notes that a node said that it received it.
    pub(super) fn on_known(&mut self, boot: Boot) {
        self.pending.remove(&boot);
    }

    /// Notes the epoch that a node's frame names.
    pub(super) fn on_frame(&mut self, boot: Boot, theirs: Option<EpochId>) {
        let knows = |(own, theirs): (EpochId, EpochId)| {
            theirs.lineage == own.lineage && theirs.number >= own.number
        };
        if self.epoch.zip(theirs).is_some_and(knows) {
            self.pending.remove(&boot);
        }
    }

    /// Returns true if all reachable nodes know it.
    pub(super) fn is_over(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns the nodes that the epoch has to be sent to again. Those without a link are given up
    /// after a while: they ask when they are back.
    pub(super) fn due(&mut self, now: Duration, is_linked: impl Fn(Boot) -> bool) -> Vec<Boot> {
        self.pending.retain(|boot, telling| telling.times < MOST || is_linked(*boot));
        let mut due = Vec::new();
        for (boot, telling) in &mut self.pending {
            if now >= telling.next {
                telling.times += 1;
                telling.next = now + LONGEST.min(FIRST.saturating_mul(telling.times));
                due.push(*boot);
            }
        }
        due
    }
}

const FIRST: Duration = Duration::from_millis(100);

const LONGEST: Duration = Duration::from_secs(1);

/// The interval at which the epoch is sent through relays to a node without a link.
const MOST: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, grown};

    #[test]
    fn a_node_is_told_until_it_knows() {
        let mut spread = begun();
        assert!(spread.due(ms(99), |_| true).is_empty());
        assert_eq!(spread.due(ms(100), |_| true), [boot(1), boot(2)]);
        spread.on_known(boot(1));
        assert_eq!(spread.due(ms(300), |_| true), [boot(2)]);
        spread.on_frame(boot(2), Some(grown(2).id()));
        assert!(!spread.is_over(), "an earlier epoch");
        spread.on_frame(boot(2), Some(grown(4).id()));
        assert!(spread.is_over());
    }

    #[test]
    fn a_node_without_a_link_is_given_up() {
        let mut spread = begun();
        let told: usize = (0..60).map(|n| spread.due(ms(n * 100), |b| b == boot(1)).len()).sum();
        assert!(told > 10 && told < 30, "{told}");
        assert!(!spread.is_over());
        assert!(spread.due(ms(60_000), |_| false).is_empty() && spread.is_over());
    }

    fn begun() -> Spread {
        let mut spread = Spread::default();
        spread.begin(grown(3).id(), [boot(1), boot(2)].into_iter(), ms(0));
        spread
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
