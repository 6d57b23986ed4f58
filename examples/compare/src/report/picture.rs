//! A picture of a strategy: visitors, the balancer, the nodes with what they served, and the server.

use std::fmt::Write;

use crate::measures::Measured;
use crate::statistics::percent;
use crate::strategy::{Balance, Server, Strategy};

/// The picture, with the measured share of requests on each arrow.
pub(super) fn picture(one: &Measured) -> String {
    let Some(strategy) = Strategy::ALL.into_iter().find(|strategy| strategy.id() == one.id) else {
        return String::new();
    };
    let nodes = one.node_requests.len();
    let height = NODE_STEP * nodes as f64 + 14.0;
    let middle = height / 2.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 360 {height}\" role=\"img\" aria-label=\"{}: how requests flow\">\n",
        one.title
    );
    svg += &arrow((34.0, middle), (52.0, middle), "flow");
    svg += &format!("<circle class=\"box\" cx=\"20\" cy=\"{middle}\" r=\"12\"/>\n");
    svg += &text(20.0, middle + 3.5, "you");
    for n in 0..nodes {
        svg += &node(one, n, middle, strategy.server());
    }
    svg += &square(54.0, middle, 66.0, "HAProxy", rule(strategy.balance()));
    if strategy.is_replicated() {
        svg += &copies(nodes);
    }
    if let Some(server) = strategy.server() {
        let (name, role) = server_names(strategy, server);
        svg += &square(282.0, middle, 74.0, name, role);
    }
    svg + "</svg>\n"
}

/// A node, the arrow to it with its share of the requests, and the arrow to the server.
fn node(one: &Measured, n: usize, middle: f64, server: Option<Server>) -> String {
    let (y, total) = (node_height(n), one.node_requests.iter().sum());
    let share = percent(one.node_requests[n], total).unwrap_or(0.0);
    let mut svg = arrow((120.0, middle), (NODE_LEFT - 2.0, y), "flow");
    let beside = if y > middle + 1.0 { 12.0 } else { -5.0 };
    let label = (150.0, middle + (y - middle) * 0.5 + beside);
    svg += &text(label.0, label.1, &format!("{share:.0} %"));
    let sessions = one.node_sessions.as_ref().map(|sessions| format!("{} sessions", sessions[n]));
    svg += &square(NODE_LEFT, y, 68.0, &format!("n{}", n + 1), &sessions.unwrap_or_default());
    if server.is_some() {
        let kind = if one.node_sessions.is_some() { "copy" } else { "flow" };
        svg += &arrow((NODE_LEFT + 68.0, y), (280.0, middle), kind);
    }
    svg
}

/// Nodes that send each other copies.
fn copies(nodes: usize) -> String {
    let (x, mut svg) = (NODE_LEFT + 68.0, String::new());
    for n in 1..nodes {
        let (from, to) = (node_height(n - 1), node_height(n));
        let bend = x + 34.0;
        let _ = writeln!(
            svg,
            "<path class=\"copy\" d=\"M{x} {from} C{bend} {from} {bend} {to} {x} {to}\"/>"
        );
    }
    let (first, last) = (node_height(0), node_height(nodes - 1));
    if nodes > 2 {
        let bend = x + 78.0;
        let _ = writeln!(
            svg,
            "<path class=\"copy\" d=\"M{x} {first} C{bend} {first} {bend} {last} {x} {last}\"/>"
        );
    }
    svg + &text(x + 78.0, (first + last) / 2.0 + 3.0, "copies")
}

fn rule(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "in turn",
        Balance::Cookie => "by cookie",
        Balance::Address => "by address",
    }
}

fn server_names(strategy: Strategy, server: Server) -> (&'static str, &'static str) {
    let role = if strategy == Strategy::StickyBackup { "copies" } else { "all sessions" };
    match server {
        Server::Redis => ("Redis", role),
        Server::Postgres => ("PostgreSQL", role),
    }
}

fn square(x: f64, y: f64, width: f64, name: &str, below: &str) -> String {
    let (center, top) = (x + width / 2.0, y - 16.0);
    let mut svg = format!(
        "<rect class=\"box\" x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"32\" rx=\"4\"/>\n"
    );
    let is_alone = below.is_empty();
    svg += &text(center, if is_alone { y + 3.5 } else { y - 2.0 }, name);
    svg + &text(center, y + 10.0, below)
}

fn arrow(from: (f64, f64), to: (f64, f64), class: &str) -> String {
    let ((x1, y1), (x2, y2)) = (from, to);
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>\n")
}

fn text(x: f64, y: f64, words: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"middle\">{words}</text>\n")
}

fn node_height(n: usize) -> f64 {
    NODE_STEP * n as f64 + NODE_STEP / 2.0 + 7.0
}

const NODE_LEFT: f64 = 184.0;
const NODE_STEP: f64 = 44.0;

#[cfg(test)]
mod tests {
    use super::super::tests::measured;
    use super::*;

    #[test]
    fn arrows_carry_the_measured_shares() {
        let one = Measured {
            id: "sticky-backup".to_owned(),
            node_requests: vec![50, 30, 20],
            node_sessions: Some(vec![5, 3, 2]),
            ..measured("Sticky + backup", &[])
        };
        let svg = picture(&one);
        for words in ["50 %", "30 %", "20 %", "5 sessions", "by cookie", "Redis", "copies"] {
            assert!(svg.contains(&format!(">{words}<")), "{words}");
        }
    }

    #[test]
    fn replicated_nodes_are_linked_to_each_other() {
        let one = Measured {
            id: "replicated-one".to_owned(),
            node_requests: vec![1, 1, 1],
            ..measured("Replicated", &[])
        };
        assert_eq!(picture(&one).matches("<path class=\"copy\"").count(), 3);
    }
}
