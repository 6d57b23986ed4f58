//! Calls that wait for their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{CallId, World};
use crate::engine::Request;

/// Calls of one kind of client, with what the client knows of each.
pub(super) struct Calls<C> {
    waiting: BTreeMap<CallId, (C, Duration)>,
    pub(super) made: u64,
}

impl<C> Default for Calls<C> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), made: 0 }
    }
}

impl<C> Calls<C> {
    /// Makes a call; gives back what it is, where the node takes none.
    pub(super) fn put(
        &mut self,
        world: &mut World,
        node: usize,
        call: C,
        request: Request,
        within: Duration,
    ) -> Option<C> {
        self.made += 1;
        match world.call(node, request, within) {
            Some(id) => drop(self.waiting.insert(id, (call, world.time + within))),
            None => return Some(call),
        }
        None
    }

    pub(super) fn answered(&mut self, id: CallId) -> Option<C> {
        self.waiting.remove(&id).map(|(call, _)| call)
    }

    /// Takes those whose node is gone: nobody knows what became of them.
    pub(super) fn lost(&mut self, world: &World) -> Vec<C> {
        let lost: Vec<_> = self.waiting.keys().filter(|id| !world.runs(**id)).copied().collect();
        lost.into_iter().filter_map(|id| self.answered(id)).collect()
    }

    /// Complains about a call that should have an answer, a beat and a half after its deadline or after
    /// its node slept.
    pub(super) fn keep_deadlines(&self, world: &World) -> Result<(), String> {
        let is_late = |id: &CallId, deadline: Duration| {
            deadline.max(world.nodes[id.node].paused_until) + BEAT_AND_A_HALF < world.time
        };
        match self.waiting.iter().find(|(id, (_, deadline))| is_late(id, *deadline)) {
            Some((id, _)) => Err(format!("invariant 8: {id:?} outlives its deadline")),
            None => Ok(()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

const BEAT_AND_A_HALF: Duration = Duration::from_millis(38);
