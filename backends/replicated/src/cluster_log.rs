//! Log lines about the cluster: one for each change.

use steadfast_replication::cluster::Suspected;
use steadfast_replication::figures::Members;
use steadfast_replication::member::{Boot, Name};
use steadfast_replication::membership::{Effect, End, Problem};

use crate::status::Status;

/// Logs what changed of how a node is.
pub(crate) fn status(node: &Name, before: &Status, after: &Status) {
    let node = node.as_str();
    if let Some(epoch) = after.epoch.filter(|epoch| before.epoch != Some(*epoch)) {
        let Members { joining, full, draining, aside, voters, .. } = after.members;
        tracing::info!(
            target: "steadfast", node, epoch = epoch.number, full, joining, draining, aside, voters,
            "the node entered another epoch"
        );
    }
    match &after.problem {
        Some(problem) if !is_known(problem, before.problem.as_ref()) => {
            tracing::warn!(target: "steadfast", node, %problem, "the node is not ready");
        }
        None if before.problem.is_some() => {
            tracing::info!(target: "steadfast", node, "the node is ready");
        }
        _ => {}
    }
    if after.is_crowded && !before.is_crowded {
        let nodes = after.members.full;
        tracing::warn!(target: "steadfast", node, nodes, "every write goes to every node: use backups");
    }
}

/// Returns true if a problem was logged already. The offset of a wrong clock changes all the time.
fn is_known(problem: &Problem, before: Option<&Problem>) -> bool {
    match (problem, before) {
        (Problem::Clock { .. }, Some(Problem::Clock { .. })) => true,
        _ => before == Some(problem),
    }
}

/// Logs that a node does not reach another one.
pub(crate) fn suspected(node: &Name, peer: Boot, why: Suspected) {
    let node = node.as_str();
    tracing::info!(target: "steadfast", node, ?peer, ?why, "the node suspects a peer");
}

/// Logs what the engine reports of the cluster.
pub(crate) fn effect(node: &Name, effect: &Effect) {
    let node = node.as_str();
    match effect {
        Effect::Refused(peer, why) => {
            tracing::warn!(target: "steadfast", node, ?peer, %why, "a node is not admitted");
        }
        Effect::Conflict(epoch) => {
            let other = epoch.number;
            tracing::error!(
                target: "steadfast", node, other,
                "met a service that was founded separately: end one of the two"
            );
        }
        Effect::Ended(End::Left) => {
            tracing::info!(target: "steadfast", node, "the node left the service");
        }
        Effect::Ended(_) => {
            tracing::error!(
                target: "steadfast", node,
                "another process took the place of this node: end this process"
            );
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_is_logged_once() {
        let clock = |millis| Problem::Clock { millis };
        assert!(is_known(&clock(61_002), Some(&clock(61_001))));
        assert!(!is_known(&clock(61_002), None));
        assert!(!is_known(&clock(61_002), Some(&Problem::Joining)));
        assert!(!is_known(&Problem::Joining, Some(&clock(1))));
    }
}
