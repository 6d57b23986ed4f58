//! Route labels: advice to a load balancer on which node serves a session.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name a balancer knows a node by: 1 to 32 of `A-Z a-z 0-9 _ -`.
///
/// It is advice and never identity: a wrong one costs a detour and opens nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteLabel(Arc<str>);

impl RouteLabel {
    /// The label as text.
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

/// A route label has the wrong form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route label {label:?} is not 1 to 32 of the characters A-Z a-z 0-9 _ -")]
pub struct RouteLabelError {
    /// The label that was given.
    pub label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_short_plain_word() {
        assert_eq!("n1".parse::<RouteLabel>().unwrap().as_str(), "n1");
        for bad in ["", "n 1", "n.1", "n1;", "\u{e9}", &"n".repeat(33)] {
            assert_eq!(bad.parse::<RouteLabel>().unwrap_err().label, bad);
        }
    }
}
