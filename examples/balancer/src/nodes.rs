//! The nodes of a service, as the balancer describes them to the page that a node renders.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// A node of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// Its label.
    pub label: String,
    /// True if it runs.
    pub is_up: bool,
}

/// The nodes that a request's balancer has; none if it came through no balancer.
pub fn nodes(headers: &HeaderMap) -> Vec<NodeState> {
    let text = headers.get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let states = text.split(' ').filter_map(|word| word.split_once('='));
    states.map(|(label, state)| NodeState { label: label.to_owned(), is_up: state == UP }).collect()
}

/// Replaces what a client says about nodes.
pub(crate) fn describe<'n>(headers: &mut HeaderMap, nodes: impl Iterator<Item = (&'n str, bool)>) {
    let state = |(label, is_up)| format!("{label}={}", if is_up { UP } else { DOWN });
    let text = nodes.map(state).collect::<Vec<_>>().join(" ");
    headers.insert(HEADER, HeaderValue::from_str(&text).expect("labels are plain text"));
}

const HEADER: HeaderName = HeaderName::from_static("x-nodes");
const UP: &str = "up";
const DOWN: &str = "down";
