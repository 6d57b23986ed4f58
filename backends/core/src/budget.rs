//! Memory budgets.

/// The highest number of records, and of their bytes, that a store keeps in memory. Both bounds
/// hold.
///
/// Anonymous sessions and signed-in sessions have one budget each, so that a flood of visitors
/// never ends a user's session. When a budget is used up, its least recently used sessions end. A
/// record that is larger than the whole budget ends all others. Each store documents how closely it
/// follows a budget, and how it weighs a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The number of records, at least 1.
    pub records: u64,
    /// The bytes of memory, including bookkeeping.
    pub bytes: u64,
}

impl Budget {
    /// 100,000 records in 256 MiB: the default for anonymous sessions.
    pub const ANONYMOUS: Self = Self { records: 100_000, bytes: 256 << 20 };

    /// 1,000,000 records in 1 GiB: the default for signed-in sessions.
    pub const AUTHENTICATED: Self = Self { records: 1_000_000, bytes: 1 << 30 };
}
