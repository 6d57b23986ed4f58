//! Nodes, their boots and their roles.

use std::fmt;

pub use steadfast_core::RouteLabel as Name;

use crate::settings::Settings;

/// A random number that a process draws when it starts. Votes, leases, calls and copies belong to a
/// boot: a process that restarts is a new one, and inherits nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(u128);

impl Boot {
    /// A boot of 16 random bytes.
    pub const fn new(random: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(random))
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Its first 32 bits.
    pub fn prefix(self) -> u32 {
        (self.0 >> 96) as u32
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.prefix())
    }
}

/// A node that an epoch lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Stable over restarts, and the label by which a balancer knows it.
    pub name: Name,
    /// The process.
    pub boot: Boot,
    /// The address at which other nodes reach it.
    pub address: String,
    /// The zone in which it runs: the holders of a slot are in different zones if possible.
    pub zone: Option<String>,
    /// Its role.
    pub role: Role,
    /// True if it votes for the next epoch and for leases.
    pub votes: bool,
    /// The versions of the protocol that it speaks.
    pub protocol: Versions,
    /// The settings it was started with; `None` stands for those of the epoch.
    pub started_with: Option<Settings>,
}

impl Member {
    /// A member that fills its slots.
    pub fn joining(name: Name, boot: Boot, address: String, zone: Option<String>) -> Self {
        let (protocol, started_with) = (Versions::default(), None);
        Self {
            name,
            boot,
            address,
            zone,
            role: Role::Joining,
            votes: false,
            protocol,
            started_with,
        }
    }
}

/// The versions of the protocol that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Versions {
    /// The lowest one.
    pub lowest: u32,
    /// The highest one.
    pub highest: u32,
}

impl Versions {
    /// Returns true if a version is among them.
    pub fn contains(self, version: u32) -> bool {
        (self.lowest..=self.highest).contains(&version)
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self { lowest: 1, highest: 1 }
    }
}

/// The role of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// It fills the slots that it is going to hold.
    Joining,
    /// Slots are placed on it.
    Full,
    /// No slot is placed on it, and it hands over what it served.
    Draining,
    /// It was not reached: it serves nothing, and comes back as joining.
    Aside,
}

impl Role {
    /// Its word: `joining`, `full`, `draining` or `aside`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Aside => "aside",
        }
    }
}
