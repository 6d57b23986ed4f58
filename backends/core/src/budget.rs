//! How much memory sessions may take.

/// How many records and how many bytes a store holds in memory of one kind of session; both bounds
/// hold.
///
/// Sessions that nobody signed in to have one, and sessions that somebody did have another, so that a
/// flood of visitors ends no session of a user. At the bound, sessions end that were quiet for the
/// longest time. A record that is larger than the whole budget ends every other. Each store says how
/// closely it follows, and what counts for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Records, at least 1.
    pub records: u64,
    /// Bytes of memory, those of the bookkeeping included.
    pub bytes: u64,
}

impl Budget {
    /// 100,000 records in 256 MiB: the default for sessions that nobody signed in to.
    pub const ANONYMOUS: Self = Self { records: 100_000, bytes: 256 << 20 };

    /// 1,000,000 records in 1 GiB: the default for sessions that somebody signed in to.
    pub const AUTHENTICATED: Self = Self { records: 1_000_000, bytes: 1 << 30 };
}
