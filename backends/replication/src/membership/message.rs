//! Messages between nodes about their membership.

use std::fmt;
use std::sync::Arc;

use crate::cluster::{self, Ballot};
use crate::epoch::{Change, Epoch, EpochId};
use crate::member::{Boot, Member, Name, Versions};
use crate::settings::Settings;

/// A datagram: it may be lost, doubled, and overtaken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The node that made it, if another one passed it on.
    pub from: Boot,
    /// The epoch of that node, if it has one.
    pub epoch: Option<EpochId>,
    /// The content.
    pub message: Message,
}

/// A message about the membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Message {
    /// About an epoch, its successor and its leases.
    Cluster(cluster::Message),
    /// The sender received an epoch: the frame names it.
    Known,
    /// The sender's identity, and its view.
    Hello {
        /// The sender.
        hello: Box<Hello>,
        /// True if the receiver is to answer with the same.
        asks: bool,
    },
    /// Changes that the sender asks a voter for.
    Ask(Vec<Change>),
    /// Another process of the sender's name may be there: it is asked whether it is.
    Wait,
    /// The sender of an `Ask` is not admitted.
    Refused(Refusal),
    /// The sender does not reach a member.
    Suspect(Boot),
    /// It does again.
    Trust(Boot),
    /// Asks whether the receiver handles frames.
    Ping,
    /// It does.
    Pong,
    /// A frame to pass on to a boot that its sender does not reach.
    Relay {
        /// The receiver of the frame inside.
        to: Boot,
        /// The frame for that boot.
        frame: Box<Frame>,
    },
    /// Asks a boot to take no part in a lineage any more whose majority is lost, but in the ballot on the
    /// lineage that follows the named epoch.
    Surrender(EpochId, Ballot),
    /// It does; and what it accepted last.
    Surrendered(EpochId, Ballot, Option<(Ballot, Arc<Epoch>)>),
    /// Asks a boot that surrendered to accept the first epoch of a new lineage.
    Found(EpochId, Ballot, Arc<Epoch>),
    /// It does.
    Founded(EpochId, Ballot),
    /// It takes part in a higher ballot.
    Declined(EpochId, Ballot),
}

/// A node's identity and its view: the first message on a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The node as a member.
    pub member: Member,
    /// The last epoch that listed it.
    pub listed_in: Option<EpochId>,
    /// The epoch of others that it knows, if it has none itself.
    pub in_sight: Option<EpochId>,
    /// The lowest node that it is linked to, itself included.
    pub lowest: (Name, Boot),
    /// True if discovery is incomplete, or found an address to which the node has no link.
    pub is_waiting: bool,
    /// True if it has an epoch, but no majority of the voters.
    pub is_lost: bool,
}

/// The result of discovery, besides the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// True if it found any other address, or the node was configured with peers.
    pub has_others: bool,
    /// The addresses to which no link is open. One that answered before may be in a service by now.
    pub silent: Vec<String>,
}

/// The reason why a node is not admitted, with the values of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It was started with other settings.
    #[error("the node was started with {node}, the service runs with {service}")]
    Settings {
        /// Those of the node.
        node: Described,
        /// Those of the service.
        service: Described,
    },
    /// It does not speak the version of the protocol that the service uses.
    #[error(
        "the node speaks the versions {} to {} of the protocol, the service uses {service}",
        node.lowest, node.highest
    )]
    Protocol {
        /// Those of the node.
        node: Versions,
        /// That of the service.
        service: u32,
    },
    /// It was a member before, and another process took its place.
    #[error("another process took the place of this one")]
    Replaced,
}

/// Settings, as a log says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Described(pub Settings);

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { replication, acknowledgements, policy } = self.0;
        write!(f, "replication {replication:?}, acknowledgements {acknowledgements:?}, ")?;
        match policy {
            Some(policy) => write!(f, "policy {policy:?}"),
            None => write!(f, "the default policy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::SETTINGS;
    use crate::settings::Acknowledgements;

    #[test]
    fn a_refusal_names_both_sides() {
        let other = Settings { acknowledgements: Acknowledgements::All, ..SETTINGS };
        let refusal = Refusal::Settings { node: Described(other), service: Described(SETTINGS) };
        let said = "the node was started with replication Backups(1), acknowledgements All, the \
                    default policy, the service runs with replication Backups(1), \
                    acknowledgements One, the default policy";
        assert_eq!(refusal.to_string(), said);
        let refusal = Refusal::Protocol { node: Versions { lowest: 2, highest: 3 }, service: 1 };
        let said = "the node speaks the versions 2 to 3 of the protocol, the service uses 1";
        assert_eq!(refusal.to_string(), said);
    }
}
