//! The contestants: where each keeps its sessions, and what its balancer does.

use std::str::FromStr;

use anyhow::bail;

/// A way to keep sessions on several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Each node keeps its own sessions, and the balancer ignores that. The problem itself.
    Memory,
    /// The balancer follows a cookie to the node that holds the session.
    Sticky,
    /// The balancer sends each address to a node of its own.
    StickyAddress,
    /// As sticky by cookie, and each session has a copy in Redis.
    StickyBackup,
    /// Every node holds a copy of every session.
    ReplicatedAll,
    /// An owner and one backup hold each session.
    ReplicatedOne,
    /// Sessions are in Redis.
    Redis,
    /// Sessions are in PostgreSQL.
    Postgres,
    /// The baseline: tower-sessions over Redis.
    TowerRedis,
    /// The baseline: tower-sessions over PostgreSQL.
    TowerPostgres,
}

/// The program of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `examples/reference`.
    Reference,
    /// `examples/benchmark/peer`, with the same routes within the limits of tower-sessions.
    Peer,
}

/// The balancer's way to pick a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The next one in turn.
    RoundRobin,
    /// The one that the route cookie names; without a cookie, the next one in turn.
    Cookie,
    /// The one that the visitor's address falls to, by a consistent hash.
    Address,
}

/// A server beside the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// One Redis, without persistence.
    Redis,
    /// One PostgreSQL, which does not wait for a disk.
    Postgres,
}

impl Strategy {
    /// All contestants, the control first.
    pub const ALL: [Self; 10] = [
        Self::Memory,
        Self::Sticky,
        Self::StickyAddress,
        Self::StickyBackup,
        Self::ReplicatedAll,
        Self::ReplicatedOne,
        Self::Redis,
        Self::Postgres,
        Self::TowerRedis,
        Self::TowerPostgres,
    ];

    /// The strategies to choose from: neither the control nor the baseline.
    pub fn choices() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|one| *one != Self::Memory && one.program() == Program::Reference)
    }

    /// The name in options and in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sticky => "sticky",
            Self::StickyAddress => "sticky-address",
            Self::StickyBackup => "sticky-backup",
            Self::ReplicatedAll => "replicated-all",
            Self::ReplicatedOne => "replicated-one",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::TowerRedis => "tower-sessions-redis",
            Self::TowerPostgres => "tower-sessions-postgres",
        }
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Memory => "Memory, unshared",
            Self::Sticky => "Sticky",
            Self::StickyAddress => "Sticky by address",
            Self::StickyBackup => "Sticky + backup",
            Self::ReplicatedAll => "Replicated to all",
            Self::ReplicatedOne => "Replicated to one",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::TowerRedis => "tower-sessions, Redis",
            Self::TowerPostgres => "tower-sessions, PostgreSQL",
        }
    }

    /// The strategy and its price, in a sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Memory => {
                "Each node keeps its own sessions and the balancer ignores that: the control."
            }
            Self::Sticky => {
                "The balancer follows a cookie to the node that holds the session; a dead node takes its sessions along."
            }
            Self::StickyAddress => {
                "The balancer sends each address to a node of its own, so people behind one address share a node."
            }
            Self::StickyBackup => "As sticky, and Redis keeps a copy that another node takes over.",
            Self::ReplicatedAll => {
                "Every node holds every session; traffic and memory grow with the nodes."
            }
            Self::ReplicatedOne => {
                "An owner and one backup hold each session, and any node finds them."
            }
            Self::Redis => "Nodes keep nothing; each request that uses its session asks Redis.",
            Self::Postgres => {
                "Nodes keep nothing; each request that uses its session asks PostgreSQL."
            }
            Self::TowerRedis => "The baseline: tower-sessions with its Redis store over fred.",
            Self::TowerPostgres => {
                "The baseline: tower-sessions with its PostgreSQL store over sqlx."
            }
        }
    }

    /// The way in which its balancer picks a node.
    pub fn balance(self) -> Balance {
        match self {
            Self::Sticky | Self::StickyBackup => Balance::Cookie,
            Self::StickyAddress => Balance::Address,
            _ => Balance::RoundRobin,
        }
    }

    /// The server that it needs beside its nodes.
    pub fn server(self) -> Option<Server> {
        match self {
            Self::StickyBackup | Self::Redis | Self::TowerRedis => Some(Server::Redis),
            Self::Postgres | Self::TowerPostgres => Some(Server::Postgres),
            _ => None,
        }
    }

    /// The program of its nodes.
    pub fn program(self) -> Program {
        match self {
            Self::TowerRedis | Self::TowerPostgres => Program::Peer,
            _ => Program::Reference,
        }
    }

    /// True if nodes talk to each other about sessions.
    pub fn is_replicated(self) -> bool {
        matches!(self, Self::ReplicatedAll | Self::ReplicatedOne)
    }

    /// Secrets to hand out: the one between nodes, or the password of the server.
    pub fn secrets(self) -> usize {
        usize::from(self.is_replicated() || self.server().is_some())
    }

    /// Ports that each node listens on.
    pub fn ports_of_a_node(self) -> usize {
        1 + usize::from(self.is_replicated())
    }
}

impl FromStr for Strategy {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        if let Some(strategy) = Self::ALL.into_iter().find(|strategy| strategy.id() == name) {
            return Ok(strategy);
        }
        bail!("expected one of {}", Self::ALL.map(Self::id).join(", "))
    }
}
