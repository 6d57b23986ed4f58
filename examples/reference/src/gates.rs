//! Gates: they hold requests until a test lets them go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Gates by their names. One that was released stays open for those who come later.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<String, watch::Sender<bool>>>);

impl Gates {
    /// Waits until the gate is released, at most for [`LONGEST_WAIT`].
    pub(crate) async fn wait(&self, name: &str) {
        let mut gate = self.with(name, watch::Sender::subscribe);
        let _ = tokio::time::timeout(LONGEST_WAIT, gate.wait_for(|is_open| *is_open)).await;
    }

    pub(crate) fn release(&self, name: &str) {
        self.with(name, |gate| gate.send_replace(true));
    }

    /// The number of requests that wait at each gate.
    pub(crate) fn waiting(&self) -> BTreeMap<String, usize> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().map(|(name, gate)| (name.clone(), gate.receiver_count())).collect()
    }

    fn with<T>(&self, name: &str, act: impl FnOnce(&watch::Sender<bool>) -> T) -> T {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        act(gates.entry(name.to_owned()).or_default())
    }
}

/// The limit keeps a test that forgets a gate from hanging for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
