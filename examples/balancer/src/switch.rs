//! A node as its operator sees it: it is to run or not, and it runs or not.

use tokio::sync::watch;

/// Connects a page, on which a node is stopped and started, with the supervisor of the node.
/// Clones are the same switch.
#[derive(Clone, Debug)]
pub struct Switch {
    is_wanted: watch::Sender<bool>,
    is_up: watch::Sender<bool>,
}

impl Switch {
    /// A node that runs, and is to run.
    pub(crate) fn on() -> Self {
        Self { is_wanted: watch::Sender::new(true), is_up: watch::Sender::new(true) }
    }

    /// Orders the node to run or to stop, and returns when its supervisor has done so.
    pub async fn turn(&self, on: bool) {
        self.is_wanted.send_replace(on);
        reaches(&self.is_up, on).await;
    }

    /// Returns when the node is to run or to stop. Its supervisor waits for this.
    pub async fn wanted(&self, on: bool) {
        reaches(&self.is_wanted, on).await;
    }

    /// Reports that the node runs or has stopped, on an order or without one. Its supervisor calls this.
    pub fn is_now(&self, on: bool) {
        self.is_wanted.send_replace(on);
        self.is_up.send_replace(on);
    }

    /// Returns true if the node runs.
    pub fn is_up(&self) -> bool {
        *self.is_up.borrow()
    }
}

async fn reaches(state: &watch::Sender<bool>, on: bool) {
    let reached = state.subscribe().wait_for(|now| *now == on).await.map(drop);
    reached.expect("the switch holds the sender");
}
