//! The requests of a run.

/// The requests of a run. The same seed gives the same requests.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// The number of users. Each has one session at a time.
    pub users: usize,
    /// Requests per second.
    pub rate: u64,
}

/// A user, and the kind of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub user: usize,
    pub kind: Kind,
}

/// An operation on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Sets the number.
    Put,
    /// Adds 1 to the counter.
    Add,
    /// Reads the user and the number.
    Peek,
    /// Reads the counter.
    Count,
    /// Ends the session.
    Logout,
    /// Sends the token of a session that ended.
    Replay,
}

impl Plan {
    /// Returns the time at which a request is due, in microseconds since the first one.
    pub fn due(&self, number: u64) -> u64 {
        number * 1_000_000 / self.rate
    }

    pub fn request(&self, number: u64) -> Request {
        let user = scattered(self.seed, 2 * number) % self.users as u64;
        let kind = kind(scattered(self.seed, 2 * number + 1) % 50);
        Request { user: user as usize, kind }
    }
}

/// Half of the requests change the session: of all, one in fifty ends it, and one in ten adds.
fn kind(of_fifty: u64) -> Kind {
    match of_fifty {
        0 => Kind::Logout,
        1..=5 => Kind::Add,
        6..=24 => Kind::Put,
        25 => Kind::Replay,
        26..=34 => Kind::Count,
        _ => Kind::Peek,
    }
}

/// Maps a number to a pseudorandom one, by splitmix64.
fn scattered(seed: u64, number: u64) -> u64 {
    let mut mixed = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PLAN: Plan = Plan { seed: 7, users: 400, rate: 200 };

    #[test]
    fn two_hundred_requests_are_due_in_a_second() {
        assert_eq!((PLAN.due(0), PLAN.due(1), PLAN.due(200)), (0, 5_000, 1_000_000));
    }

    #[test]
    fn half_of_the_requests_write() {
        let share = |kinds: &[Kind]| {
            let of = |number: &u64| kinds.contains(&PLAN.request(*number).kind);
            (0..100_000).filter(of).count() / 100
        };
        assert!((480..520).contains(&share(&[Kind::Put, Kind::Add, Kind::Logout])));
        assert!((90..110).contains(&share(&[Kind::Add])));
        assert!((17..23).contains(&share(&[Kind::Logout])));
    }

    #[test]
    fn every_user_has_a_turn() {
        let users: BTreeSet<_> = (0..8_000).map(|number| PLAN.request(number).user).collect();
        assert_eq!(users.len(), 400);
    }

    #[test]
    fn another_seed_asks_for_other_things() {
        let of = |seed| (0..50).map(|number| Plan { seed, ..PLAN }.request(number)).collect();
        let (one, other): (Vec<_>, Vec<_>) = (of(1), of(2));
        assert_eq!(one, of(1));
        assert_ne!(one, other);
    }
}
