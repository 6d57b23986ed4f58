//! The times at which this node asks for a lease.

use std::time::Duration;

use crate::cluster::{LeaseState, Timing};

/// The need for a lease: once for the slots that were taken over, and while calls arrive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leases {
    /// The time when a call last needed one.
    wanted: Option<Duration>,
}

impl Leases {
    /// Notes that a call needs a lease.
    pub(super) fn want(&mut self, now: Duration) {
        self.wanted = Some(now);
    }

    /// Returns true if this node has to ask for one now.
    pub(super) fn is_due(&self, state: LeaseState, timing: Timing, now: Duration) -> bool {
        let Some(asked) = state.asked else {
            return state.is_ready;
        };
        if state.has_news {
            return true;
        }
        let since = now.saturating_sub(asked);
        let is_wanted = self.wanted.is_some_and(|wanted| wanted > asked);
        if state.is_granted && state.is_named {
            return is_wanted && since >= timing.lease * 2 / 3;
        }
        let is_called = self.wanted.is_some_and(|wanted| wanted + PATIENCE > now);
        since >= AGAIN && (!state.is_named || is_called)
    }
}

/// A request that is not granted is repeated.
const AGAIN: Duration = Duration::from_millis(100);

/// The time for which a call that needed a lease justifies repeating the request.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const GRANTED: LeaseState = LeaseState {
        asked: Some(Duration::from_millis(1_000)),
        is_granted: true,
        until: Some(Duration::from_millis(1_300)),
        is_ready: true,
        has_news: false,
        is_named: true,
    };

    #[test]
    fn a_node_at_rest_asks_for_none() {
        assert!(!is_due(None, GRANTED, 10_000));
        let nothing =
            LeaseState { asked: None, is_granted: false, until: None, is_ready: false, ..GRANTED };
        assert!(!is_due(Some(1_000), nothing, 1_000));
    }

    #[test]
    fn a_call_renews_a_lease_after_two_thirds() {
        assert!(!is_due(Some(1_100), GRANTED, 1_199));
        assert!(is_due(Some(1_100), GRANTED, 1_200));
        assert!(!is_due(Some(900), GRANTED, 1_200), "no call since");
        assert!(is_due(Some(5_000), GRANTED, 5_000), "the first one after a rest");
    }

    #[test]
    fn a_take_over_needs_one_without_calls() {
        let news = LeaseState { has_news: true, is_named: false, ..GRANTED };
        assert!(is_due(None, news, 1_001));
        let refused = LeaseState { is_named: false, is_granted: false, ..GRANTED };
        assert!(!is_due(None, refused, 1_099));
        assert!(is_due(None, refused, 1_100));
    }

    #[test]
    fn a_waiting_call_repeats_a_lost_request() {
        let lost = LeaseState { is_granted: false, ..GRANTED };
        assert!(is_due(Some(900), lost, 1_100));
        assert!(!is_due(Some(900), lost, 1_900));
    }

    fn is_due(wanted: Option<u64>, state: LeaseState, now: u64) -> bool {
        let wanted = wanted.map(Duration::from_millis);
        Leases { wanted }.is_due(state, Timing::DEFAULT, Duration::from_millis(now))
    }
}
