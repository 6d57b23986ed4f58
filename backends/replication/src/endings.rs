//! Sessions that ended without a request, handed out to be reported.

use std::collections::BTreeMap;

use steadfast_core::{CLAIMED_FOR, Ending, RecordId, Timestamp};

/// The endings that this node handed out, each with the time at which its claim lapses.
///
/// Only the owner of a record hands its ending out, and only the owner knows of the claim. So a new owner
/// hands out again what is not reported.
#[derive(Debug, Default)]
pub struct Claims(BTreeMap<RecordId, Timestamp>);

impl Claims {
    /// Claims some of these endings, unless they are claimed already.
    pub fn claim(
        &mut self,
        limit: usize,
        endings: impl Iterator<Item = Ending>,
        now: Timestamp,
    ) -> Vec<Ending> {
        let until = now + CLAIMED_FOR;
        // A claim that lapses later than one of now was made before the clock was set back.
        self.0.retain(|_, lapses| now < *lapses && *lapses <= until);
        let is_free = |ending: &Ending| !self.0.contains_key(&ending.id);
        let claimed: Vec<_> = endings.filter(is_free).take(limit).collect();
        self.0.extend(claimed.iter().map(|ending| (ending.id, until)));
        claimed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfast_core::EndReason;

    use super::*;
    use crate::replicas::tests::id;

    #[test]
    fn an_ending_is_claimed_until_the_claim_lapses() {
        let mut claims = Claims::default();
        let claim = |claims: &mut Claims, limit, seconds| {
            let now = at(seconds);
            let claimed = claims.claim(limit, (0..3).map(ending), now);
            claimed.into_iter().map(|ending| ending.id).collect::<Vec<_>>()
        };
        assert_eq!(claim(&mut claims, 2, 100), [id(0), id(1)]);
        assert_eq!(claim(&mut claims, 2, 110), [id(2)]);
        assert_eq!(claim(&mut claims, 2, 129), []);
        assert_eq!(claim(&mut claims, 2, 130), [id(0), id(1)]);
        assert_eq!(claim(&mut claims, 9, 90), [id(0), id(1), id(2)], "the clock was set back");
    }

    fn ending(n: u64) -> Ending {
        Ending { id: id(n), principal: None, reason: EndReason::Expired, at: at(0) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
    }
}
