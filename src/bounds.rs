//! The limits of a session's life, which hold even if its record allows a longer one.

use steadfast_core::{Lifetime, Record, Timestamp};

use crate::replaceable::Replaceable;

/// The present lifetimes, and the time before which no sign-in is valid.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) lifetime: Lifetime,
    /// See [`crate::end_everybody`].
    cutoff: Option<Timestamp>,
}

impl Bounds {
    pub(crate) fn new(lifetime: Lifetime) -> Self {
        Self { lifetime, cutoff: None }
    }

    /// The end of a session that began then, regardless of its use.
    pub(crate) fn absolute_deadline(&self, begun: Timestamp) -> Timestamp {
        match self.cutoff {
            // Ends at its beginning, not at the cutoff: a node whose clock is late would still serve it.
            Some(cutoff) if begun < cutoff => begun,
            _ => self.lifetime.absolute_deadline(begun),
        }
    }
}

impl Replaceable<Bounds> {
    /// Returns the end of a session, regardless of its use. The present bounds may be stricter than those under
    /// which it began.
    pub(crate) fn absolute_deadline(&self, record: &Record) -> Timestamp {
        let begun = record.authenticated.unwrap_or(record.created);
        self.get().absolute_deadline(begun).min(record.absolute_deadline)
    }

    pub(crate) fn replace_lifetime(&self, lifetime: Lifetime) {
        self.change(|bounds| bounds.lifetime = lifetime);
    }

    /// Moves the cutoff forward, and returns whether it was earlier before.
    pub(crate) fn raise_cutoff(&self, cutoff: Timestamp) -> bool {
        self.change(|bounds| {
            let is_higher = bounds.cutoff < Some(cutoff);
            bounds.cutoff = bounds.cutoff.max(Some(cutoff));
            is_higher
        })
    }
}
