//! The greeting that both sides of a link send first.

use prost::Message as _;

use super::scalars::required;
use super::{WireError, datagram, proto};
use crate::membership::Hello;

/// A node's service, addresses and identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The name of the service.
    pub cluster: String,
    /// The edition of the protocol: nodes of different editions refuse each other.
    pub edition: u64,
    /// The address at which the node is dialled.
    pub address: String,
    /// The addresses of other nodes, at most [`MAX_KNOWN`].
    pub known: Vec<String>,
    /// The node, if it speaks this edition.
    pub hello: Option<Hello>,
}

impl Greeting {
    /// The bytes of the first frame.
    pub fn encode(&self) -> Vec<u8> {
        let Self { cluster, edition, address, known, hello } = self.clone();
        let name = hello.as_ref().map(|hello| hello.member.name.as_str().to_owned());
        let hello = hello.map(|hello| datagram::to_hello(&hello, true));
        let (protocol, name) = (edition, name.unwrap_or_default());
        proto::Greeting { cluster, name, protocol, address, known, hello }.encode_to_vec()
    }

    /// Reads the first frame.
    ///
    /// # Errors
    ///
    /// If the bytes are not a greeting, or one of this edition without a node.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let proto::Greeting { cluster, name: _, protocol, address, known, hello } =
            proto::Greeting::decode(bytes)?;
        let hello = if protocol == EDITION {
            Some(datagram::hello(required(hello, "the node")?)?)
        } else {
            None
        };
        if known.len() > MAX_KNOWN {
            return Err(WireError::TooMany(MAX_KNOWN));
        }
        Ok(Self { cluster, edition: protocol, address, known, hello })
    }
}

/// The edition of the protocol that this crate speaks.
pub const EDITION: u64 = 3;

/// The highest number of other nodes' addresses in a greeting.
pub const MAX_KNOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, joining};

    #[test]
    fn a_greeting_is_read_as_it_was_written() {
        let greeting = greeting();
        assert_eq!(Greeting::decode(&greeting.encode()), Ok(greeting));
    }

    #[test]
    fn another_edition_is_told_from_a_broken_greeting() {
        let first = Greeting { edition: 2, hello: None, ..greeting() };
        assert_eq!(Greeting::decode(&first.encode()), Ok(first));
        let broken = Greeting { hello: None, ..greeting() };
        assert_eq!(Greeting::decode(&broken.encode()), Err(WireError::Part("the node")));
    }

    fn greeting() -> Greeting {
        let known = vec!["10.0.0.2:7946".to_owned()];
        let (cluster, address) = ("shop".to_owned(), "10.0.0.1:7946".to_owned());
        Greeting { cluster, edition: EDITION, address, known, hello: Some(hello()) }
    }

    fn hello() -> Hello {
        let member = joining(1);
        let lowest = (member.name.clone(), boot(1));
        let (listed_in, in_sight) = (None, None);
        Hello { member, listed_in, in_sight, lowest, is_waiting: true, is_lost: false }
    }
}
