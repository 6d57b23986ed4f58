//! Who is there: a failure detector behind a trait, so that another one can take its place.

mod gossip;
mod swim;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

pub(crate) use self::gossip::GossipError;
pub(crate) use self::swim::SwimMembership;
use crate::placement::Name;

/// Says who is dead. It is believed, but under `Partition::Fail` only a majority buries.
///
/// It does no I/O: time is handed in, from whenever on, and what it has to say is carried by links.
pub(crate) trait Membership: fmt::Debug + Send {
    /// A link to a node is up.
    fn reached(&mut self, now: Duration, name: &Name);
    /// A link to a node is gone.
    fn lost(&mut self, now: Duration, name: &Name);
    /// A node that is linked gossips.
    ///
    /// # Errors
    ///
    /// When that is no gossip, or none of that node's.
    fn heard(&mut self, now: Duration, from: &Name, gossip: &[u8]) -> Result<(), GossipError>;
    /// Time passes: to be called about every [`BEAT`].
    fn pass(&mut self, now: Duration);
    /// This node is about to go, and tells the others.
    fn leave(&mut self, now: Duration);
    /// What is to be sent since. It may be lost: it is for nodes that are linked, and others.
    fn take_gossip(&mut self) -> Vec<(Name, Vec<u8>)>;
    /// Nodes that are dead, none of them linked; each again and again, for as long as it is.
    fn dead(&self) -> BTreeSet<Name>;
}

/// How often time passes for a membership.
pub(crate) const BEAT: Duration = Duration::from_millis(50);
