//! Route labels: hints that tell a load balancer which node serves a session.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use metrics::{Key, Label, Level, Metadata, with_recorder};

/// The name by which a load balancer knows a node: 1 to 32 of `A-Z a-z 0-9 _ -`.
///
/// A label is a hint, not an identity. A wrong one causes a detour and opens nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteLabel(Arc<str>);

impl RouteLabel {
    /// Returns the label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouteLabel {
    type Err = RouteLabelError;

    fn from_str(label: &str) -> Result<Self, Self::Err> {
        let fits = (1..=32).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        fits.then(|| Self(label.into())).ok_or_else(|| RouteLabelError { label: label.to_owned() })
    }
}

impl fmt::Debug for RouteLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A route label is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route label {label:?} is not 1 to 32 of the characters A-Z a-z 0-9 _ -")]
#[non_exhaustive]
pub struct RouteLabelError {
    /// The given label.
    pub label: String,
}

/// The relation between a request's route and the node that received it.
///
/// Each request increments `steadfast_routes_total{route="…"}` of the [`metrics`] facade, which
/// reveals a load balancer that ignores routes. Only labels are compared; no store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Routed {
    /// The route names this node first.
    Hit,
    /// The route names this node, but not first: the load balancer fell back to it.
    Backup,
    /// The route names other known nodes.
    Misrouted,
    /// The route names only unknown nodes.
    Unknown,
    /// The request has no route.
    None,
}

impl Routed {
    /// All relations, in the order of declaration.
    pub const ALL: [Self; 5] =
        [Self::Hit, Self::Backup, Self::Misrouted, Self::Unknown, Self::None];

    /// Returns the name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Backup => "backup",
            Self::Misrouted => "misrouted",
            Self::Unknown => "unknown",
            Self::None => "none",
        }
    }

    /// Returns true if the route only names other nodes.
    pub const fn is_astray(self) -> bool {
        matches!(self, Self::Misrouted | Self::Unknown)
    }

    /// Counts a request.
    pub fn count(self) {
        let key = &KEYS[self as usize];
        with_recorder(|recorder| recorder.register_counter(key, &METADATA).increment(1));
    }
}

static KEYS: LazyLock<[Key; Routed::ALL.len()]> = LazyLock::new(|| {
    let label = |routed: Routed| Label::new("route", routed.name());
    Routed::ALL.map(|routed| Key::from_parts("steadfast_routes_total", vec![label(routed)]))
});

static METADATA: Metadata<'static> = Metadata::new("steadfast", Level::INFO, Some(module_path!()));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relation_is_counted_under_its_own_name() {
        for routed in Routed::ALL {
            let mut labels = KEYS[routed as usize].labels();
            assert_eq!(labels.next().map(Label::value), Some(routed.name()));
        }
    }

    #[test]
    fn a_label_is_a_short_plain_word() {
        assert_eq!("n1".parse::<RouteLabel>().unwrap().as_str(), "n1");
        for bad in ["", "n 1", "n.1", "n1;", "\u{e9}", &"n".repeat(33)] {
            assert_eq!(bad.parse::<RouteLabel>().unwrap_err().label, bad);
        }
    }
}
